/**
 * Limiters whose state is in Redis: one for all processes that use the same name.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { semaphores, tokenBuckets } from "./internal/backends.ts"
import { observed } from "./internal/observer.ts"
import { redisBuckets, redisSemaphores } from "./internal/redisBackends.ts"
import type { RedisClient } from "./RedisClient.ts"
import { Semaphore } from "./Semaphore.ts"
import { TokenBucket } from "./TokenBucket.ts"

/**
 * Token buckets in Redis, decided there by one script on the server's own clock. Requests of one process that come at
 * the same time share a round trip.
 */
export const RedisTokenBucketLive: Layer.Layer<TokenBucket, never, RedisClient> = Layer.effect(
  TokenBucket,
  Effect.flatMap(redisBuckets, (buckets) => {
    const make = () => tokenBuckets((config) => buckets.store(config))
    return observed(make, (observer) => observer.tokenBuckets(make(), "redis"))
  })
)

/**
 * Semaphores in Redis: a lease for each holder, renewed while it lives; strict order of arrival over all processes;
 * and a message to whoever is next.
 */
export const RedisSemaphoreLive: Layer.Layer<Semaphore, never, RedisClient> = Layer.effect(
  Semaphore,
  Effect.flatMap(redisSemaphores, (kept) => {
    const make = (onLost?: (name: string) => void) => semaphores((config) => kept.store(config), onLost)
    return observed(make, (observer) => observer.semaphores(make, "redis"))
  })
)

/**
 * Both kinds of limiter in Redis.
 */
export const RedisLive: Layer.Layer<TokenBucket | Semaphore, never, RedisClient> = Layer.merge(
  RedisTokenBucketLive,
  RedisSemaphoreLive
)
