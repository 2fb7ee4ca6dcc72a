import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Schedule } from "effect"
import { LocalLive, MaxSleepExceeded, retryAfter, Semaphore, TokenBucket } from "steindamm"
import { driven } from "./support/driven.ts"

const now = Clock.currentTimeMillis

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
      // Whoever came first takes the token away each time.
      const taken = Effect.andThen(limiter.withPermitsIfAvailable(1)(Effect.void), limiter.withPermit(now))
      let attempts = 0
      const counted = Effect.suspend(() => {
        attempts++
        return taken
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
      const holder = yield* Effect.forkChild(limiter.withPermit(Effect.sleep(250)), { startImmediately: true })
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
      yield* limiter.withPermit(Effect.void)
      const patient = retryAfter().pipe(Schedule.upTo({ duration: "100 millis" }))
      assert.strictEqual(yield* driven(limiter.withPermit(now).pipe(Effect.retry(patient))), 500)
    }).pipe(Effect.provide(LocalLive))
  )
})
