import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { createTokenBucket } from "steindamm/promise"
import { RedisClient, type RedisClientOptions } from "steindamm/redis"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { startProxy, type TcpProxy } from "./support/proxy.ts"
import { count, keyOf, quiet, reasonOf, run, script, timed } from "./support/redisRun.ts"
import {
  connect,
  type RedisServer,
  sentinelUrl,
  startCluster,
  startReplica,
  startSentinelGroup,
  startServer,
  until
} from "./support/servers.ts"

const clientLayer = (options: RedisClientOptions) => quiet(RedisClient.layer(options))

const clientOf = (server: RedisServer | TcpProxy, replyTimeout = 2000) =>
  clientLayer({ host: server.host, port: server.port, replyTimeout, keyPrefix: freshKeyPrefix() })

/** Calls that fail for now: the reason comes by their deadline, wherever in an attempt that falls, and not before. */
const failsUntilDeadline = (reason: string, key: string) =>
  Effect.forEach(
    Array.from({ length: 50 }, (_, index) => 300 + index),
    Effect.fnUntraced(function* (within) {
      const [millis, found] = yield* timed(reasonOf(count, [key], { within }))
      assert.strictEqual(found, reason)
      assert.isAtLeast(millis, within - 1)
      assert.isBelow(millis, within + 1000) // a busy machine may be late
    }),
    { concurrency: "unbounded", discard: true }
  )

/** A call that fails for now waits until Redis is well again, and then runs once. */
const waitsFor = Effect.fnUntraced(function* (recovery: Effect.Effect<unknown>, key: string, counted = 1) {
  const waiting = yield* Effect.forkChild(run(count, [key], { within: "20 seconds" }), { startImmediately: true })
  yield* Effect.sleep("20 millis")
  assert.isUndefined(waiting.pollUnsafe())
  yield* recovery
  assert.strictEqual(yield* Fiber.join(waiting), counted)
})

