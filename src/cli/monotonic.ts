/**
 * The clock that only goes forward: for counting how long something took.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export const monotonicSeconds: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos) / 1e9
)
