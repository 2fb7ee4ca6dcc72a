import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Layer } from "effect"
import { TokenBucket } from "steindamm"
import { RedisClient, RedisTokenBucketLive } from "steindamm/redis"
import { excess, runSwarm, type SwarmOptions, type SwarmResult } from "./support/bucketSwarm.ts"
import { startProxy } from "./support/proxy.ts"
import { startCluster, startReplica, startServer } from "./support/servers.ts"
import { killAndFlush, moveAbout, putToSleep, restart, spoilNetwork } from "./support/troubles.ts"

const duration = 3000

/** A hundred a second, in steps that a test can tell from one another. */
const bucket = { name: "hungry", capacity: 10, refillAmount: 1, refillFrequency: 10, maxSleep: 1000 }

/** How old news may be under load. */
const age = 150

const swarm = (
  label: string,
  options: Pick<SwarmOptions, "client"> & Partial<SwarmOptions>
): Effect.Effect<SwarmResult> =>
  Effect.tap(
    Effect.orDie(runSwarm({ bucket, backends: 4, fibers: 5, duration, ...options })),
    ({ admissions, backendErrors, maxSleepExceeded, latest }) =>
      Effect.sync(() =>
        console.log(
          label,
          JSON.stringify({
            admitted: admissions.length,
            nominal: 10 + duration / 10,
            excess: Math.round(excess({ admissions }, bucket, 0)),
            maxSleepExceeded,
            backendErrors: backendErrors.length,
            latest: Math.round(latest)
          })
        )
      )
  )

const assertSound = (result: SwarmResult) => {
  assert.isAtMost(excess(result, bucket, age), 0)
  assert.isBelow(result.latest, 250)
}

/**
 * Everything that could be admitted, was: but for the last promises, which run after the end, and `lost` tokens. While
 * Redis is away the bucket fills, so that up to its capacity may lie in it at the end.
 */
const assertDelivered = ({ admissions, late }: SwarmResult, lost: number) => {
  const last = (admissions.at(-1) ?? 0) - late
  assert.isAtLeast(admissions.length, bucket.capacity + Math.floor(last / bucket.refillFrequency) - lost - 5)
}

