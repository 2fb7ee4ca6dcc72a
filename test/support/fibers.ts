/**
 * Fibers that have come as far as they can by the time that a test has them.
 */
import { Effect, type Fiber } from "effect"

export const start = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Fiber.Fiber<A, E>, never, R> =>
  Effect.forkChild(effect, { startImmediately: true })

/** Starts them one after the other, as far as their order of arrival goes. */
export const inOrder = <A, E, R>(
  effects: ReadonlyArray<Effect.Effect<A, E, R>>
): Effect.Effect<Array<Fiber.Fiber<A, E>>, never, R> => Effect.forEach(effects, start)
