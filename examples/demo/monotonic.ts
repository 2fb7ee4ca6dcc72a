/**
 * The clock that only goes forward: for counting how long something took.
 */
import { Clock, Effect } from "effect"

export const monotonicSeconds: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos) / 1e9
)
