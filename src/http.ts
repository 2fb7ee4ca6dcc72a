/**
 * Limiters where HTTP goes in and out, for Effect's `effect/http`.
 */
export { type LimitRequestsOptions, limitRequests } from "./LimitRequests.ts"
export { keyByAddress, keyByHeader, type RateLimitOptions, rateLimit } from "./RateLimit.ts"
