/**
 * What a limiter's state says of an absence of Redis, in milliseconds.
 */
import * as Duration from "effect/Duration"
import type { AwayState } from "../../promise.ts"
import type * as Effectful from "../../WhenAway.ts"

export const awayInMillis = (away: Effectful.AwayState | undefined): { readonly away?: AwayState } =>
  away === undefined ? {} : { away: { ...away, duration: Duration.toMillis(away.duration) } }
