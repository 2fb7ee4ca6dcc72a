/**
 * Limiters whose state is in Redis: one for all processes that use the same name.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidOptions } from "./Errors.ts"
import { semaphores, tokenBuckets } from "./internal/backends.ts"
import { observed } from "./internal/observer.ts"
import { type RedisLayerConfig, redisLayerConfig } from "./internal/options.ts"
import { redisBuckets, redisSemaphores } from "./internal/redisBackends.ts"
import type { RedisClient } from "./RedisClient.ts"
import { Semaphore } from "./Semaphore.ts"
import { TokenBucket } from "./TokenBucket.ts"
import type { WhenAway } from "./WhenAway.ts"

/**
 * What a Redis layer is told about a Redis that is away.
 */
export interface RedisLayerOptions {
  /** For limiters that don't say it themselves. Default: `"fail"`. */
  readonly whenAway?: WhenAway | undefined
  /**
   * How long a call may go without an answer before Redis counts as away, whether it is dead, slow or busy with something
   * else. A request whose `maxSleep` is shorter doesn't wait that long. Default: 500 milliseconds.
   */
  readonly awayAfter?: Duration.Input | undefined
}

const makeTokenBuckets = (config?: RedisLayerConfig) =>
  Effect.flatMap(redisBuckets(config), (buckets) => {
    const make = (onDisagreed?: (name: string) => void) =>
      tokenBuckets((config, waiters) => buckets.store(config, waiters), onDisagreed)
    return observed(make, (observer) => observer.tokenBuckets(make, "redis"))
  })

const makeSemaphores = (config?: RedisLayerConfig) =>
  Effect.flatMap(redisSemaphores(config), (kept) => {
    const make = (onLost?: (name: string) => void) => semaphores((config) => kept.store(config), onLost)
    return observed(make, (observer) => observer.semaphores(make, "redis"))
  })

const checked = (options: RedisLayerOptions): Effect.Effect<RedisLayerConfig, InvalidOptions> =>
  Effect.fromResult(redisLayerConfig(options))

/**
 * Token buckets in Redis, decided there by one script on the server's own clock. Requests of one process that come at
 * the same time share a round trip.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { TokenBucket } from "steindamm"
 * import { RedisClient, RedisTokenBucketLive } from "steindamm/redis"
 *
 * const live = RedisTokenBucketLive.pipe(Layer.provide(RedisClient.layerConfig()))
 *
 * const program = TokenBucket.make({ name: "mail", capacity: 10 }).pipe(
 *   Effect.flatMap((limiter) => limiter.withPermit(Effect.succeed("sent")))
 * )
 *
 * Effect.runPromise(program.pipe(Effect.provide(live))).then(console.log)
 * ```
 */
export const RedisTokenBucketLive: Layer.Layer<TokenBucket, never, RedisClient> = Layer.effect(
  TokenBucket,
  makeTokenBuckets()
)

/**
 * Semaphores in Redis: a lease for each holder, renewed while it lives; strict order of arrival over all processes;
 * and a message to whoever is next.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Semaphore } from "steindamm"
 * import { RedisClient, RedisSemaphoreLive } from "steindamm/redis"
 *
 * const live = RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layerConfig()))
 *
 * const program = Semaphore.make({ name: "disk", capacity: 10 }).pipe(
 *   Effect.flatMap((limiter) => limiter.withPermit(Effect.succeed("written")))
 * )
 *
 * Effect.runPromise(program.pipe(Effect.provide(live))).then(console.log)
 * ```
 */
export const RedisSemaphoreLive: Layer.Layer<Semaphore, never, RedisClient> = Layer.effect(Semaphore, makeSemaphores())

/**
 * Both kinds of limiter in Redis.
 */
export const RedisLive: Layer.Layer<TokenBucket | Semaphore, never, RedisClient> = Layer.merge(
  RedisTokenBucketLive,
  RedisSemaphoreLive
)

/**
 * As `RedisTokenBucketLive`, for limiters that are to go on when Redis is away. Fails with `InvalidOptions` naming field,
 * value and rule.
 */
export const redisTokenBucketLayer = (
  options: RedisLayerOptions
): Layer.Layer<TokenBucket, InvalidOptions, RedisClient> =>
  Layer.effect(TokenBucket, Effect.flatMap(checked(options), makeTokenBuckets))

/**
 * As `RedisSemaphoreLive`, for limiters that are to go on when Redis is away. Fails with `InvalidOptions` naming field,
 * value and rule.
 */
export const redisSemaphoreLayer = (options: RedisLayerOptions): Layer.Layer<Semaphore, InvalidOptions, RedisClient> =>
  Layer.effect(Semaphore, Effect.flatMap(checked(options), makeSemaphores))

/**
 * As `RedisLive`, for limiters that are to go on when Redis is away. Fails with `InvalidOptions` naming field, value and
 * rule.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Semaphore, TokenBucket } from "steindamm"
 * import { RedisClient, redisLayer } from "steindamm/redis"
 *
 * const live = redisLayer({ whenAway: "allow", awayAfter: "200 millis" }).pipe(Layer.provide(RedisClient.layerConfig()))
 *
 * const program = Effect.gen(function* () {
 *   const search = yield* TokenBucket.make({ name: "search", capacity: 100 })
 *   const database = yield* Semaphore.make({ name: "database", capacity: 20, whenAway: { local: 1 / 4 } })
 *   const mail = yield* TokenBucket.make({ name: "mail", capacity: 10, whenAway: "fail" })
 *   return yield* search.withPermit(database.withPermit(mail.withPermit(Effect.succeed("found, stored and sent"))))
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(live))).then(console.log)
 * ```
 */
export const redisLayer = (
  options: RedisLayerOptions
): Layer.Layer<TokenBucket | Semaphore, InvalidOptions, RedisClient> =>
  Layer.merge(redisTokenBucketLayer(options), redisSemaphoreLayer(options))
