/**
 * Limiters that tell what they do, around those that do it.
 */
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import type { SemaphoreLimiter } from "../Semaphore.ts"
import type { TokenBucketLimiter } from "../TokenBucket.ts"
import { observeJoint } from "./observedJoint.ts"
import { observeRequest, type Watch } from "./observedRequest.ts"
import { observedVerbs } from "./observedVerbs.ts"
import { type Watched, watched } from "./watchedLimiter.ts"

export const observedTokenBucket = (limiter: TokenBucketLimiter, watch: Watch, usual = 1): TokenBucketLimiter => {
  const its: Watched = { watch, usual, observeJoint }
  const observed = {
    ...limiter,
    ...observedVerbs(limiter, watch, usual),
    reserve: (n?: number) =>
      observeRequest(
        watch,
        n ?? usual,
        () => limiter.reserve(n),
        (request, exit) => {
          if (Exit.isSuccess(exit)) request.granted(Duration.toSeconds(exit.value.delay))
          else request.ended(exit)
          return undefined
        }
      ),
    [watched]: its
  }
  return observed
}

export const observedSemaphore = (limiter: SemaphoreLimiter, watch: Watch): SemaphoreLimiter => {
  const its: Watched = { watch, usual: 1, observeJoint }
  const observed = { ...limiter, ...observedVerbs(limiter, watch, 1), [watched]: its }
  return observed
}
