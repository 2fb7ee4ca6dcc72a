/**
 * What a limiter lets other modules of this package see of itself, so that several can be combined into one.
 */
import type { AnyLimiter } from "../Limiter.ts"
import type { BucketMember } from "./bucketLimiter.ts"
import type { SemaphoreMember } from "./semaphoreLimiter.ts"

export type Member = BucketMember | SemaphoreMember

/** Where a limiter keeps it. */
export const member: unique symbol = Symbol("steindamm/member")

/** Undefined for a limiter that no layer has made. */
export const memberOf = (limiter: AnyLimiter): Member | undefined =>
  (limiter as AnyLimiter & { readonly [member]?: Member })[member]
