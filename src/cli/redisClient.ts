/**
 * The connection that limiters share, to the Redis of the command line.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as EffectRedis from "effect/persistence/Redis"
import { RedisClient } from "../RedisClient.ts"
import { misuse, type Problem } from "./problem.ts"
import type { RedisAddress } from "./redisAddress.ts"

export const redisClient = (
  { urls, isCluster }: RedisAddress,
  keyPrefix: string
): Layer.Layer<RedisClient | EffectRedis.Redis, Problem> => {
  const layer = isCluster
    ? RedisClient.layer({ nodes: urls, keyPrefix })
    : RedisClient.layer({ url: urls[0], keyPrefix })
  return Layer.catchTag(layer, "InvalidOptions", ({ field, rule }) =>
    Layer.effectContext(Effect.fail(misuse(`--${field === "keyPrefix" ? "prefix" : "redis"} must be ${rule}`)))
  )
}
