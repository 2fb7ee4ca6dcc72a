/**
 * Steindamm regulates traffic: token buckets limit work by time, semaphores by concurrency, in one process or across
 * thousands of them.
 */
export {
  BackendError,
  type BackendErrorReason,
  InvalidOptions,
  type LimiterKind,
  MaxSleepExceeded,
  NoTokensAvailable,
  PermitLost
} from "./Errors.ts"
export type { FromConfig, LimiterServiceClass, LimiterServiceFactory } from "./internal/limiterService.ts"
export {
  type AnyJointLimiter,
  type AnyKeyedLimiter,
  type AnyLimiter,
  type JointError,
  type JointHeld,
  type JointLimiter,
  type JointMember,
  type JointPermit,
  type JointState,
  type KeyedLimiter,
  Limiter,
  type LimiterError,
  type Permit
} from "./Limiter.ts"
export { LocalLive, LocalSemaphoreLive, LocalTokenBucketLive } from "./Local.ts"
export { Observation, type ObservationOptions } from "./Observation.ts"
export { type RetryAfterOptions, retryAfter } from "./RetryAfter.ts"
export {
  type Holder,
  type KeyedSemaphoreLimiter,
  Semaphore,
  type SemaphoreError,
  type SemaphoreLimiter,
  type SemaphoreOptions,
  type SemaphorePermit,
  type SemaphoreState
} from "./Semaphore.ts"
export { type MapWithPermitOptions, mapWithPermit, throttle } from "./Throttle.ts"
export {
  type KeyedTokenBucketLimiter,
  type Reservation,
  TokenBucket,
  type TokenBucketError,
  type TokenBucketLimiter,
  type TokenBucketOptions,
  type TokenBucketPermit,
  type TokenBucketState
} from "./TokenBucket.ts"
export type { AwayState, WhenAway } from "./WhenAway.ts"
