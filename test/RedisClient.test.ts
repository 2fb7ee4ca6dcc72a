import { spawn } from "node:child_process"
import { once } from "node:events"
import { type AddressInfo, createServer } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Deferred, Effect, Exit, Fiber, Layer, Queue, Redacted, Scope } from "effect"
import { Redis as EffectRedis } from "effect/persistence"
import { Cluster, Redis } from "ioredis"
import { RedisClient, type RedisClientOptions } from "steindamm/redis"
import { inject } from "vitest"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { startProxy } from "./support/proxy.ts"
import { count, keyOf, quiet, reasonOf, run, script } from "./support/redisRun.ts"
import { connect, until as eventually, startCluster, startServer } from "./support/servers.ts"
import { firstUncaught } from "./support/uncaught.ts"

type RedisLayer = Layer.Layer<RedisClient | EffectRedis.Redis, unknown>

const echo = script("return ARGV", (reply) => reply as ReadonlyArray<string>)

const single = (keyPrefix = freshKeyPrefix()) => RedisClient.layer({ url: inject("redisUrl"), keyPrefix })
const cluster = (keyPrefix = freshKeyPrefix()) => RedisClient.layer({ nodes: [inject("clusterUrl")], keyPrefix })

const modes: ReadonlyArray<readonly [mode: "standalone" | "cluster", layer: (keyPrefix?: string) => RedisLayer]> = [
  ["standalone", single],
  ["cluster", cluster]
]

describe.each(modes)("RedisClient on %s", (mode, layer) => {
  it.live("runs scripts with keys and arguments, on every shard", () =>
    Effect.gen(function* () {
      const redis = yield* RedisClient
      assert.strictEqual(redis.mode, mode)
      const names = Array.from({ length: 50 }, (_, index) => `name ${index} {🪣}`)
      const counts = yield* Effect.forEach(names, (name) => Effect.flatMap(keyOf(name), (key) => run(count, [key])), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(
        counts,
        names.map(() => 1)
      )
      const args = ["", " ", "é🪣", "\r\n", "1"]
      assert.deepStrictEqual(yield* run(echo, [yield* keyOf("echo")], { args }), args)
    }).pipe(Effect.provide(layer()))
  )

  it.live("sends the source to a server that does not know the script, while scripts are flushed all the time", () =>
    Effect.gen(function* () {
      const { send } = yield* EffectRedis.Redis
      const flushing = yield* Effect.forkChild(Effect.forever(send("SCRIPT", "FLUSH")))
      const keys = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => keyOf(`flushed ${n}`))
      const callers = keys.flatMap((key) => Array.from({ length: 40 }, () => key))
      yield* Effect.forEach(callers, (key) => Effect.repeat(run(count, [key]), { times: 4 }), {
        concurrency: "unbounded",
        discard: true
      })
      yield* Fiber.interrupt(flushing)
      for (const key of keys) assert.strictEqual(yield* run(count, [key]), 201)
    }).pipe(Effect.provide(layer()))
  )

  it.live("keeps keys of different prefixes apart", () =>
    Effect.gen(function* () {
      const once = Effect.flatMap(keyOf("same"), (key) => run(count, [key]))
      assert.strictEqual(yield* Effect.provide(once, layer()), 1)
      assert.strictEqual(yield* Effect.provide(once, layer()), 1)
    })
  )

  it.live("fails at once for a key of another type, a script that fails, and a reply that can't be read", () =>
    Effect.gen(function* () {
      const key = yield* keyOf("broken")
      yield* run(script("return redis.call('LPUSH', KEYS[1], 'a')", Number), [key])
      assert.strictEqual(yield* reasonOf(count, [key]), "WrongType")
      assert.strictEqual(yield* reasonOf(script("return nothing.here", String), [key]), "Script")
      assert.strictEqual(yield* reasonOf(script("not Lua", String), [key]), "Script")
      const unreadable = script("return 1", () => {
        throw new Error("unreadable")
      })
      assert.strictEqual(yield* reasonOf(unreadable, [key]), "Script")
    }).pipe(Effect.provide(layer()))
  )

  it.live("tells operation, name and cause of a failure", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        run(script("return redis.error_reply('WRONGTYPE mine')", String), [yield* keyOf("a")])
      )
      assert.deepInclude(
        { ...error },
        { _tag: "BackendError", operation: "test", name: "limiter", reason: "WrongType" }
      )
      assert.match(String(error.cause), /WRONGTYPE mine/)
    }).pipe(Effect.provide(layer()))
  )

  it.live("lets callers go when they are interrupted, and serves the others", () =>
    Effect.gen(function* () {
      const key = yield* keyOf("interrupted")
      const fibers = yield* Effect.forEach(Array.from({ length: 200 }), () => Effect.forkChild(run(count, [key])))
      yield* Effect.forEach(
        fibers.filter((_, index) => index % 2 === 0),
        Fiber.interrupt,
        { concurrency: "unbounded" }
      )
      const counts = yield* Effect.forEach(
        fibers.filter((_, index) => index % 2 === 1),
        Fiber.join
      )
      assert.strictEqual(new Set(counts).size, 100)
    }).pipe(Effect.provide(layer()))
  )

  it.live("does not send a call whose deadline has passed", () =>
    Effect.gen(function* () {
      const key = yield* keyOf("late")
      assert.strictEqual(yield* reasonOf(count, [key], { within: 0 }), "TimedOut")
      assert.strictEqual(yield* run(count, [key]), 1)
    }).pipe(Effect.provide(layer()))
  )

  it.live("is closed with its layer, and fails calls from then on", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(layer(), scope)
      yield* Effect.provide(run(count, ["{a}"]), context)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Effect.provide(reasonOf(count, ["{a}"]), context), "Closed")
    })
  )
})

