import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Result } from "effect"
import { TestClock } from "effect/testing"
import { LocalLive, Semaphore } from "steindamm"
import { makeBucketLimiter } from "../src/internal/bucketLimiter.ts"
import { BucketWaiters } from "../src/internal/bucketWaiters.ts"
import { LocalBuckets } from "../src/internal/localBuckets.ts"
import { LocalSemaphores } from "../src/internal/localSemaphores.ts"
import { bucketConfig, semaphoreConfig } from "../src/internal/options.ts"
import { makeSemaphoreLimiter } from "../src/internal/semaphoreLimiter.ts"

describe("in memory", () => {
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

  it.effect("a hundred thousand waiters are served in order", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "crowd", capacity: 1 })
      let served = 0
      const fibers: Array<Fiber.Fiber<void, unknown>> = []
      for (let i = 0; i < 100_000; i++) {
        const work = Effect.suspend(() => {
          assert.strictEqual(served++, i)
          return Effect.yieldNow
        })
        fibers.push(yield* Effect.forkChild(limiter.withPermit(work), { startImmediately: true }))
      }
      yield* Fiber.joinAll(fibers)
      assert.strictEqual(served, 100_000)
    }).pipe(Effect.provide(LocalLive))
  )
})
