import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Schedule } from "effect"
import { LocalLive, MaxSleepExceeded, retryAfter, Semaphore, TokenBucket, type TokenBucketLimiter } from "steindamm"
import { driven } from "./support/driven.ts"
import { start } from "./support/fibers.ts"

const now = Clock.currentTimeMillis

/** A request for a token that somebody else takes away each time. */
const takenAway = (limiter: TokenBucketLimiter) =>
  Effect.andThen(limiter.withPermitsIfAvailable(1)(Effect.void), limiter.withPermit(now))

describe("retryAfter", () => {
  it.effect("comes back after requiredSleep", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "retry", capacity: 1, refillFrequency: 500, maxSleep: 100 })
      yield* limiter.withPermit(Effect.void)
      const ran = yield* driven(limiter.withPermit(now).pipe(Effect.retry(retryAfter())))
      assert.strictEqual(ran, 500)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("comes back a limited number of times, and then fails as the last time", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "retry", capacity: 1, refillFrequency: 500, maxSleep: 1 })
      let attempts = 0
      const counted = Effect.suspend(() => {
        attempts++
        return takenAway(limiter)
      })
      const error = yield* driven(counted.pipe(Effect.retry(retryAfter({ times: 2 })), Effect.flip))
      assert.strictEqual(error._tag, "MaxSleepExceeded")
      assert.strictEqual(attempts, 3)
      assert.strictEqual(yield* now, 1000)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("passes other errors through", () =>
    Effect.gen(function* () {
      let attempts = 0
      const failing = Effect.suspend(() => {
        attempts++
        return Effect.fail("something else")
      })
      assert.strictEqual(yield* failing.pipe(Effect.retry(retryAfter()), Effect.flip), "something else")
      assert.strictEqual(attempts, 1)
    })
  )

  it.effect("comes back at once to a semaphore, which was waited for already", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "retry", capacity: 1, maxSleep: 100 })
      const holder = yield* start(limiter.withPermit(Effect.sleep(250)))
      assert.strictEqual(yield* driven(limiter.withPermit(now).pipe(Effect.retry(retryAfter()))), 250)
      yield* Fiber.join(holder)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("does not come back for what would never succeed", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "retry" })
      yield* limiter.pause("Infinity")
      const error = yield* limiter.withPermit(now).pipe(Effect.retry(retryAfter()), Effect.flip)
      assert.strictEqual(error._tag, "MaxSleepExceeded")
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("waits longer by a random part if it is told to", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "retry", capacity: 1, refillFrequency: 1000, maxSleep: 1 })
      yield* limiter.withPermit(Effect.void)
      const error = yield* Effect.flip(limiter.withPermit(now))
      assert.instanceOf(error, MaxSleepExceeded)
      const step = yield* Schedule.toStep(retryAfter({ jitter: 0.5 }))
      const delays = new Set<number>()
      for (let i = 0; i < 100; i++) {
        const [, delay] = yield* Effect.orDie(step(0, error))
        delays.add(Duration.toMillis(delay))
      }
      assert.isAtLeast(Math.min(...delays), 1000)
      assert.isAtMost(Math.max(...delays), 1500)
      assert.isAbove(delays.size, 50)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("composes with other schedules", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "retry", capacity: 1, refillFrequency: 500, maxSleep: 1 })
      const attempt = takenAway(limiter)
      const patient = retryAfter().pipe(Schedule.upTo({ duration: "600 millis" }))
      yield* driven(attempt.pipe(Effect.retry(patient), Effect.flip))
      // At 0 and at 500 there was time for another one.
      assert.strictEqual(yield* now, 1000)
    }).pipe(Effect.provide(LocalLive))
  )
})