describe("while Redis refuses, a call waits for it by its deadline", () => {
  it.live("ReadOnly: a replica, until it is promoted", () =>
    Effect.gen(function* () {
      const replica = yield* startReplica(yield* startServer())
      yield* Effect.gen(function* () {
        yield* failsUntilDeadline("ReadOnly", "{a}")
        yield* waitsFor(replica.command("REPLICAOF", "NO", "ONE"), "{a}")
      }).pipe(Effect.provide(clientOf(replica)))
    })
  )

  it.live("Loading: a server that reads its data", () =>
    Effect.gen(function* () {
      const server = yield* startServer({
        appendOnly: true,
        config: {
          rdbcompression: "no",
          "key-load-delay": "500",
          "loading-process-events-interval-bytes": "1024"
        }
      })
      const fill = "for i = 1, 5000 do redis.call('SET', 'filling' .. i, string.rep('x', 100)) end"
      yield* server.command("EVAL", fill, 0)
      yield* server.command("BGREWRITEAOF")
      const rewrites = Effect.map(server.command("INFO", "persistence"), String)
      yield* until(
        Effect.map(rewrites, (info) => info.includes("aof_rewrite_in_progress:0") && info.includes("aof_rewrites:1"))
      )
      yield* server.kill
      yield* server.start({ until: "listening" })
      yield* Effect.gen(function* () {
        yield* failsUntilDeadline("Loading", "{a}")
        yield* waitsFor(Effect.void, "{a}")
      }).pipe(Effect.provide(clientOf(server)))
    })
  )

  it.live("OutOfMemory: maxmemory is reached", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ config: { maxmemory: "1" } })
      yield* Effect.gen(function* () {
        yield* failsUntilDeadline("OutOfMemory", "{a}")
        yield* waitsFor(server.command("CONFIG", "SET", "maxmemory", 0), "{a}")
      }).pipe(Effect.provide(clientOf(server)))
    })
  )

  it.live("Misconfigured: too few replicas, or a save that failed", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ config: { save: "3600 1", "min-replicas-to-write": "1" } })
      yield* Effect.gen(function* () {
        yield* failsUntilDeadline("Misconfigured", "{a}")
        yield* waitsFor(server.command("CONFIG", "SET", "min-replicas-to-write", 0), "{a}")

        const [, dir] = (yield* server.command("CONFIG", "GET", "dir")) as [string, string]
        yield* Effect.promise(() => mkdir(join(dir, "dump.rdb"))) // so that no file can take its place
        yield* server.command("BGSAVE")
        const saves = Effect.map(server.command("INFO", "persistence"), String)
        yield* until(Effect.map(saves, (info) => info.includes("rdb_last_bgsave_status:err")))
        yield* failsUntilDeadline("Misconfigured", "{a}")
        yield* waitsFor(server.command("CONFIG", "SET", "save", ""), "{a}", 2)
      }).pipe(Effect.provide(clientOf(server)))
    })
  )

  it.live("Busy: a script that does not end", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ config: { "busy-reply-threshold": "20" } })
      const blocker = yield* connect(server)
      yield* Effect.gen(function* () {
        yield* run(count, ["{a}"])
        const blocked = blocker.eval("while true do end", 0).catch(() => {})
        const ping = Effect.tryPromise({ try: () => connectAndPing(server), catch: String })
        yield* until(Effect.match(ping, { onFailure: (error) => error.includes("BUSY"), onSuccess: () => false }))
        yield* failsUntilDeadline("Busy", "{a}")
        yield* waitsFor(server.command("SCRIPT", "KILL"), "{a}", 2)
        yield* Effect.promise(() => blocked)
      }).pipe(Effect.provide(clientOf(server)))
    })
  )

  it.live("Unreachable: no server, until there is one", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* server.kill
      yield* Effect.gen(function* () {
        yield* failsUntilDeadline("Unreachable", "{a}")
        yield* waitsFor(server.start(), "{a}")
      }).pipe(Effect.provide(clientOf(server)))
    })
  )

  it.live("ClusterDown: nobody serves the slot", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      const slot = 15_495 // of "{a}"
      const owner = yield* cluster.ownerOf(slot)
      const everywhere = (...command: ReadonlyArray<string>) =>
        Effect.forEach(cluster.primaries, (node) => node.command("CLUSTER", ...command, slot), { discard: true })
      yield* everywhere("DELSLOTS")
      yield* Effect.gen(function* () {
        yield* failsUntilDeadline("ClusterDown", "{a}")
        yield* waitsFor(owner.command("CLUSTER", "ADDSLOTS", slot), "{a}")
      }).pipe(Effect.provide(clientLayer({ nodes: cluster.primaries.map(({ url }) => url) })))
    })
  )
})

const connectAndPing = (server: RedisServer): Promise<unknown> =>
  Effect.runPromise(
    Effect.scoped(
      Effect.flatMap(connect(server, { disableClientInfo: true, protocol: 2 }), (client) =>
        Effect.promise(() => client.call("PING"))
      )
    )
  )

describe("what no repetition would help fails at once", () => {
  const failsAtOnce = Effect.fnUntraced(function* (reason: string) {
    const [millis, found] = yield* timed(reasonOf(count, ["{a}"], { within: "20 seconds" }))
    assert.strictEqual(found, reason)
    assert.isBelow(millis, 5000)
  })

  it.live("Unauthorized: no password, a wrong one, or a user who may not, be it only within a script", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ config: { requirepass: "secret" } })
      yield* server.command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@read", "+@connection", "+info")
      yield* server.command("ACL", "SETUSER", "runner", "on", ">secret", "~*", "+@scripting", "+@connection", "+info")
      yield* server.command("ACL", "SETUSER", "stranger", "on", ">secret", "~other:*", "&*", "+@all")
      const { host, port } = server
      for (const credentials of [
        {},
        { password: "wrong" },
        { username: "reader", password: "secret" },
        { username: "runner", password: "secret" },
        { username: "stranger", password: "secret" }
      ]) {
        yield* Effect.provide(failsAtOnce("Unauthorized"), clientLayer({ host, port, ...credentials }))
      }
      assert.strictEqual(yield* Effect.provide(run(count, ["{a}"]), clientLayer({ url: server.url })), 1)
    })
  )

  it.live("WrongNode: one node of a cluster, taken for a server of its own", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      const owner = yield* cluster.ownerOf(15_495) // of "{a}"
      const other = cluster.primaries.find((node) => node !== owner) ?? owner
      yield* Effect.provide(failsAtOnce("WrongNode"), clientLayer({ url: other.url }))
      assert.strictEqual(yield* Effect.provide(run(count, ["{a}"]), clientLayer({ url: owner.url })), 1)
    })
  )
})

