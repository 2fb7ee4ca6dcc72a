import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Schedule, Schema } from "effect"
import { CircuitBreaker, PersistedQueue, Persistence, RateLimiter, type Redis } from "effect/persistence"
import { RedisClient } from "steindamm/redis"
import { inject } from "vitest"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

const single = RedisClient.layer({ url: inject("redisUrl") })
const cluster = RedisClient.layer({ nodes: [inject("clusterUrl")] })

const modes: ReadonlyArray<readonly [mode: string, layer: Layer.Layer<RedisClient | Redis.Redis, unknown>]> = [
  ["standalone", single],
  ["cluster", cluster]
]

/** With its keys in one slot, wherever it runs. */
const tagged = () => `{${freshKeyPrefix()}}`

/** What a cluster says of keys that don't share a slot. */
const assertCrossSlot = (cause: unknown) => assert.match(String(cause), /CROSSSLOT|same slot/)

describe("Effect's RateLimiter over our connection", () => {
  const limiterOver = (layer: (typeof modes)[number][1]) =>
    RateLimiter.layer.pipe(
      Layer.provide(RateLimiter.layerStoreRedis({ prefix: freshKeyPrefix() })),
      Layer.provide(layer)
    )

  const limit = (key: string, algorithm: "token-bucket" | "fixed-window", onExceeded: "fail" | "delay") =>
    Effect.flatMap(RateLimiter.RateLimiter, (limiter) =>
      limiter.consume({ algorithm, key, limit: 3, window: "1 hour", onExceeded })
    )

  describe.each(modes)("on %s", (_mode, layer) => {
    it.live.each(["token-bucket", "fixed-window"] as const)("lets through what its limit allows, by %s", (algorithm) =>
      Effect.gen(function* () {
        for (let key = 0; key < 10; key++) {
          for (let call = 0; call < 3; call++) yield* limit(`{${key}}`, algorithm, "fail")
          const { reason } = yield* Effect.flip(limit(`{${key}}`, algorithm, "fail"))
          assert.strictEqual(reason._tag, "RateLimitExceeded")
        }
      }).pipe(Effect.provide(limiterOver(layer)))
    )

    it.live("tells how long to wait for what goes beyond", () =>
      Effect.gen(function* () {
        for (let call = 0; call < 3; call++) yield* limit("{a}", "token-bucket", "delay")
        const { delay } = yield* limit("{a}", "token-bucket", "delay")
        assert.isAbove(Duration.toMinutes(delay), 19)
      }).pipe(Effect.provide(limiterOver(layer)))
    )
  })

  it.live("is refused a token bucket by a cluster unless its key is in braces", () =>
    Effect.gen(function* () {
      const { reason } = yield* Effect.flip(limit("a", "token-bucket", "fail"))
      assert.strictEqual(reason._tag, "RateLimitStoreError")
      assertCrossSlot(((reason as RateLimiter.RateLimitStoreError).cause as Redis.RedisError).cause)
      yield* limit("a", "fixed-window", "fail")
    }).pipe(Effect.provide(limiterOver(cluster)))
  )
})

