import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Fiber, Result } from "effect"
import { TestClock } from "effect/testing"
import { LocalLive, Semaphore, TokenBucket, type TokenBucketOptions } from "steindamm"
import { makeBucketLimiter } from "../src/internal/bucketLimiter.ts"
import { BucketWaiters } from "../src/internal/bucketWaiters.ts"
import { LocalBuckets } from "../src/internal/localBuckets.ts"
import { LocalSemaphores } from "../src/internal/localSemaphores.ts"
import { bucketConfig, semaphoreConfig } from "../src/internal/options.ts"
import { makeSemaphoreLimiter } from "../src/internal/semaphoreLimiter.ts"
import { start } from "./support/fibers.ts"

/** Fibers that have all come as far as they can, in order. */
const crowd = <A, E>(member: (i: number) => Effect.Effect<A, E>) =>
  Effect.forEach(Array.from({ length: 100_000 }), (_, i) => start(member(i)))

describe("in memory", { timeout: 120_000 }, () => {
  it.effect("a million buckets that are full again take none, though no timer looks after them", () =>
    Effect.gen(function* () {
      const buckets = new LocalBuckets(yield* Clock.Clock)
      const waiters = new BucketWaiters()
      const limiter = (name: string) => {
        const config = Result.getOrThrow(bucketConfig({ name, capacity: 1 }, 0))
        return makeBucketLimiter(config, buckets.store(config), waiters)
      }
      for (let i = 0; i < 1_000_000; i++) yield* limiter(`user ${i}`).withPermit(Effect.void)
      assert.strictEqual(buckets.size, 1_000_000)
      yield* TestClock.adjust("1 second")
      const other = limiter("other")
      for (let i = 0; i < 500_001; i++) yield* other.withPermits(0.000001)(Effect.void)
      assert.isAtMost(buckets.size, 2)
    })
  )

  it.effect("a bucket that owes something is remembered", () =>
    Effect.gen(function* () {
      const buckets = new LocalBuckets(yield* Clock.Clock)
      const limiter = (name: string) => {
        const config = Result.getOrThrow(bucketConfig({ name, capacity: 3600 }, 0))
        return makeBucketLimiter(config, buckets.store(config), new BucketWaiters())
      }
      yield* limiter("owes").withPermits(3600)(Effect.void)
      yield* TestClock.adjust("30 minutes")
      for (let i = 0; i < 10; i++) yield* limiter(`other ${i}`).withPermit(Effect.void)
      assert.strictEqual((yield* limiter("owes").state).tokens, 1800)
    })
  )

  it.effect("a bucket that others find less full is remembered until it expires", () =>
    Effect.gen(function* () {
      const buckets = new LocalBuckets(yield* Clock.Clock)
      const limiter = (options: Omit<TokenBucketOptions, "name">, name = "disputed") => {
        const config = Result.getOrThrow(bucketConfig({ name, ...options }, 0))
        return makeBucketLimiter(config, buckets.store(config), new BucketWaiters())
      }
      const small = limiter({ capacity: 5 })
      const large = limiter({ capacity: 100, refillFrequency: "1 hour" })
      const taken: Array<number> = []
      for (let round = 0; round < 4; round++) {
        // All but one, which is left for the small one to take: so it fills up by its rules meanwhile.
        const { tokens } = yield* large.state
        yield* large.withPermits(tokens - 1)(Effect.sync(() => taken.push(tokens)))
        yield* small.withPermit(Effect.void)
        yield* TestClock.adjust("6 seconds")
        for (let i = 0; i < 5; i++) yield* limiter({}, `other ${round} ${i}`).withPermit(Effect.void)
      }
      assert.deepStrictEqual(taken, [100, 5, 5, 5])
      yield* TestClock.adjust("61 seconds")
      for (let i = 0; i < 40; i++) yield* limiter({ tokensToConsume: 0.1 }, "another").withPermit(Effect.void)
      assert.strictEqual(buckets.size, 1)
    })
  )

  it.effect("semaphores that nobody uses take none, but one that was resized is remembered", () =>
    Effect.gen(function* () {
      const semaphores = new LocalSemaphores()
      const limiter = (name: string) => {
        const config = Result.getOrThrow(semaphoreConfig({ name, capacity: 1 }))
        return makeSemaphoreLimiter(config, semaphores.store(config))
      }
      yield* limiter("resized").resize(2)
      for (let i = 0; i < 1000; i++) yield* limiter(`user ${i}`).withPermit(Effect.void)
      assert.isAtMost(semaphores.size, 4)
      assert.strictEqual((yield* limiter("resized").state).capacity, 2)
    })
  )

  for (const [kind, rest] of [
    ["waits for something", Effect.yieldNow],
    ["is over at once", Effect.void]
  ] as const) {
    it.effect(`a hundred thousand waiters for a permit are served in order when their work ${kind}`, () =>
      Effect.gen(function* () {
        const limiter = yield* Semaphore.make({ name: "crowd", capacity: 1 })
        const gate = yield* Deferred.make<void>()
        const holder = yield* start(limiter.withPermit(Deferred.await(gate)))
        let served = 0
        const fibers = yield* crowd((i) =>
          limiter.withPermit(
            Effect.suspend(() => {
              assert.strictEqual(served++, i)
              return rest
            })
          )
        )
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.joinAll([holder, ...fibers])
        assert.strictEqual(served, 100_000)
      }).pipe(Effect.provide(LocalLive))
    )
  }

  it.effect("a hundred thousand waiters whose tokens come at the same moment are served in order", () =>
    Effect.gen(function* () {
      const crowded = { name: "crowd", capacity: 100_000, refillAmount: 100_000, initialTokens: 0 }
      const limiter = yield* TokenBucket.make(crowded)
      let served = 0
      const fibers = yield* crowd((i) => limiter.withPermit(Effect.sync(() => assert.strictEqual(served++, i))))
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(served, 0)
      yield* TestClock.adjust("1 millis")
      yield* Fiber.joinAll(fibers)
      assert.strictEqual(served, 100_000)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("a waiter takes no more, and is served, after twenty thousand pauses", () =>
    Effect.gen(function* () {
      const slow = { name: "paused", capacity: 1, initialTokens: 0, maxSleep: Number.POSITIVE_INFINITY }
      const limiter = yield* TokenBucket.make(slow)
      const waiter = yield* start(Effect.scoped(limiter.acquire()))
      for (let i = 0; i < 20_000; i++) {
        yield* limiter.pause("2 seconds")
        yield* TestClock.adjust("1 second")
      }
      yield* TestClock.adjust("1 second")
      assert.strictEqual(Duration.toSeconds((yield* Fiber.join(waiter)).waited), 20_001)
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("nobody waits any more, so the process can end", () =>
    Effect.gen(function* () {
      const program = `
        import { Effect, Fiber } from "effect"
        import { LocalLive, Semaphore, TokenBucket } from "steindamm"

        const interrupted = (effect) =>
          Effect.flatMap(Effect.forkChild(effect, { startImmediately: true }), Fiber.interrupt)

        const main = Effect.gen(function* () {
          const bucket = yield* TokenBucket.make({ name: "b", capacity: 1, refillFrequency: "1 hour", maxSleep: 0 })
          yield* bucket.withPermit(Effect.void)
          yield* interrupted(bucket.withPermit(Effect.void))
          const semaphore = yield* Semaphore.make({ name: "s", capacity: 1, maxSleep: "1 hour" })
          yield* semaphore.withPermit(interrupted(semaphore.withPermit(Effect.void)))
          yield* Effect.all([1, 2, 3].map(() => semaphore.withPermit(Effect.sleep(1))), { concurrency: 3 })
        })

        await Effect.runPromise(Effect.provide(main, LocalLive))
      `
      const options = ["--conditions", "steindamm-source", "--input-type", "module", "-e", program]
      yield* Effect.promise((signal) => promisify(execFile)(process.execPath, options, { signal }))
    })
  )
})