describe("when a connection fails under a call", () => {
  const evalsha = (request: string) => /evalsha/i.test(request)

  it.live("the call is not repeated unless the caller allows for it, for it may have run", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      yield* Effect.gen(function* () {
        yield* run(count, ["{a}"])
        proxy.cutReplies(1, evalsha)
        assert.strictEqual(yield* reasonOf(count, ["{a}"], { within: "20 seconds" }), "Unreachable")
        assert.strictEqual(yield* server.command("GET", "{a}"), "2")
        proxy.cutReplies(3, evalsha)
        assert.strictEqual(yield* run(count, ["{a}"], { within: "20 seconds", retryLost: true }), 6)
        assert.strictEqual(proxy.counts.cut, 4)
      }).pipe(Effect.provide(clientOf(proxy)))
    })
  )

  it.live("every call that succeeds has run once, while connections are killed many times a second", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* Effect.gen(function* () {
        const kill = Effect.andThen(server.command("CLIENT", "KILL", "TYPE", "normal"), Effect.sleep("20 millis"))
        const killing = yield* Effect.forkChild(Effect.forever(kill))
        const outcomes = yield* Effect.forEach(
          Array.from({ length: 20 }),
          () =>
            Effect.forEach(Array.from({ length: 200 }), () =>
              Effect.exit(run(count, ["{a}"], { within: "20 seconds" }))
            ),
          { concurrency: "unbounded" }
        )
        yield* Fiber.interrupt(killing)
        const succeeded = outcomes.flat().filter((exit) => exit._tag === "Success")
        const ran = Number(yield* server.command("GET", "{a}"))
        assert.strictEqual(new Set(succeeded.map((exit) => exit.value)).size, succeeded.length)
        assert.isAtLeast(ran, succeeded.length)
        assert.isAtMost(ran, 4000)
        assert.isAtLeast(succeeded.length, 2000)
      }).pipe(Effect.provide(clientOf(server)))
    })
  )

  it.live("a server that stands still does not keep callers beyond their deadlines", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* Effect.gen(function* () {
        yield* run(count, ["{a}"])
        yield* server.pause
        const late = yield* Effect.forEach(
          Array.from({ length: 200 }, (_, index) => 20 + index * 3),
          (within) =>
            Effect.map(timed(reasonOf(count, ["{a}"], { within, retryLost: true })), ([millis, reason]) => {
              assert.oneOf(reason, ["TimedOut", "Unreachable"])
              return millis - within
            }),
          { concurrency: "unbounded" }
        )
        assert.isBelow(Math.max(...late), 1000)
        assert.isAtLeast(Math.min(...late), -1)
        yield* waitsFor(server.resume, "{b}")
      }).pipe(Effect.provide(clientOf(server, 300)))
    })
  )

  it.live("a connection that has become half-open is given up, and another one serves", () =>
    Effect.gen(function* () {
      const proxy = yield* startProxy(yield* startServer())
      yield* Effect.gen(function* () {
        yield* run(count, ["{a}"])
        proxy.goHalfOpen()
        assert.strictEqual(yield* reasonOf(count, ["{a}"], { within: 50 }), "TimedOut")
        const [millis, counted] = yield* timed(run(count, ["{a}"], { within: "20 seconds", retryLost: true }))
        assert.strictEqual(counted, 2)
        assert.isBelow(millis, 5000)
        assert.strictEqual(proxy.counts.connections, 2)

        proxy.goHalfOpen()
        assert.strictEqual(yield* reasonOf(count, ["{a}"]), "TimedOut")
      }).pipe(Effect.provide(clientOf(proxy, 200)))
    })
  )

  it.live("a network that swallows everything is left as soon as it works again", () =>
    Effect.gen(function* () {
      const proxy = yield* startProxy(yield* startServer())
      proxy.mode = "blackhole"
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* reasonOf(count, ["{a}"], { within: 300 }), "Unreachable")
        yield* waitsFor(
          Effect.sync(() => {
            proxy.mode = "pass"
          }),
          "{a}"
        )
      }).pipe(Effect.provide(clientOf(proxy, 200)))
    })
  )

  it.live("a slow network only costs time", () =>
    Effect.gen(function* () {
      const proxy = yield* startProxy(yield* startServer())
      proxy.latency = 30
      yield* Effect.gen(function* () {
        const counts = yield* Effect.forEach(Array.from({ length: 50 }), () => run(count, ["{a}"]), {
          concurrency: "unbounded"
        })
        assert.strictEqual(new Set(counts).size, 50)
        assert.strictEqual(proxy.counts.connections, 1)
      }).pipe(Effect.provide(clientOf(proxy, 200)))
    })
  )
})

