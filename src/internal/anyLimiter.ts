/**
 * Limiters of which it doesn't matter what kind they are.
 */
import * as Effect from "effect/Effect"
import type { InvalidOptions } from "../Errors.ts"
import type { AnyJointLimiter, AnyKeyedLimiter, AnyLimiter, Limiter, LimiterError } from "../Limiter.ts"

/** A limiter that needs no key. */
export type SingleLimiter = AnyLimiter | AnyJointLimiter

const isKeyed = (limiter: SingleLimiter | AnyKeyedLimiter): limiter is AnyKeyedLimiter => "forKey" in limiter

/** The limiter itself or, if it is one by key, that of the key. */
export const limiterFor = <L extends SingleLimiter = AnyLimiter>(
  limiter: L | AnyKeyedLimiter,
  key: () => string
): Effect.Effect<L | AnyLimiter, InvalidOptions> =>
  isKeyed(limiter)
    ? Effect.suspend((): Effect.Effect<AnyLimiter, InvalidOptions> => limiter.forKey(key()))
    : Effect.succeed(limiter)

/** `withPermits(n)`, or `withPermit` if nobody says how many. */
export const guarding = <L extends SingleLimiter>(limiter: L, n: number | undefined) => {
  const { withPermit, withPermits }: Limiter<LimiterError<L>> = limiter as never
  return <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E | LimiterError<L> | InvalidOptions, R> =>
    n === undefined ? withPermit(work) : withPermits(n)(work)
}