describe.each(modes)("push messages on %s", (_mode, layer) => {
  const publish = script("return redis.call(ARGV[1], ARGV[2], ARGV[3])", Number)

  const publishTo = (channel: string, message: string) =>
    Effect.flatMap(RedisClient, ({ publishCommand }) =>
      run(publish, [channel], { args: [publishCommand, channel, message], within: "10 seconds" })
    )

  /** A subscription whose messages and establishments are waited for. */
  const listen = Effect.fnUntraced(function* (channel: string) {
    const messages = yield* Queue.unbounded<string>()
    const established = yield* Queue.unbounded<true>()
    const redis = yield* RedisClient
    yield* redis.subscribe(channel, {
      onMessage: (message) => void Queue.offerUnsafe(messages, message),
      onEstablished: () => void Queue.offerUnsafe(established, true)
    })
    return { message: Queue.take(messages), established: Queue.take(established), messages }
  })

  it.live("arrive from scripts, at every subscriber of a channel and at no other", () =>
    Effect.gen(function* () {
      const channels = yield* Effect.forEach(["one", "two", "three", "four"], keyOf)
      const listeners = yield* Effect.forEach([...channels, ...channels], listen)
      for (const { established } of listeners) yield* established
      for (const channel of channels) yield* publishTo(channel, `to ${channel}`)
      for (const [index, { message }] of listeners.entries()) {
        assert.strictEqual(yield* message, `to ${channels[index % channels.length]}`)
      }
      for (const { messages } of listeners) assert.strictEqual(yield* Queue.size(messages), 0)
    }).pipe(Effect.provide(layer()))
  )

  it.live("stop when the scope of the subscription closes", () =>
    Effect.gen(function* () {
      const channel = yield* keyOf("short")
      yield* Effect.scoped(Effect.flatMap(listen(channel), ({ established }) => established))
      yield* eventually(Effect.map(publishTo(channel, "unheard"), (receivers) => receivers === 0))
    }).pipe(Effect.provide(layer()))
  )

  it.live("arrive at the others when a subscriber throws, and at all of them afterwards", () =>
    Effect.gen(function* () {
      const uncaught = yield* firstUncaught
      const channel = yield* keyOf("thrown at")
      const mistake = new Error("a subscriber's mistake")
      const redis = yield* RedisClient
      yield* redis.subscribe(channel, {
        onMessage: () => {
          throw mistake
        },
        onEstablished: () => {}
      })
      const { established, message } = yield* listen(channel)
      yield* established
      for (const sent of ["one", "two"]) {
        yield* publishTo(channel, sent)
        assert.strictEqual(yield* message, sent)
      }
      assert.strictEqual(yield* uncaught, mistake)
    }).pipe(Effect.provide(layer()))
  )

  it.live("start for a late subscriber of a channel at once", () =>
    Effect.gen(function* () {
      const channel = yield* keyOf("shared")
      yield* Effect.flatMap(listen(channel), ({ established }) => established)
      const late = yield* listen(channel)
      yield* late.established
      yield* publishTo(channel, "hello")
      assert.strictEqual(yield* late.message, "hello")
    }).pipe(Effect.provide(layer()))
  )
})

