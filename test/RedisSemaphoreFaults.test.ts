import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Fiber, Layer } from "effect"
import { type BackendError, Semaphore } from "steindamm"
import { RedisClient, RedisSemaphoreLive } from "steindamm/redis"
import { start } from "./support/fibers.ts"
import { startProxy } from "./support/proxy.ts"
import { quiet } from "./support/redisRun.ts"
import { runSwarm, type SwarmOptions, type SwarmResult } from "./support/semaphoreSwarm.ts"
import { startCluster, startServer, until } from "./support/servers.ts"
import { killAndFlush, moveAbout, putToSleep, restart, spoilNetwork } from "./support/troubles.ts"

const capacity = 5
/** Milliseconds. */
const duration = 4000

const swarm = (
  name: string,
  options: Pick<SwarmOptions, "client"> & Partial<SwarmOptions>
): Effect.Effect<SwarmResult> =>
  Effect.tap(
    Effect.orDie(
      runSwarm({
        semaphore: { name, capacity, expiry: "1 second", maxSleep: "20 seconds" },
        backends: 4,
        fibers: 20,
        hold: [0, 20],
        duration,
        ...options
      })
    ),
    ({ backendErrors, ...seen }) =>
      Effect.sync(() => console.log(name, JSON.stringify({ ...seen, backendErrors: backendErrors.length })))
  )

/** What holds whatever happens, as long as no data is lost and no process stopped. */
const assertSound = (result: SwarmResult) => {
  assert.isAtMost(result.peak, capacity)
  assert.strictEqual(result.leftOver, 0)
  assert.strictEqual(result.stillWaiting, 0)
  assert.strictEqual(result.repeatedTokens, 0)
  assert.isAbove(result.admissions, 0)
}

