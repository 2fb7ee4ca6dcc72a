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
export type { Limiter, Permit } from "./Limiter.ts"
export { LocalLive, LocalSemaphoreLive, LocalTokenBucketLive } from "./Local.ts"
export {
  type Holder,
  Semaphore,
  type SemaphoreError,
  type SemaphoreLimiter,
  type SemaphoreOptions,
  type SemaphorePermit,
  type SemaphoreServiceFactory,
  type SemaphoreState
} from "./Semaphore.ts"
export {
  type Reservation,
  TokenBucket,
  type TokenBucketError,
  type TokenBucketLimiter,
  type TokenBucketOptions,
  type TokenBucketPermit,
  type TokenBucketServiceFactory,
  type TokenBucketState
} from "./TokenBucket.ts"