describe("push messages survive", () => {
  const publish = script("return redis.call('SPUBLISH', KEYS[1], ARGV[1])", Number)

  it.live("killed connections, and tell that they have been established again", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        const established = yield* Queue.unbounded<true>()
        const messages = yield* Queue.unbounded<string>()
        yield* redis.subscribe("news", {
          onMessage: (message) => void Queue.offerUnsafe(messages, message),
          onEstablished: () => void Queue.offerUnsafe(established, true)
        })
        for (let round = 0; round < 5; round++) {
          yield* Queue.take(established)
          assert.strictEqual(yield* server.command("PUBLISH", "news", round), 1)
          assert.strictEqual(yield* Queue.take(messages), String(round))
          yield* server.command("CLIENT", "KILL", "TYPE", "pubsub")
        }
        yield* Queue.take(established)
        yield* server.kill
        yield* server.start()
        yield* Queue.take(established)
        assert.strictEqual(yield* server.command("PUBLISH", "news", "again"), 1)
      }).pipe(Effect.provide(quiet(RedisClient.layer({ url: server.url }))))
    })
  )

  it.live("a connection that has become half-open", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        const established = yield* Queue.unbounded<true>()
        yield* redis.subscribe("news", {
          onMessage: () => {},
          onEstablished: () => void Queue.offerUnsafe(established, true)
        })
        yield* Queue.take(established)
        proxy.goHalfOpen()
        yield* Queue.take(established)
      }).pipe(Effect.provide(quiet(RedisClient.layer({ url: proxy.url, replyTimeout: 200 }))))
    })
  )

  it.live("the moving of their slot to another node", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        const established = yield* Queue.unbounded<true>()
        const messages = yield* Queue.unbounded<string>()
        yield* redis.subscribe("{a}", {
          onMessage: (message) => void Queue.offerUnsafe(messages, message),
          onEstablished: () => void Queue.offerUnsafe(established, true)
        })
        const slot = redis.slotOf("{a}")
        for (let round = 0; round < 3; round++) {
          yield* Queue.take(established)
          yield* eventually(
            Effect.map(
              run(publish, ["{a}"], { args: [String(round)], retryLost: true }),
              (receivers) => receivers === 1
            )
          )
          assert.strictEqual(yield* Queue.take(messages), String(round))
          const owner = yield* cluster.ownerOf(slot)
          const next = cluster.primaries[(cluster.primaries.indexOf(owner) + 1) % 3] ?? owner
          yield* cluster.moveSlot(slot, next)
        }
        yield* Queue.take(established)
      }).pipe(Effect.provide(quiet(RedisClient.layer({ nodes: [cluster.url] }))))
    })
  )
})

