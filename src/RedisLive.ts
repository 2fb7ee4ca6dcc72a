/**
 * Limiters whose state is in Redis: one for all processes that use the same name.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { semaphores, tokenBuckets } from "./internal/backends.ts"
import { RedisBuckets } from "./internal/redisBuckets.ts"
import { RedisSemaphores } from "./internal/redisSemaphores.ts"
import { RedisClient } from "./RedisClient.ts"
import { Semaphore } from "./Semaphore.ts"
import { TokenBucket } from "./TokenBucket.ts"

/** A backend that closes with its layer, under a name that no other process has. */
const backend = <A extends { readonly close: Effect.Effect<void> }>(
  make: (
    client: RedisClient["Service"],
    process: string,
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) => A
): Effect.Effect<A, never, RedisClient | Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* RedisClient
    const clock = yield* Clock.Clock
    const words = yield* Effect.all(Array.from({ length: 3 }, () => Random.nextIntBetween(0, 2 ** 32)))
    const process = words.map((word) => word.toString(36)).join("")
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    return yield* Effect.acquireRelease(
      Effect.sync(() => make(client, process, clock, (effect) => fork(effect))),
      ({ close }) => close
    )
  })

/**
 * Token buckets in Redis, decided there by one script on the server's own clock. Requests of one process that come at
 * the same time share a round trip.
 */
export const RedisTokenBucketLive: Layer.Layer<TokenBucket, never, RedisClient> = Layer.effect(
  TokenBucket,
  Effect.map(
    backend((...around) => new RedisBuckets(...around)),
    (buckets) => tokenBuckets((config) => buckets.store(config))
  )
)

/**
 * Semaphores in Redis: a lease for each holder, renewed while it lives; strict order of arrival over all processes;
 * and a message to whoever is next.
 */
export const RedisSemaphoreLive: Layer.Layer<Semaphore, never, RedisClient> = Layer.effect(
  Semaphore,
  Effect.map(
    backend((...around) => new RedisSemaphores(...around)),
    (kept) => semaphores((config) => kept.store(config))
  )
)

/**
 * Both kinds of limiter in Redis.
 */
export const RedisLive: Layer.Layer<TokenBucket | Semaphore, never, RedisClient> = Layer.merge(
  RedisTokenBucketLive,
  RedisSemaphoreLive
)
