/**
 * Very many keys, each used once: how much memory they take, and how much of it once nobody uses them any more.
 */
import { Effect } from "effect"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { RateLimiterMemory } from "rate-limiter-flexible"
import { Semaphore, TokenBucket } from "steindamm"
import { heapUsed, reportBytes } from "../harness.ts"

/** Seconds that a key is remembered: longer than it takes to use all of them. */
const window = 10

type UseKey = (key: string) => Effect.Effect<unknown, unknown>

const measure = (label: string, use: UseKey, count: number) =>
  Effect.gen(function* () {
    yield* use("warmed up")
    const before = yield* heapUsed
    for (let i = 0; i < count; i++) yield* use(`user ${i}`)
    const used = (yield* heapUsed) - before
    yield* Effect.sleep((window + 1) * 1000)
    // What drops idle keys while others are used gets the chance.
    for (let i = 0; i < count / 2; i++) yield* use("another")
    const idle = (yield* heapUsed) - before
    return [label, Math.max(0, used / count), Math.max(0, idle / count)] as const
  })

export const keys = (count: number) =>
  Effect.gen(function* () {
    const bucket = yield* TokenBucket.makeKeyed({
      name: "keys",
      capacity: count,
      refillAmount: count,
      refillFrequency: window * 1000
    })
    const semaphore = yield* Semaphore.makeKeyed({ name: "keys" })
    const rateLimiter = yield* RateLimiter.RateLimiter
    const consume: UseKey = (key) =>
      rateLimiter.consume({ algorithm: "token-bucket", key, limit: count, window: window * 1000 })
    const flexible = new RateLimiterMemory({ points: count, duration: window })
    reportBytes(
      `${count.toLocaleString("en")} keys, bytes each`,
      ["used once", "then idle"],
      [
        yield* measure("steindamm TokenBucket, by key", (key) => bucket.withPermit(key)(Effect.void), count),
        yield* measure("steindamm Semaphore, by key", (key) => semaphore.withPermit(key)(Effect.void), count),
        yield* measure("effect RateLimiter, memory", consume, count),
        yield* measure("rate-limiter-flexible, memory", (key) => Effect.promise(() => flexible.consume(key)), count)
      ]
    )
  })