describe("connections", () => {
  it.live("are opened when they are needed, and all closed with the layer", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const observer = yield* connect(server)
      const clients = Effect.promise(async () =>
        Number(/connected_clients:(\d+)/.exec(await observer.info("clients"))?.[1])
      )
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        assert.strictEqual(yield* clients, 1)
        yield* run(count, ["{a}"])
        assert.strictEqual(yield* clients, 2)
        yield* redis.subscribe("news", { onMessage: () => {}, onEstablished: () => {} })
        yield* eventually(Effect.map(clients, (n) => n === 3))
      }).pipe(Effect.provide(RedisClient.layer({ url: server.url })), Effect.scoped)
      yield* eventually(Effect.map(clients, (n) => n === 1))
    })
  )

  it("let the process end when the layer is closed, whatever state they are in", async () => {
    const program = `
      import { Effect } from "effect"
      import { RedisClient } from "steindamm/redis"
      const use = Effect.gen(function* () {
        const redis = yield* RedisClient
        yield* redis.subscribe("news", { onMessage: () => {}, onEstablished: () => {} })
        yield* redis.run({ name: "", source: "return 1", sha1: "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", decode: Number },
          ["{a}"], [], { operation: "test", deadline: Infinity, retryLost: true }).pipe(Effect.timeoutOption(300))
      })
      const { REDIS, CLUSTER } = process.env
      for (const layer of [RedisClient.layer({ url: REDIS }), RedisClient.layer({ nodes: [CLUSTER] }),
        RedisClient.layer({ url: "redis://127.0.0.1:1" }), RedisClient.layer({ nodes: ["redis://127.0.0.1:1"] }),
        RedisClient.layer({ sentinels: [{ host: "127.0.0.1", port: 1 }], name: "none" })]) {
        await Effect.runPromise(use.pipe(Effect.provide(layer), Effect.scoped))
      }
      const ended = performance.now()
      process.on("exit", () => console.log("waited", Math.round(performance.now() - ended)))`
    const child = spawn(process.execPath, ["--input-type=module", "--conditions=steindamm-source", "-e", program], {
      env: { ...process.env, REDIS: inject("redisUrl"), CLUSTER: inject("clusterUrl") },
      stdio: ["ignore", "pipe", "inherit"]
    })
    let output = ""
    child.stdout.on("data", (chunk) => {
      output += chunk
    })
    const [code] = await once(child, "close")
    assert.strictEqual(code, 0)
    // ioredis takes 2 seconds to let go of a sentinel.
    assert.isBelow(Number(/waited (\d+)/.exec(output)?.[1]), 4000)
  })

  it.live("of a borrowed client stay open, standalone and cluster", () =>
    Effect.gen(function* () {
      for (const client of [new Redis(inject("redisUrl")), new Cluster([inject("clusterUrl")])]) {
        yield* Effect.promise(() => client.ping())
        const prefix = freshKeyPrefix()
        const layer = RedisClient.fromClient(client, { keyPrefix: prefix })
        const key = yield* Effect.gen(function* () {
          const key = yield* keyOf("borrowed")
          assert.isTrue(key.startsWith(prefix))
          yield* run(count, [key])
          return key
        }).pipe(Effect.provide(layer))
        assert.strictEqual(client.status, "ready")
        assert.strictEqual(yield* Effect.promise(() => client.get(key)), "1")
        client.disconnect()
      }
    })
  )

  it.live("take no notice of how a borrowed client reconnects, reads replies or prefixes keys", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const options = {
        keyPrefix: "app:",
        stringNumbers: true,
        retryStrategy: () => null,
        lazyConnect: true,
        replyMapping: "resp3" as "legacy"
      }
      const client: Redis = new Redis(server.url, options)
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        assert.strictEqual(redis.keyPrefix, "app:steindamm:")
        const key = yield* keyOf("a")
        assert.strictEqual(key, "app:steindamm:{a}:token-bucket")
        assert.strictEqual(
          yield* run(
            script("return redis.call('INCR', KEYS[1])", (reply) => reply as number),
            [key]
          ),
          1
        )
        yield* server.command("CLIENT", "KILL", "TYPE", "normal")
        assert.strictEqual(yield* run(count, [key], { retryLost: true }), 2)
        assert.strictEqual(yield* server.command("GET", key), "2")
      }).pipe(Effect.provide(quiet(RedisClient.fromClient(client))))
      assert.strictEqual(client.status, "wait")
      client.disconnect()
    })
  )
})

