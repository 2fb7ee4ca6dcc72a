/**
 * One timer for any number of moments: it rings at the earliest of them.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { currentMicros, sleepUntil } from "./time.ts"

/** Time passes as for that fiber; nothing else of it matters to the others that wait for the same alarm. */
const timeOf = (fiber: Fiber.Fiber<unknown, unknown>): Context.Context<never> =>
  Context.make(Clock.Clock, fiber.getRef(Clock.Clock)).pipe(
    Context.add(Scheduler.Scheduler, fiber.getRef(Scheduler.Scheduler))
  )

export class Alarm {
  /** Told the time, gives the next moment to ring at; infinity: none. */
  private readonly ring: (now: number) => number
  private moment = Number.POSITIVE_INFINITY
  private sleeper: Fiber.Fiber<number> | undefined

  constructor(ring: (now: number) => number) {
    this.ring = ring
  }

  /** Rings at this moment of the monotonic clock, as the fiber knows it, or before. */
  set(moment: number, fiber: Fiber.Fiber<unknown, unknown>): void {
    if (moment < this.moment) this.sleep(moment, timeOf(fiber))
  }

  /** No fiber and no timer is left. */
  clear(): void {
    this.sleeper?.interruptUnsafe()
    this.sleeper = undefined
    this.moment = Number.POSITIVE_INFINITY
  }

  private sleep(moment: number, time: Context.Context<never>): void {
    this.clear()
    this.moment = moment
    this.sleeper = Effect.runForkWith(time)(Effect.andThen(sleepUntil(moment), currentMicros))
    this.sleeper.addObserver((exit) => {
      if (Exit.isFailure(exit)) return
      this.moment = Number.POSITIVE_INFINITY
      const next = this.ring(exit.value)
      if (next < this.moment) this.sleep(next, time)
    })
  }
}
