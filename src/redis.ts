/**
 * Limiters whose state is in Redis, shared by every process that uses it. Needs `ioredis`.
 */
export {
  RedisClient,
  type RedisClientConfig,
  type RedisClientOptions,
  type RedisClientSettings,
  type RedisSubscription
} from "./RedisClient.ts"
export {
  type RedisLayerOptions,
  RedisLive,
  RedisSemaphoreLive,
  RedisTokenBucketLive,
  redisLayer,
  redisSemaphoreLayer,
  redisTokenBucketLayer
} from "./RedisLive.ts"
export { makeRedisScript, type RedisScript } from "./RedisScript.ts"