describe("the token bucket over Redis", { timeout: 60_000 }, () => {
  it.live("delivers its rate when nothing is wrong", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("calm", { client: RedisClient.layer({ url: server.url }) })
      assertSound(result)
      assertDelivered(result, 0)
      assert.deepStrictEqual(result.backendErrors, [])
    })
  )

  it.live("charges once while connections are killed and scripts flushed twenty times a second", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const result = yield* swarm("killed", {
        client: RedisClient.layer({ url: proxy.url }),
        meanwhile: killAndFlush(server, proxy)
      })
      assertSound(result)
      assertDelivered(result, bucket.capacity)
      assert.deepStrictEqual(result.backendErrors, [])
    })
  )

  it.live("charges once when replies are cut, late, or never come", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const result = yield* swarm("bad network", {
        client: RedisClient.layer({ url: proxy.url, replyTimeout: "100 millis" }),
        meanwhile: spoilNetwork(proxy, { latency: 20, silentOneIn: 5, duration: 2 * duration })
      })
      assert.isAbove(proxy.counts.cut, 10)
      assertSound(result)
      assertDelivered(result, 60)
    })
  )

  it.live("answers by maxSleep while the server sleeps, and goes on when it wakes", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("asleep", {
        client: RedisClient.layer({ url: server.url }),
        meanwhile: putToSleep(server, "500 millis")
      })
      assertSound(result)
      assert.isAbove(result.backendErrors.length, 0)
      assert.isAbove(result.admissions.at(-1) ?? 0, 2500)
    })
  )

  it.live("keeps what is owed when the server is killed and comes back with its data", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ appendOnly: true })
      const result = yield* swarm("restarted", {
        client: RedisClient.layer({ url: server.url }),
        meanwhile: restart(server, "1 second")
      })
      assertSound(result)
      assertDelivered(result, bucket.capacity)
    })
  )

  it.live("admits at most one capacity and what was promised more when the server comes back empty", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const result = yield* swarm("restarted empty", {
        client: RedisClient.layer({ url: server.url }),
        meanwhile: restart(server, "1 second", { empty: true })
      })
      const promised = 20
      assert.isAtMost(excess(result, bucket, age), bucket.capacity + promised)
    })
  )

  it.live("follows its slot to another node under load", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      let moves = 0
      const result = yield* swarm("migrated", {
        client: RedisClient.layer({ nodes: [cluster.url] }),
        meanwhile: moveAbout(cluster, { kind: "TokenBucket", name: bucket.name }, () => moves++)
      })
      assert.isAtLeast(moves, 2)
      assertSound(result)
      assertDelivered(result, bucket.capacity)
      assert.deepStrictEqual(result.backendErrors, [])
    })
  )

  it.live("goes on with the replica that was promoted", () =>
    Effect.gen(function* () {
      const primary = yield* startServer()
      const replica = yield* startReplica(primary)
      const proxy = yield* startProxy(primary)
      const chaos = Effect.gen(function* () {
        yield* Effect.sleep("1 second")
        yield* replica.command("REPLICAOF", "NO", "ONE")
        proxy.target = replica
        proxy.killConnections()
        yield* primary.kill
      })
      const result = yield* swarm("promoted", { client: RedisClient.layer({ url: proxy.url }), meanwhile: chaos })
      // What the primary had not passed on yet is granted once more: at most one capacity and what was promised.
      assert.isAtMost(excess(result, bucket, age), bucket.capacity + 20)
      assertDelivered(result, bucket.capacity)
    })
  )

  it.live("fails with the reason when the server is out of memory, and goes on when it has some", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const chaos = Effect.gen(function* () {
        yield* Effect.sleep("500 millis")
        yield* server.command("CONFIG", "SET", "maxmemory", 1)
        yield* Effect.sleep("1500 millis")
        yield* server.command("CONFIG", "SET", "maxmemory", 0)
      })
      const result = yield* swarm("out of memory", { client: RedisClient.layer({ url: server.url }), meanwhile: chaos })
      assertSound(result)
      assert.isTrue(result.backendErrors.some(({ reason }) => reason === "OutOfMemory"))
      assert.isAbove(result.admissions.at(-1) ?? 0, 2500)
    })
  )

  it.live("fails at once, and for this limiter only, when something else lives under its key", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const client = RedisClient.layer({ url: server.url })
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        yield* server.command("SET", redis.key({ kind: "TokenBucket", name: "taken" }), "something else")
        const taken = yield* TokenBucket.make({ name: "taken" })
        const other = yield* TokenBucket.make({ name: "other" })
        const [error, value] = yield* Effect.all(
          [Effect.flip(taken.withPermit(Effect.void)), other.withPermit(Effect.succeed("ran"))],
          { concurrency: "unbounded" }
        )
        assert.strictEqual(error._tag, "BackendError")
        assert.strictEqual(error._tag === "BackendError" && error.reason, "WrongType")
        assert.strictEqual(value, "ran")
      }).pipe(Effect.provide(RedisTokenBucketLive.pipe(Layer.provideMerge(client))))
    })
  )

  it.live("fails at once when the server refuses the credentials", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ config: { requirepass: "secret" } })
      const url = `redis://:wrong@${server.host}:${server.port}`
      const error = yield* Effect.flatMap(TokenBucket.make({ name: "locked" }), (limiter) =>
        Effect.flip(limiter.withPermit(Effect.void))
      ).pipe(Effect.provide(RedisTokenBucketLive.pipe(Layer.provide(RedisClient.layer({ url })))))
      assert.strictEqual(error._tag === "BackendError" && error.reason, "Unauthorized")
    })
  )

  it.live("behaves the same for a process whose clock is an hour off", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const clock = yield* Clock.Clock
      const hour = 3_600_000
      const skewed: Clock.Clock = {
        ...clock,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + hour,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + hour),
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: clock.monotonicTimeNanos,
        sleep: (duration) => clock.sleep(duration)
      }
      const client = RedisClient.layer({ url: server.url })
      const [right, wrong] = yield* Effect.all(
        [
          swarm("right clock", { client, backends: 1 }),
          Effect.provideService(swarm("an hour off", { client, backends: 1 }), Clock.Clock, skewed)
        ],
        { concurrency: "unbounded" }
      )
      const admissions = [...right.admissions, ...wrong.admissions].sort((a, b) => a - b)
      assert.isAtMost(excess({ admissions }, bucket, age), 0)
      assert.approximately(right.admissions.length / wrong.admissions.length, 1, 0.2)
    })
  )
})
