/**
 * Limiters whose state is in the Redis of the command line. Loads ioredis.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { RedisLive } from "../RedisLive.ts"
import type { Semaphore } from "../Semaphore.ts"
import type { TokenBucket } from "../TokenBucket.ts"
import type { Problem } from "./problem.ts"
import type { RedisAddress } from "./redisAddress.ts"
import { redisClient } from "./redisClient.ts"
import { recognized } from "./redisPrimaries.ts"

export const redisBackend = (wanted: RedisAddress, keyPrefix: string): Layer.Layer<TokenBucket | Semaphore, Problem> =>
  Layer.unwrap(
    Effect.map(recognized(wanted), (address) => RedisLive.pipe(Layer.provide(redisClient(address, keyPrefix))))
  )
