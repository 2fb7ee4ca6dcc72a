/**
 * Time that passes by itself.
 */
import { type Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"

/** Lets the test clock run, in steps, until an effect is done. */
export const driven = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  step: Duration.Input = "1 millis"
): Effect.Effect<A, E, R> =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(step)
    return yield* Fiber.join(fiber)
  })
