import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer } from "effect"
import { Limiter, TokenBucket, type TokenBucketOptions } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import { excess, runSwarm } from "./support/bucketSwarm.ts"
import { start } from "./support/fibers.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { until } from "./support/redisAway.ts"
import { startServer } from "./support/servers.ts"

const client = () => RedisClient.layer({ url: inject("redisUrl"), keyPrefix: freshKeyPrefix() })

/** A limiter with connections of its own, as a process would have. */
const process = (client: ReturnType<typeof RedisClient.layer>, options: TokenBucketOptions) =>
  Effect.flatMap(Layer.build(Layer.fresh(RedisLive.pipe(Layer.provide(Layer.fresh(client))))), (context) =>
    Effect.provideContext(TokenBucket.make(options), context)
  )

describe("a pause over Redis", { timeout: 60_000 }, () => {
  it.live("holds newcomers of every process off, and keeps what was promised in another", () =>
    Effect.gen(function* () {
      const shared = client()
      const options = { name: "paused", capacity: 1, refillFrequency: 400, initialTokens: 0 }
      const [told, other] = [yield* process(shared, options), yield* process(shared, options)]
      const begun = yield* Clock.currentTimeMillis
      const elapsed = Effect.map(Clock.currentTimeMillis, (now) => now - begun)
      const promised = yield* Effect.forkChild(other.withPermit(elapsed))
      yield* Effect.sleep(100)
      yield* told.pause(1200)
      const newcomer = yield* Effect.forkChild(other.withPermit(elapsed))
      const ran = yield* Fiber.join(promised)
      assert.isAtLeast(ran, 395)
      assert.isAtMost(ran, 700)
      const later = yield* Fiber.join(newcomer)
      assert.isAtLeast(later, 1295)
      assert.isAtMost(later, 1700)
    })
  )

  it.live("admits no more than the bucket holds while one process pauses it again and again", () =>
    Effect.gen(function* () {
      const shared = client()
      const bucket = { name: "hungry", capacity: 10, refillAmount: 1, refillFrequency: 10, maxSleep: 1000 }
      const told = yield* process(shared, bucket)
      const pausing = Effect.forever(Effect.andThen(Effect.sleep(350), Effect.orDie(told.pause(150))))
      const result = yield* runSwarm({
        client: shared,
        bucket,
        backends: 3,
        fibers: 5,
        duration: 3000,
        meanwhile: pausing
      })
      assert.isAtMost(excess(result, bucket, 150), 0)
      assert.deepStrictEqual(result.backendErrors, [])
      // Paused for less than half of the time, and what refills meanwhile is kept as far as it fits.
      assert.isAtLeast(result.admissions.length, 180)
      assert.isBelow(result.latest, 250)
    })
  )

  for (const [who, isJoint] of [
    ["one limiter", false],
    ["several limiters", true]
  ] as const) {
    it.live(`ends the wait of whom it leaves no time, without asking a Redis that is silent, of ${who}`, () =>
      Effect.gen(function* () {
        const server = yield* startServer()
        const options = { name: "paused", capacity: 1, refillFrequency: 1900, initialTokens: 0, maxSleep: 2000 }
        const limiter = yield* process(RedisClient.layer({ url: server.url }), options)
        const waiting = yield* Effect.forkChild((isJoint ? Limiter.all([limiter]) : limiter).withPermit(Effect.void))
        yield* until(Effect.map(limiter.state, ({ wait }) => Duration.toMillis(wait) > options.refillFrequency))
        yield* server.pause
        const blocked = Effect.sync(() =>
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, options.maxSleep)
        )
        yield* start(Effect.andThen(blocked, limiter.pause("1 minute")))
        assert.strictEqual((yield* Effect.flip(Fiber.join(waiting)))._tag, "MaxSleepExceeded")
        yield* server.resume
      })
    )
  }
})
