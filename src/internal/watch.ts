/**
 * Something that has to be looked at when certain moments come, by one fiber for all of them.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { monotonicMicros, sleepUntil } from "./time.ts"

/** It looks at least every 100 ms, so as to notice soon that there is nothing to look after any more. */
const longestSleep = 100_000

/**
 * Calls `look` when the earliest moment that it was told of has come. `look` gives the next one, infinity if it knows
 * of none yet, and undefined when nothing has to be watched: then no fiber and no timer is left.
 */
export class Watch {
  private readonly clock: Clock.Clock
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly look: (now: number) => number | undefined
  private fiber: Fiber.Fiber<void> | undefined
  private wakes = 0

  constructor(
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    look: (now: number) => number | undefined
  ) {
    this.clock = clock
    this.fork = fork
    this.look = look
  }

  /** Sees to it that it looks at this moment of the monotonic clock. */
  at(moment: number): void {
    if (this.fiber !== undefined && moment >= this.wakes) return
    this.stop()
    this.wakes = Math.min(moment, monotonicMicros(this.clock) + longestSleep)
    this.fiber = this.fork(this.run)
  }

  stop(): void {
    this.fiber?.interruptUnsafe()
    this.fiber = undefined
  }

  private readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(sleepUntil(this.wakes), () => {
      const now = monotonicMicros(this.clock)
      this.wakes = Number.NEGATIVE_INFINITY
      const next = this.look(now)
      if (next === undefined) {
        this.fiber = undefined
        return Effect.void
      }
      this.wakes = Math.min(next, now + longestSleep)
      return this.run
    })
  )
}
