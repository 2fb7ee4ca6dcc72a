/**
 * Waiting and counting in microseconds on the clock that only goes forward.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { maxSpan } from "./bucket.ts"

/** Monotonic microseconds: for elapsed time and deadlines within a process. */
export const monotonicMicros = (clock: Clock.Clock): number =>
  Math.floor(Number(clock.monotonicTimeNanosUnsafe()) / 1000)

/** `monotonicMicros` as a fiber knows it. */
export const fiberMicros = (fiber: Fiber.Fiber<unknown, unknown>): number => monotonicMicros(fiber.getRef(Clock.Clock))

/** `monotonicMicros` as an effect. */
export const currentMicros: Effect.Effect<number> = Effect.clockWith((clock) => Effect.succeed(monotonicMicros(clock)))

/** The clock of the fiber that runs this. */
export const currentClock = (): Clock.Clock => (Fiber.getCurrent() as Fiber.Fiber<unknown>).getRef(Clock.Clock)

/** How long there is still to wait until a moment; 0 if it is over, and `maxSpan` at most. */
export const until = (moment: number): Effect.Effect<number> =>
  Effect.map(currentMicros, (now) => Math.min(maxSpan, Math.max(0, moment - now)))

/** Sleeps until a moment of the monotonic clock, never less. */
export const sleepUntil = (moment: number): Effect.Effect<void> =>
  Effect.clockWith((clock) => {
    const left = moment - monotonicMicros(clock)
    // Timers count whole milliseconds and may fire a little early.
    return left > 0
      ? Effect.flatMap(clock.sleep(Duration.millis(Math.ceil(left / 1000))), () => sleepUntil(moment))
      : Effect.void
  })
