import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TokenBucket } from "steindamm"
import { RedisClient, RedisTokenBucketLive } from "steindamm/redis"
import { inject } from "vitest"
import { freshName } from "./contract/harness.ts"
import { unusedTokensComeBack } from "./support/interruption.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

const live = RedisTokenBucketLive.pipe(
  Layer.provide(RedisClient.layer({ url: inject("redisUrl"), keyPrefix: freshKeyPrefix() }))
)

describe("tokens that come back to Redis", () => {
  it.live("go before requests that have not gone yet, which may need them", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({
        name: freshName(),
        capacity: 1,
        refillFrequency: "1 hour",
        maxSleep: 0
      })
      yield* limiter.state
      for (let round = 0; round < 20; round++) {
        const first = yield* Effect.forkChild(limiter.reserve(), { startImmediately: true })
        // The call of the first is on its way now, and the next has to wait for the one after it.
        yield* Effect.yieldNow
        const others = yield* Effect.forkChild(limiter.reserve(), { startImmediately: true })
        yield* Fiber.interrupt(first)
        const reservation = yield* Fiber.join(others)
        assert.strictEqual(reservation.delay.toString(), "0 millis")
        yield* reservation.cancel
      }
    }).pipe(Effect.provide(live))
  )

  it.live("are all that no work used, at whatever point a request is interrupted", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: freshName(), capacity: 4, refillFrequency: "1 hour" })
      const ends = yield* unusedTokensComeBack(limiter)
      assert.isAbove(ends.before, 0)
      assert.isAbove(ends.behind, 0)
    }).pipe(Effect.provide(live))
  )
})
