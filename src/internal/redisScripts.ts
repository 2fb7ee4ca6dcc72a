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

const phrases = (line: string): ReadonlyArray<string> => (line === "" ? [] : line.split(","))

const entries = (list: string): ReadonlyArray<ReadonlyArray<string | number>> =>
  list === ""
    ? []
    : list.split(";").map((entry) => {
        const [id = "", ...numbers] = entry.split(":")
        return [id, ...numbers.map(Number)]
      })

const readResult = (phrase: string): SemaphoreResult => {
  const [answer = "", ...words] = phrase.split(" ")
  if (answer !== "look") return [answer, ...words.map(Number)]
  const [holders = "", waiters = ""] = words.splice(3)
  return [answer, ...words.map(Number), entries(holders), entries(waiters)]
}

export const semaphoreScript: RedisScript<SemaphoreReply> = makeRedisScript({
  name: "semaphore",
  source: semaphoreSource,
  decode: (reply) => {
    const [times = "", notices = "", results = ""] = String(reply).split("\n")
    const [time = 0, next = 0] = times.split(" ").map(Number)
    return [time, next, phrases(notices), phrases(results).map(readResult)]
  }
})