describe("the semaphore over Redis", { timeout: 60_000 }, () => {
  it.live("keeps its promises when nothing is wrong", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("calm", { client: RedisClient.layer({ url: server.url }) })
      assertSound(result)
      assert.strictEqual(result.lost + result.maxSleepExceeded + result.backendErrors.length, 0)
      assert.isBelow(result.longestStall, 500)
    })
  )

  it.live("keeps its promises while connections are killed and scripts flushed twenty times a second", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const result = yield* swarm("killed", {
        client: RedisClient.layer({ url: proxy.url }),
        meanwhile: killAndFlush(server, proxy)
      })
      assertSound(result)
      assert.deepStrictEqual(result.backendErrors, [])
    })
  )

  it.live("goes on without any message, by looking again", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      // Whoever may not publish can still be granted and released.
      yield* server.command("ACL", "SETUSER", "quiet", "on", ">secret", "~*", "&*", "+@all", "-publish")
      const client = RedisClient.layer({ url: server.url, username: "quiet", password: "secret" })
      const result = yield* swarm("no messages", { client })
      assertSound(result)
      assert.strictEqual(result.lost, 0)
      assert.isBelow(result.longestStall, 1500)
    })
  )

  it.live("loses no permit when replies are lost and the network is slow", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const result = yield* swarm("bad network", {
        client: RedisClient.layer({ url: proxy.url, replyTimeout: "100 millis" }),
        // Later, the last who waits would find every connection cut that it opens.
        meanwhile: spoilNetwork(proxy, { latency: 30, silentOneIn: 20, duration })
      })
      assertSound(result)
      assert.strictEqual(result.maxSleepExceeded, 0)
      assert.deepStrictEqual(result.backendErrors, [])
    })
  )

  it.live("waits for a server that sleeps, and goes on when it wakes", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("asleep", {
        client: RedisClient.layer({ url: server.url }),
        meanwhile: putToSleep(server, "1 second")
      })
      assertSound(result)
    })
  )

  it.live("goes on with a server that was killed and comes back with its data", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ appendOnly: true })
      const result = yield* swarm("restarted", {
        client: RedisClient.layer({ url: server.url }),
        meanwhile: restart(server, "1 second")
      })
      assertSound(result)
    })
  )

  it.live("grants nothing beyond the capacity when the server comes back empty", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("restarted empty", {
        client: RedisClient.layer({ url: server.url }),
        meanwhile: restart(server, "1500 millis", { empty: true }),
        hold: [0, 300],
        duration: 6000
      })
      assertSound(result)
    })
  )

  it.live("follows its slot to another node under load", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      let moves = 0
      const result = yield* swarm("migrated", {
        client: RedisClient.layer({ nodes: [cluster.url] }),
        meanwhile: moveAbout(cluster, { kind: "Semaphore", name: "migrated" }, () => moves++)
      })
      assert.isAtLeast(moves, 2)
      assertSound(result)
      assert.strictEqual(result.lost, 0)
      assert.deepStrictEqual(result.backendErrors, [])
      assert.isBelow(result.longestStall, 2000)
    })
  )

  it.live("leaks nothing when grants cross with giving up ten thousand times", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("giving up", {
        client: RedisClient.layer({ url: server.url }),
        semaphore: { name: "giving up", capacity, expiry: "1 second", maxSleep: "60 millis" },
        fibers: 30,
        hold: [0, 8],
        atLeast: { maxSleepExceeded: 10_000 }
      })
      assertSound(result)
      assert.isAtLeast(result.maxSleepExceeded, 10_000)
    })
  )

  it.live("leaks nothing when it is interrupted twenty thousand times, at any moment", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("interrupted", {
        client: RedisClient.layer({ url: server.url }),
        interruptWithin: 40,
        hold: [0, 8],
        atLeast: { interrupted: 20_000 }
      })
      assertSound(result)
      assert.isAtLeast(result.interrupted, 20_000)
    })
  )

  it.live("answers at maxSleep though Redis has fallen silent, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const maxSleep = 400
      yield* Effect.gen(function* () {
        const limiter = yield* Semaphore.make({ name: "silent", capacity: 1, expiry: "3 seconds", maxSleep })
        const ask = Effect.timed(Effect.flip(limiter.withPermit(Effect.void)))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* limiter.acquire()
            const queued = yield* start(ask)
            yield* until(Effect.map(limiter.state, ({ waiting }) => waiting === 1))
            yield* server.pause
            const unheard = yield* start(ask)
            const [elapsed, error] = yield* Fiber.join(queued)
            const [elapsedUnheard, errorUnheard] = yield* Fiber.join(unheard)
            yield* server.resume
            assert.strictEqual(error._tag, "MaxSleepExceeded")
            assert.deepInclude(errorUnheard, { _tag: "BackendError", reason: "TimedOut" })
            for (const time of [elapsed, elapsedUnheard]) {
              assert.isAtLeast(Duration.toMillis(time), maxSleep - 1)
              assert.isAtMost(Duration.toMillis(time), maxSleep + 150)
            }
          })
        )
        yield* until(Effect.map(limiter.state, ({ held, waiting }) => held + waiting === 0))
      }).pipe(Effect.provide(RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layer({ url: server.url })))))
    })
  )

  it.live("holds nothing for those who left while Redis was away, though for longer than a lease", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* Effect.gen(function* () {
        const options = { capacity: 5, expiry: "2 seconds", maxSleep: Number.POSITIVE_INFINITY } as const
        const limiter = yield* Semaphore.make({ name: "left", ...options })
        yield* limiter.withPermit(Effect.void)
        yield* until(Effect.map(limiter.state, ({ held }) => held === 0))
        yield* server.pause
        for (let i = 0; i < 3; i++) {
          const leaving = yield* start(limiter.withPermit(Effect.void))
          yield* Effect.sleep("50 millis")
          yield* Fiber.interrupt(leaving)
        }
        yield* Effect.sleep("2300 millis")
        yield* server.resume
        const [elapsed] = yield* Effect.timed(
          until(Effect.map(limiter.state, ({ held, waiting }) => held + waiting === 0))
        )
        assert.isBelow(Duration.toMillis(elapsed), 1000)
      }).pipe(Effect.provide(RedisSemaphoreLive.pipe(Layer.provide(quiet(RedisClient.layer({ url: server.url }))))))
    })
  )

  it.live("says at maxSleep why nobody has answered, whoever notices first that the time is up", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* server.kill
      const errors = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => index),
        Effect.fnUntraced(function* (index) {
          const limiter = yield* Semaphore.make({ name: `away${index}`, capacity: 1, maxSleep: 150 + index / 2 })
          return yield* Effect.flip(limiter.withPermit(Effect.void))
        }),
        { concurrency: "unbounded" }
      ).pipe(Effect.provide(RedisSemaphoreLive.pipe(Layer.provide(quiet(RedisClient.layer({ url: server.url }))))))
      for (const error of errors) {
        assert.deepInclude(error, { _tag: "BackendError", reason: "Unreachable" })
        assert.include(String((error as BackendError).cause), "ECONNREFUSED")
      }
    })
  )

  it.live(
    "has a permit back at once that was granted by an answer which came too late, long before its lease ends",
    () =>
      Effect.gen(function* () {
        const server = yield* startServer()
        const proxy = yield* startProxy(server)
        const make = Semaphore.make({ name: "late", capacity: 2, maxSleep: 300, expiry: "5 minutes" })
        const layer = Layer.provide(
          RedisSemaphoreLive,
          RedisClient.layer({ url: proxy.url, replyTimeout: "5 seconds" })
        )
        const limiter = yield* Effect.provideContext(make, yield* Layer.build(layer))
        yield* limiter.withPermit(Effect.void)
        proxy.mode = "dropReplies"
        const error = yield* Effect.flip(limiter.withPermits(2)(Effect.void))
        assert.deepInclude(error, { _tag: "BackendError", reason: "TimedOut" })
        proxy.mode = "pass"
        proxy.killConnections()
        yield* until(Effect.map(limiter.state, ({ held }) => held === 0))
      })
  )

  it.live("tells a holder in time when Redis can't be asked to renew, and ends its work", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const lease = 600
      yield* Effect.gen(function* () {
        const limiter = yield* Semaphore.make({ name: "unreachable", capacity: 1, expiry: lease })
        let isInterrupted = false
        const work = Effect.onInterrupt(Effect.andThen(server.pause, Effect.never), () =>
          Effect.sync(() => {
            isInterrupted = true
          })
        )
        const start = yield* Clock.currentTimeMillis
        const error = yield* Effect.flip(limiter.withPermit(work))
        const elapsed = (yield* Clock.currentTimeMillis) - start
        yield* server.resume
        assert.strictEqual(error._tag, "PermitLost")
        assert.isTrue(isInterrupted)
        assert.isAtLeast(elapsed, lease / 2)
        assert.isAtMost(elapsed, lease + 100)
      }).pipe(Effect.provide(RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layer({ url: server.url })))))
    })
  )

  it.live("renews and gives back while other requests of the process are refused, for there is no memory", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const client = quiet(RedisClient.layer({ url: server.url }))
      const make = Semaphore.make({ name: "full", capacity: 1, expiry: "1 second", maxSleep: "20 seconds" })
      const inProcess = Effect.flatMap(Layer.build(Layer.fresh(Layer.provide(RedisSemaphoreLive, client))), (context) =>
        Effect.provideContext(make, context)
      )
      const [limiter, other] = [yield* inProcess, yield* inProcess]
      const isSo = (held: number, waiting: number) =>
        until(Effect.map(other.state, (state) => state.held === held && state.waiting === waiting))
      const work = yield* Deferred.make<void>()
      const holder = yield* start(limiter.withPermit(Deferred.await(work)))
      yield* isSo(1, 0)
      const queued = yield* start(limiter.withPermit(Effect.void))
      yield* isSo(1, 1)
      yield* server.command("CONFIG", "SET", "maxmemory", 1)
      const refused = yield* start(limiter.withPermit(Effect.void))
      yield* Effect.sleep("1500 millis")
      assert.deepInclude(yield* other.state, { held: 1, waiting: 1 })
      yield* Fiber.interrupt(queued)
      yield* isSo(1, 0)
      yield* Deferred.succeed(work, undefined)
      yield* Fiber.join(holder)
      yield* isSo(0, 0)
      assert.isUndefined(refused.pollUnsafe())
      yield* server.command("CONFIG", "SET", "maxmemory", 0)
      yield* Fiber.join(refused)
    })
  )

  it.live("keeps a lease while one crowd waits and another asks, over a slow network", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      yield* Effect.gen(function* () {
        const options = { capacity: 1, expiry: "3 seconds", maxSleep: "1 minute" } as const
        const limiter = yield* Semaphore.make({ name: "crowded", ...options })
        // Calls take as many: fifty, one after the other.
        const crowd = Effect.forkChild(
          Effect.forEach(Array.from({ length: 50 * 128 }), () => limiter.withPermit(Effect.void), {
            concurrency: "unbounded",
            discard: true
          })
        )
        const work = yield* Deferred.make<void>()
        const holder = yield* start(limiter.withPermit(Deferred.await(work)))
        yield* until(Effect.map(limiter.state, ({ held }) => held === 1))
        const waiting = yield* crowd
        yield* until(Effect.map(limiter.state, (state) => state.waiting === 50 * 128))
        proxy.latency = 50
        const asking = yield* crowd
        yield* Effect.raceFirst(Effect.sleep("4500 millis"), Fiber.join(holder))
        yield* Deferred.succeed(work, undefined)
        yield* Fiber.join(holder)
        proxy.latency = 0
        yield* Fiber.interruptAll([waiting, asking])
      }).pipe(Effect.provide(RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layer({ url: proxy.url })))))
    })
  )

  it.live(
    "serves a hundred and thirty thousand callers who ask at the same time",
    () =>
      Effect.gen(function* () {
        const server = yield* startServer()
        yield* Effect.gen(function* () {
          const limiter = yield* Semaphore.make({ name: "crowd", capacity: 1000, maxSleep: "2 minutes" })
          const served: Array<number> = []
          yield* Effect.forEach(
            Array.from({ length: 130_000 }, (_, index) => index),
            (index) => limiter.withPermit(Effect.sync(() => served.push(index))),
            { concurrency: "unbounded", discard: true }
          )
          assert.strictEqual(new Set(served).size, 130_000)
          assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
        }).pipe(Effect.provide(RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layer({ url: server.url })))))
      }),
    120_000
  )

  it.live("serves large requests among small ones", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("weights", {
        client: RedisClient.layer({ url: server.url }),
        permits: [1, 1, 2, 5]
      })
      assertSound(result)
      assert.strictEqual(result.peak, capacity)
      assert.strictEqual(result.maxSleepExceeded, 0)
    })
  )
})