describe("Effect's PersistedQueue over our connection", () => {
  const queueOver = (layer: (typeof modes)[number][1], prefix: string) =>
    PersistedQueue.layer.pipe(
      Layer.provideMerge(
        PersistedQueue.layerStoreRedis({
          prefix,
          pollInterval: "20 millis",
          lockRefreshInterval: "50 millis",
          lockExpiration: "300 millis"
        })
      ),
      Layer.provide(layer)
    )

  const makeQueue = PersistedQueue.make({
    name: "jobs",
    schema: Schema.Number,
    maxAttempts: 3,
    retrySchedule: Schedule.spaced("10 millis")
  })

  describe.each(modes)("on %s", (_mode, layer) => {
    it.live("hands every element to one taker, and again to another if that one fails", () =>
      Effect.gen(function* () {
        const queue = yield* makeQueue
        const all = Array.from({ length: 50 }, (_, n) => n)
        yield* Effect.forEach(all, (n) => queue.offer(n), { concurrency: 10 })
        const done: Array<number> = []
        const work = queue.take((n, { attempts }) =>
          n % 10 === 0 && attempts === 1 ? Effect.fail("at first") : Effect.sync(() => done.push(n))
        )
        const worker = Effect.gen(function* () {
          while (done.length < all.length) yield* Effect.ignore(Effect.timeout(work, "500 millis"))
        })
        yield* Effect.all(
          Array.from({ length: 5 }, () => worker),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          done.sort((a, b) => a - b),
          all
        )
      }).pipe(Effect.provide(queueOver(layer, tagged())))
    )

    it.live("takes an element with an id of its own once, and one that is to come later not before", () =>
      Effect.gen(function* () {
        const queue = yield* makeQueue
        yield* queue.offer(1, { id: "same" })
        yield* queue.offer(2, { id: "same" })
        yield* queue.offer(3, { delay: "200 millis" })
        const taken = [yield* queue.take(Effect.succeed), yield* queue.take(Effect.succeed)]
        assert.deepStrictEqual(taken, [1, 3])
      }).pipe(Effect.provide(queueOver(layer, tagged())))
    )

    it.live("keeps an element from others for as long as it is worked on", () =>
      Effect.gen(function* () {
        const queue = yield* makeQueue
        yield* queue.offer(1)
        const slow = yield* Effect.forkChild(
          queue.take((n, { attempts }) => Effect.as(Effect.sleep("1 second"), [n, attempts])),
          { startImmediately: true }
        )
        const other = yield* Effect.forkChild(queue.take(Effect.succeed), { startImmediately: true })
        assert.deepStrictEqual(yield* Fiber.join(slow), [1, 1])
        assert.isUndefined(other.pollUnsafe())
        yield* Fiber.interrupt(other)
      }).pipe(Effect.provide(queueOver(layer, tagged())))
    )

    it.live("forgets ids when it is cleaned up, wherever its keys are", () =>
      Effect.gen(function* () {
        const queue = yield* makeQueue
        const { cleanup } = yield* PersistedQueue.PersistedQueueStore
        for (const n of [1, 2]) {
          yield* queue.offer(n, { id: "same" })
          assert.strictEqual(yield* queue.take(Effect.succeed), n)
          yield* Effect.sleep("5 millis")
          yield* cleanup({ timeToLive: Duration.zero, failedTimeToLive: undefined })
        }
      }).pipe(Effect.provide(queueOver(layer, tagged())))
    )
  })

  it.live("is refused by a cluster unless the prefix of its store has braces", () =>
    Effect.gen(function* () {
      const queue = yield* makeQueue
      const error = yield* Effect.flip(queue.offer(1, { id: "mine" }))
      assert.strictEqual(error._tag, "PersistedQueueError")
      assertCrossSlot((error as PersistedQueue.PersistedQueueError).cause)
    }).pipe(Effect.provide(queueOver(cluster, freshKeyPrefix())))
  )
})

describe("Effect's Persistence over our connection", () => {
  const open = (id: string) => Effect.flatMap(Persistence.BackingPersistence, ({ make }) => make(id))

  const entries = [
    ["a", { n: 1 }, undefined],
    ["b", { n: 2 }, undefined]
  ] as const

  describe.each(modes)("on %s", (_mode, layer) => {
    it.live("writes, reads and clears many entries, wherever they are", () =>
      Effect.gen(function* () {
        // With 3 nodes, one is missed by chance 2 times in 3.
        for (let n = 0; n < 10; n++) {
          const store = yield* open(tagged())
          yield* store.setMany([...entries])
          assert.deepStrictEqual(yield* store.getMany(["a", "b", "c"]), [{ n: 1 }, { n: 2 }, undefined])
          yield* store.clear
          assert.isUndefined(yield* store.get("a"))
        }
      }).pipe(Effect.scoped, Effect.provide(Persistence.layerBackingRedis.pipe(Layer.provide(layer))))
    )
  })

  it.live("is refused by a cluster what concerns several entries, unless the store's id is in braces", () =>
    Effect.gen(function* () {
      const store = yield* open(freshKeyPrefix())
      for (const [key, value] of entries) yield* store.set(key, value, undefined)
      assert.deepStrictEqual(yield* store.get("a"), { n: 1 })
      for (const many of [store.setMany([...entries]), store.getMany(["a", "b"]), store.clear]) {
        assertCrossSlot((yield* Effect.flip(Effect.asVoid(many))).cause)
      }
    }).pipe(Effect.scoped, Effect.provide(Persistence.layerBackingRedis.pipe(Layer.provide(cluster))))
  )
})

describe("Effect's CircuitBreaker over our connection", () => {
  it.live.each(modes)("opens after failures on %s", ([, layer]) =>
    Effect.gen(function* () {
      const breaker = yield* CircuitBreaker.CircuitBreaker
      const call = Effect.fail("unavailable").pipe(breaker.execute({ key: "a" }), Effect.flip)
      assert.deepStrictEqual([yield* call, yield* call], ["unavailable", "unavailable"])
      assert.deepInclude(yield* call, { _tag: "CircuitBreakerError" })
    }).pipe(
      Effect.provide(
        CircuitBreaker.layer({ tripPolicy: CircuitBreaker.consecutive(2), openDuration: "1 minute" }).pipe(
          Layer.provide(CircuitBreaker.layerStoreRedis({ prefix: freshKeyPrefix() })),
          Layer.provide(layer)
        )
      )
    )
  )
})