describe("options", () => {
  const build = <A, E>(layer: Layer.Layer<A, E>) => Effect.scoped(Layer.build(layer))

  it.live("come from Config, by default from REDIS_URL", () =>
    Effect.gen(function* () {
      const env = { REDIS_URL: inject("redisUrl"), MY_URL: inject("redisUrl"), MY_PREFIX: freshKeyPrefix() }
      const provider = ConfigProvider.layer(ConfigProvider.fromEnv({ env }))
      const ping = run(script("return 'pong'", String), ["{a}"], { within: "5 seconds" })
      assert.strictEqual(yield* Effect.provide(ping, Layer.provide(RedisClient.layerConfig(), provider)), "pong")
      const config = {
        url: Config.Redacted("MY_URL"),
        keyPrefix: Config.String("MY_PREFIX"),
        replyTimeout: "1 second"
      } as const
      const keyPrefix = yield* Effect.provide(
        Effect.andThen(
          ping,
          RedisClient.useSync((redis) => redis.keyPrefix)
        ),
        Layer.provide(RedisClient.layerConfig(config), provider)
      )
      assert.strictEqual(keyPrefix, env.MY_PREFIX)
    })
  )

  it.live("that are wrong fail the layer, without giving away credentials", () =>
    Effect.gen(function* () {
      const wrong = [
        ["url", RedisClient.layer({ url: "http://user:secret@localhost" })],
        ["url", RedisClient.layer({ url: Redacted.make("") })],
        ["url", RedisClient.layer({ url: "redis://user:secret@localhost/staging" })],
        ["url", RedisClient.layer({ url: 6379 as never })],
        ["nodes", RedisClient.layer({ nodes: [] })],
        ["nodes", RedisClient.layer({ nodes: "redis://:secret@localhost" as never })],
        ["nodes", RedisClient.layer({ nodes: ["redis://localhost", "http://user:secret@localhost"] })],
        ["nodes", RedisClient.layer({ nodes: [undefined as never] })],
        ["client", RedisClient.fromClient("redis://localhost" as never)],
        ["client", RedisClient.fromClient(undefined as never)],
        ["name", RedisClient.layer({ sentinels: [{ host: "localhost" }] })],
        ["sentinels", RedisClient.layer({ sentinels: [], name: "group" })],
        ["sentinels", RedisClient.layer({ sentinels: ["localhost:26379"] as never, name: "group" })],
        ["sentinels", RedisClient.layer({ sentinels: [{ hostname: "localhost" }] as never, name: "group" })],
        ["url", RedisClient.layer({ url: "redis://:secret%@localhost" })],
        ["options", RedisClient.layer("redis://user:secret@localhost" as never)],
        ["options", RedisClient.layer(6379 as never)],
        ["options", RedisClient.layer(null as never)],
        ["options", RedisClient.layerConfig("redis://user:secret@localhost" as never)],
        ["options", RedisClient.layerConfig(Config.String("MISSING").pipe(Config.withDefault("redis")) as never)],
        ["options", RedisClient.fromClient(new Redis({ lazyConnect: true }), "limits:" as never)],
        ["prefix", RedisClient.fromClient(new Redis({ lazyConnect: true }), { prefix: "limits:" } as never)],
        ["hostname", RedisClient.layer({ hostname: "redis.example.com" } as never)],
        ["passwrod", RedisClient.layer({ host: "localhost", passwrod: "secret" } as never)],
        ["uri", RedisClient.layer({ uri: "redis://:secret@localhost" } as never)],
        ["uri", RedisClient.layerConfig({ uri: "redis://:secret@localhost" } as never)],
        ["redisOptions", RedisClient.layer({ url: "redis://localhost", redisOptions: {} } as never)],
        ["password", RedisClient.layer({ password: ["secret"] as never })],
        ["host", RedisClient.layer({ host: 127 as never })],
        ["port", RedisClient.layer({ port: -1 })],
        ["port", RedisClient.layer({ port: "default" as never })],
        ["db", RedisClient.layer({ db: 1.5 })],
        ["connectTimeout", RedisClient.layer({ connectTimeout: "5 seconds" as never })],
        ["noDelay", RedisClient.layer({ noDelay: "no" as never })],
        ["Connector", RedisClient.layer({ Connector: {} as never })],
        ["password", RedisClient.layer({ nodes: ["redis://localhost"], password: "secret" } as never)],
        ["redisOptions", RedisClient.layer({ nodes: ["redis://localhost"], redisOptions: "secret" as never })],
        ["user", RedisClient.layer({ nodes: ["redis://localhost"], redisOptions: { user: "secret" } as never })],
        ["nodes", RedisClient.layer({ nodes: [{ hostname: "localhost" } as never] })],
        ["keyPrefix", RedisClient.layer({ keyPrefix: "{x}" })],
        ["keyPrefix", RedisClient.layer({ keyPrefix: 5 as never })],
        ["replyTimeout", RedisClient.layer({ replyTimeout: 0 })],
        ["replyTimeout", RedisClient.layer({ replyTimeout: "soon" as "1 second" })],
        ["replyTimeout", RedisClient.layer({ replyTimeout: null as never })]
      ] as const
      for (const [field, layer] of wrong) {
        const error = yield* Effect.flip(build(layer))
        assert.deepInclude({ ...error }, { _tag: "InvalidOptions", field })
        assert.notInclude(error.message, "secret")
      }
    })
  )

  it.live("may be all that ioredis knows, also as variables of the environment have them", () =>
    build(
      Layer.mergeAll(
        RedisClient.layer({ ...new Redis({ lazyConnect: true }).options, keyPrefix: "x:" } as RedisClientOptions),
        RedisClient.layer({ host: "localhost", port: "6379" as never, db: "1" as never, tls: {}, password: undefined }),
        RedisClient.layer({ nodes: [{ host: "localhost", port: 1 }, 2, "3", "localhost:4"], slotsRefreshTimeout: 500 })
      )
    )
  )

  it.live("that ask for TLS are heeded, for nodes of a cluster and for Sentinels as well", () =>
    Effect.gen(function* () {
      for (const layerAt of [
        (address: string) => RedisClient.layer({ url: `rediss://${address}` }),
        (address: string) => RedisClient.layer({ url: `rediss-sentinel://${address}#group` }),
        (address: string) => RedisClient.layer({ nodes: [`rediss://${address}`] })
      ]) {
        const firstByte = yield* Deferred.make<number>()
        const server = createServer((socket) => {
          socket.on("error", () => {})
          socket.once("data", (data) => {
            Deferred.doneUnsafe(firstByte, Effect.succeed(Buffer.from(data).readUInt8()))
            socket.destroy()
          })
        })
        yield* Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening"))
        const { port } = server.address() as AddressInfo
        const call = Effect.provide(run(count, ["key"]), quiet(layerAt(`127.0.0.1:${port}`)))
        const handshake = 0x16
        assert.strictEqual(yield* Effect.raceFirst(Deferred.await(firstByte), Effect.as(call, 0)), handshake)
        server.close()
      }
    })
  )

  it.live("of a cluster's first URL hold for the nodes that are found through it", () =>
    Effect.gen(function* () {
      const { url, primaries } = yield* startCluster()
      for (const { command } of primaries) {
        yield* command("ACL", "SETUSER", "limits", "on", ">s%cret", "~*", "+@all")
        yield* command("ACL", "SETUSER", "default", "-@scripting")
      }
      const nodes = [url.replace("//", "//limits:s%25cret@")]
      const calls = Effect.forEach(["a", "b", "c", "d", "e", "f"], (key) => run(count, [key]))
      const counts = yield* Effect.provide(calls, RedisClient.layer({ nodes }))
      assert.deepStrictEqual(counts, [1, 1, 1, 1, 1, 1])
    })
  )

  it.live("name a database that Redis refuses, and no call reaches another one", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const call = Effect.gen(function* () {
        const failed = Effect.flip(run(count, ["key"], { within: "20 seconds" }))
        const { reason, cause } = yield* failed
        assert.strictEqual(reason, "Unknown")
        assert.include(String(cause), "out of range")
        // It is connected to again and again, but not in haste.
        yield* Effect.sleep("500 millis")
        assert.strictEqual((yield* failed).reason, "Unknown")
        const redis = yield* EffectRedis.Redis
        yield* Effect.flip(redis.send("INCR", "key"))
      })
      yield* call.pipe(Effect.provide(quiet(RedisClient.layer({ url: `${server.url}/99` }))))
      assert.strictEqual(yield* server.command("DBSIZE"), 0)
      const connections = /total_connections_received:(\d+)/.exec(String(yield* server.command("INFO", "stats")))
      assert.isBelow(Number(connections?.[1]), 30)
    })
  )

  it.live("never fail the layer because Redis is away", () => build(RedisClient.layer({ host: "127.0.0.1", port: 1 })))
})

describe("Effect's own Redis service", () => {
  it.live.each(modes)("carries commands, scripts, messages and reserved connections on %s", ([, layer]) =>
    Effect.gen(function* () {
      const redis = yield* EffectRedis.Redis
      const key = `{${freshKeyPrefix()}}`
      const add = EffectRedis.script((key: string, n: number) => [key, n], {
        numberOfKeys: 1,
        lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])"
      }).withReturnType<number>()
      assert.strictEqual(yield* redis.eval(add)(key, 2), 2)
      assert.strictEqual(yield* redis.send("GET", key), "2")

      const messages = yield* redis.subscribe(key)
      yield* eventually(Effect.map(redis.send<number>("PUBLISH", key, "hello"), () => Queue.sizeUnsafe(messages) > 0))
      assert.deepStrictEqual(yield* Queue.take(messages), { channel: key, message: "hello" })

      const connection = yield* redis.reserve
      const waiting = yield* Effect.forkChild(connection.send("BLPOP", `${key}list`, "10"), { startImmediately: true })
      yield* redis.send("RPUSH", `${key}list`, "item")
      assert.deepStrictEqual(yield* Fiber.join(waiting), [`${key}list`, "item"])
    }).pipe(Effect.scoped, Effect.provide(layer()))
  )
})
