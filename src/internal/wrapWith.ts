/**
 * Functions whose calls go through a limiter.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { functionArgument } from "./options.ts"

/** Throws `InvalidOptions` if it is given no function. */
export const wrapWith =
  <F>(name: string, withPermit: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | F, R>) =>
  <Args extends ReadonlyArray<unknown>, A, E, R>(
    f: (...args: Args) => Effect.Effect<A, E, R>
  ): ((...args: Args) => Effect.Effect<A, E | F, R>) => {
    Result.getOrThrow(functionArgument(name, "f", f))
    return (...args) => withPermit(Effect.suspend(() => f(...args)))
  }
