import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Redis } from "ioredis"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import { semaphores, tokenBuckets } from "../src/internal/backends.ts"
import { LocalBuckets } from "../src/internal/localBuckets.ts"
import { LocalSemaphores } from "../src/internal/localSemaphores.ts"
import { start } from "./support/fibers.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

describe("limiters by key", () => {
  it.effect("keep no bucket of a key that is idle", () =>
    Effect.gen(function* () {
      const buckets = new LocalBuckets(yield* Clock.Clock)
      const perUser = yield* tokenBuckets((config) => buckets.store(config)).makeKeyed({ name: "user", capacity: 1 })
      const keys = 100_000
      for (let i = 0; i < keys; i++) yield* perUser.withPermit(`${i}`)(Effect.void)
      assert.strictEqual(buckets.size, keys)
      yield* TestClock.adjust("1 second")
      for (let i = 0; i < keys / 2 + 1; i++) yield* perUser.withPermits("other", 0.000001)(Effect.void)
      assert.isAtMost(buckets.size, 2)
    })
  )

  it.effect("keep no semaphore of a key that nobody holds", () =>
    Effect.gen(function* () {
      const kept = new LocalSemaphores()
      const perHost = yield* semaphores((config) => kept.store(config)).makeKeyed({ name: "host" })
      const scope = yield* Scope.make()
      for (let i = 0; i < 1000; i++) yield* Scope.provide(perHost.acquire(`${i}`), scope)
      assert.strictEqual(kept.size, 1000)
      yield* Scope.close(scope, Exit.void)
      for (let i = 0; i < 2000; i++) yield* perHost.withPermit("other")(Effect.void)
      assert.isAtMost(kept.size, 1)
    })
  )

  it.live("leave nothing in Redis but a key of each, which expires", () =>
    Effect.gen(function* () {
      const keyPrefix = freshKeyPrefix()
      const url = inject("redisUrl")
      yield* Effect.gen(function* () {
        const perUser = yield* TokenBucket.makeKeyed({ name: "user", refillFrequency: 100 })
        const perHost = yield* Semaphore.makeKeyed({ name: "host", expiry: 1000 })
        yield* Effect.forEach(["ada", "grace"], (key) => perUser.withPermit(key)(Effect.void))
        yield* Effect.forEach(["a", "b"], (key) => perHost.withPermit(key)(Effect.void))
        const tagged = yield* TokenBucket.makeKeyed({ name: "calls", tag: "tenant" })
        yield* tagged.withPermit("acme")(Effect.void)
      }).pipe(
        Effect.provide(RedisLive),
        Effect.provide(RedisClient.layer({ url, keyPrefix }), { local: true }),
        Effect.scoped
      )
      const redis = new Redis(url)
      const keys = yield* Effect.promise(() => redis.keys(`${keyPrefix}*`))
      assert.sameMembers(keys, [
        `${keyPrefix}{user[ada]}:token-bucket`,
        `${keyPrefix}{user[grace]}:token-bucket`,
        `${keyPrefix}{host[a]}:semaphore`,
        `${keyPrefix}{host[b]}:semaphore`,
        `${keyPrefix}{tenant[acme]}:token-bucket:calls[acme]`
      ])
      for (const key of keys) assert.isAbove(yield* Effect.promise(() => redis.pttl(key)), 0)
      yield* Effect.promise(() => redis.quit())
    })
  )
})

describe("a limiter as a step of an Effect.fn", () => {
  it.effect("limits every call, after the arguments are known", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "pages", capacity: 1 })
      const ran: Array<string> = []
      const fetchPage = Effect.fn("fetchPage")(function* (page: number, size: number = 10) {
        yield* Effect.sync(() => ran.push(`${page}/${size}`))
        return page
      }, limiter.withPermit)
      assert.strictEqual(yield* fetchPage(1), 1)
      const second = yield* start(fetchPage(2, 20))
      assert.deepStrictEqual(ran, ["1/10"])
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(second), 2)
      assert.deepStrictEqual(ran, ["1/10", "2/20"])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("limits by a key that the arguments tell", () =>
    Effect.gen(function* () {
      const perUser = yield* Semaphore.makeKeyed({ name: "user", capacity: 1 })
      const search = Effect.fn("search")(
        function* (user: string) {
          return (yield* perUser.state(user)).held
        },
        (effect, user) => perUser.withPermit(user)(effect)
      )
      assert.strictEqual(yield* search("ada"), 1)
      assert.strictEqual((yield* perUser.state("ada")).held, 0)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("can be any verb", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "pages", capacity: 4 })
      const work = Effect.fn("work")(function* () {
        return yield* Effect.succeed("done")
      }, limiter.withPermits(3))
      const attempt = Effect.fnUntraced(function* (n: number) {
        return yield* Effect.succeed(n)
      }, limiter.withPermitsIfAvailable(3))
      assert.strictEqual(yield* work(), "done")
      assert.strictEqual((yield* attempt(5))._tag, "None")
    }).pipe(Effect.provide(LocalLive))
  )
})