describe("when servers change their parts", () => {
  it.live("calls follow the primary of a Sentinel group, also of one that a URL names", () =>
    Effect.gen(function* () {
      const group = yield* startSentinelGroup()
      const { name, sentinels } = group
      yield* Effect.gen(function* () {
        const key = yield* keyOf("followed")
        yield* run(count, [key])
        yield* group.primary.command("WAIT", 1, 1000)
        yield* group.failover
        yield* group.primary.kill
        assert.strictEqual(yield* run(count, [key], { within: "20 seconds", retryLost: true }), 2)
        assert.strictEqual(yield* group.replica.command("GET", key), "2")
      }).pipe(Effect.provide(clientLayer({ sentinels, name })))
      const url = sentinelUrl(group)
      assert.strictEqual(yield* run(count, [freshKeyPrefix()]).pipe(Effect.provide(clientLayer({ url }))), 1)
      const bucket = createTokenBucket({ name: "sentinels", redis: url, keyPrefix: freshKeyPrefix() })
      assert.strictEqual(yield* Effect.promise(() => bucket.withPermit(() => "ran")), "ran")
      yield* Effect.promise(() => bucket.close())
    })
  )

  it.live("calls follow a slot that moves to another node, and run once", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        const keys = [1, 2, 3].map((part) => `{a}${part}`)
        const slot = redis.slotOf("{a}")
        const all = script("for _, key in ipairs(KEYS) do redis.call('INCR', key) end return 1", Number)
        let runs = 0
        const running = yield* Effect.forkChild(
          Effect.forever(Effect.tap(run(all, keys, { within: "20 seconds" }), () => Effect.sync(() => runs++)))
        )
        for (let round = 0; round < 6; round++) {
          const owner = yield* cluster.ownerOf(slot)
          const next = cluster.primaries[(cluster.primaries.indexOf(owner) + 1) % 3] ?? owner
          yield* cluster.moveSlot(slot, next, Effect.sleep("30 millis"))
        }
        const before = runs
        yield* until(Effect.sync(() => runs > before + 10 || running.pollUnsafe() !== undefined))
        yield* Fiber.interrupt(running)
        const owner = yield* cluster.ownerOf(slot)
        for (const key of keys) assert.closeTo(Number(yield* owner.command("GET", key)), runs, 1)
        assert.isAbove(runs, before)
      }).pipe(Effect.provide(clientLayer({ nodes: [cluster.url] })))
    })
  )

  it.live("calls on other nodes of a cluster go on while one stands still, and come back to it", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster({ config: { "cluster-node-timeout": "60000" } })
      const layer = clientLayer({ nodes: cluster.primaries.map(({ url }) => url), replyTimeout: 200 })
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        const stopped = yield* cluster.ownerOf(redis.slotOf("{a}"))
        const others = ["{b}", "{c}", "{d}", "{e}", "{f}"]
        const alive = yield* Effect.filter(others, (key) =>
          Effect.map(cluster.ownerOf(redis.slotOf(key)), (owner) => owner !== stopped)
        )
        assert.isNotEmpty(alive)
        yield* Effect.forEach(["{a}", ...alive], (key) => run(count, [key]))
        yield* stopped.pause
        assert.oneOf(yield* reasonOf(count, ["{a}"], { within: 500 }), ["TimedOut", "Unreachable"])
        for (const key of alive) assert.strictEqual(yield* run(count, [key], { within: "20 seconds" }), 2)
        yield* stopped.resume
        assert.isAtLeast(yield* run(count, ["{a}"], { within: "20 seconds", retryLost: true }), 2)
      }).pipe(Effect.provide(layer))
    })
  )
})
