/**
 * The scripts of `lua/` as typed values.
 */
import { makeRedisScript, type RedisScript } from "../RedisScript.ts"
import { semaphoreScript as semaphoreSource, tokenBucketScript as tokenBucketSource } from "./scripts.ts"

/** Numbers, and where a bucket could not be read the error that its key answered with. */
export type TokenBucketReply = ReadonlyArray<number | string>

export const tokenBucketScript: RedisScript<TokenBucketReply> = makeRedisScript({
  name: "token-bucket",
  source: tokenBucketSource,
  decode: (reply) => reply as TokenBucketReply
})

/** What an operation came to, and its values. */
export type SemaphoreResult = readonly [answer: string, ...values: ReadonlyArray<unknown>]

export type SemaphoreReply = readonly [
  time: number,
  next: number,
  notices: ReadonlyArray<string>,
  results: ReadonlyArray<SemaphoreResult>
]

export const semaphoreScript: RedisScript<SemaphoreReply> = makeRedisScript({
  name: "semaphore",
  source: semaphoreSource,
  decode: (reply) => reply as SemaphoreReply
})
