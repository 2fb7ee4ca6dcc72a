/**
 * How a limiter is watched, for what combines several of them: it asks none of their verbs, and is to be watched itself.
 */
import type { AnyLimiter, JointLimiter, JointMember } from "../Limiter.ts"
import type { Watch } from "./observedRequest.ts"

type Joint = JointLimiter<ReadonlyArray<JointMember>>

/** A limiter's part in several. */
export interface JointPart {
  readonly limiter: AnyLimiter
  /** As many as `withPermit` takes of it. Undefined: as its own does. */
  readonly permits: number | undefined
}

export interface Watched {
  readonly watch: Watch
  /** What its `withPermit` takes. */
  readonly usual: number
  readonly observeJoint: (joint: Joint, parts: ReadonlyArray<JointPart>) => Joint
}

/** Where a limiter keeps it. */
export const watched: unique symbol = Symbol("steindamm/watched")

/** Undefined for a limiter that nobody watches. */
export const watchedOf = (limiter: AnyLimiter): Watched | undefined =>
  (limiter as AnyLimiter & { readonly [watched]?: Watched })[watched]
