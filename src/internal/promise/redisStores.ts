/**
 * The stores of limiters for plain promises over Redis. It is this module that loads ioredis.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Cluster, Redis } from "ioredis"
import type { InvalidOptions } from "../../Errors.ts"
import type { IoredisClient } from "../../promise.ts"
import { RedisClient } from "../../RedisClient.ts"
import { BucketWaiters } from "../bucketWaiters.ts"
import { redisBuckets, redisSemaphores } from "../redisBackends.ts"
import type { Stores } from "./backend.ts"

/** Connects as soon as it is used, until the scope closes. */
export const openStores = (
  redis: string | IoredisClient,
  keyPrefix: string
): Effect.Effect<Stores, InvalidOptions, Scope.Scope> =>
  Effect.gen(function* () {
    const layer =
      typeof redis === "string"
        ? RedisClient.layer({ url: redis, keyPrefix })
        : // The public type says no more than what tells a client of ioredis from others.
          RedisClient.fromClient(redis as Redis | Cluster, { keyPrefix })
    const client = yield* Layer.buildWithScope(layer, yield* Scope.Scope)
    const buckets = yield* Effect.provideContext(redisBuckets(), client)
    const semaphores = yield* Effect.provideContext(redisSemaphores(), client)
    const waiters = new BucketWaiters()
    return {
      bucket: (config) => buckets.store(config, waiters),
      waiters,
      semaphore: (config) => semaphores.store(config)
    }
  })
