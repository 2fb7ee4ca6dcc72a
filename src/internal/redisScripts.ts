/**
 * The scripts of `lua/` as typed values.
 */
import { makeRedisScript, type RedisScript } from "../RedisScript.ts"
import {
  presenceScript as presenceSource,
  semaphoreScript as semaphoreSource,
  tokenBucketScript as tokenBucketSource
} from "./scripts.ts"

export const presenceScript: RedisScript<unknown> = makeRedisScript({
  name: "presence",
  source: presenceSource,
  decode: (reply) => reply
})

/** The reply of `lua/token-bucket.lua`, to be read from front to back. */
export class TokenBucketReply {
  private readonly bytes: Buffer
  private readonly view: DataView
  private at = 0

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  readonly number = (): number => {
    const value = this.view.getFloat64(this.at, true)
    this.at += 8
    return value
  }

  text(length: number): string {
    const start = this.at
    this.at += length
    return this.bytes.toString("utf8", start, this.at)
  }
}

export const tokenBucketScript: RedisScript<TokenBucketReply> = makeRedisScript({
  name: "token-bucket",
  source: tokenBucketSource,
  isBinary: true,
  decode: (reply) => new TokenBucketReply(reply as Buffer)
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
