import { spawn } from "node:child_process"
import { once } from "node:events"
import { connect as connectTcp } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { startProxy } from "./support/proxy.ts"
import { connect, startCluster, startReplica, startSentinelGroup, startServer } from "./support/servers.ts"

describe("shared servers", () => {
  it("answer on standalone", async () => {
    const client = new Redis(inject("redisUrl"))
    assert.strictEqual(await client.ping(), "PONG")
    client.disconnect()
  })

  it("form a cluster whose slots are spread over three primaries", async () => {
    const client = new Redis(inject("clusterUrl"))
    const ranges = (await client.cluster("SLOTS")) as unknown as Array<[number, number, [string, number]]>
    client.disconnect()
    assert.strictEqual(new Set(ranges.map(([, , [, port]]) => port)).size, 3)
    for (const [first, last] of ranges) assert.isBelow(last - first, 16_384 / 2)
  })
})

describe("private servers", () => {
  it.live("start again with their data when they log it, and empty otherwise", () =>
    Effect.gen(function* () {
      const kept = yield* startServer({ appendOnly: true })
      const forgetful = yield* startServer()
      for (const server of [kept, forgetful]) {
        yield* server.command("SET", "key", "value")
        yield* server.kill
        yield* server.start()
      }
      assert.strictEqual(yield* kept.command("GET", "key"), "value")
      assert.isNull(yield* forgetful.command("GET", "key"))
      yield* kept.kill
      yield* kept.start({ empty: true })
      assert.isNull(yield* kept.command("GET", "key"))
    })
  )

  it.live("take configuration and passwords", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ config: { maxmemory: "3mb", requirepass: "secret" } })
      assert.deepStrictEqual(yield* server.command("CONFIG", "GET", "maxmemory"), ["maxmemory", "3145728"])
    })
  )

  it.live("stop answering while paused", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const client = yield* connect(server, { commandTimeout: 50 })
      yield* Effect.promise(() => client.ping())
      yield* server.pause
      const error = yield* Effect.flip(Effect.tryPromise({ try: () => client.ping(), catch: String }))
      assert.include(error, "timed out")
      yield* server.resume
    })
  )

  it.live("replicate", () =>
    Effect.gen(function* () {
      const primary = yield* startServer()
      const replica = yield* startReplica(primary)
      yield* primary.command("SET", "key", "value")
      yield* primary.command("WAIT", 1, 0)
      assert.strictEqual(yield* replica.command("GET", "key"), "value")
    })
  )

  it.live("move a slot from one primary to another with its keys", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      const slot = 12_182 // of "foo"
      const from = yield* cluster.ownerOf(slot)
      yield* from.command("SET", "foo", "value")
      const to = cluster.primaries.find((node) => node !== from) ?? from
      yield* cluster.moveSlot(slot, to)
      assert.strictEqual(yield* cluster.ownerOf(slot), to)
      assert.strictEqual(yield* to.command("GET", "foo"), "value")
    })
  )

  it.live("fail over to the replica of a Sentinel group", () =>
    Effect.gen(function* () {
      const group = yield* startSentinelGroup()
      yield* group.failover
      assert.include(String(yield* group.replica.command("ROLE")), "master")
    })
  )

  it("end with the process that started them, even if that is killed", async () => {
    const program = `
      import { Effect } from "effect"
      import { startServer } from ${JSON.stringify(new URL("./support/servers.ts", import.meta.url).href)}
      const server = await Effect.runPromise(Effect.flatMap(Effect.scope, (scope) => startServer()).pipe(
        Effect.tap((server) => Effect.sync(() => console.log(server.port))), Effect.andThen(Effect.never), Effect.scoped))`
    const owner = spawn(process.execPath, ["--input-type=module", "--conditions=steindamm-source", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"]
    })
    const [port] = await once(owner.stdout, "data")
    const socket = connectTcp(Number(port), "127.0.0.1")
    await once(socket, "connect")
    owner.kill("SIGKILL")
    // Only the end of the server closes the connection. Its port may by now be somebody else's.
    await Promise.race([once(socket, "close"), once(socket, "error")])
  })
})

describe("proxy", () => {
  it.live("cuts a reply after the server has run the command", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const client = yield* connect(proxy)
      yield* Effect.promise(() => client.ping())
      proxy.cutReplies(1, (request) => /incr/i.test(request))
      const lost = yield* Effect.exit(Effect.tryPromise(() => client.incr("counter")))
      assert.isTrue(lost._tag === "Failure")
      assert.strictEqual(yield* server.command("GET", "counter"), "1")
      assert.strictEqual(proxy.counts.cut, 1)
    })
  )

  it.live("silences the connections that are open, and serves new ones", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const old = yield* connect(proxy, { commandTimeout: 50 })
      yield* Effect.promise(() => old.ping())
      proxy.goHalfOpen()
      const error = yield* Effect.flip(Effect.tryPromise({ try: () => old.ping(), catch: String }))
      assert.include(error, "timed out")
      const fresh = yield* connect(proxy)
      assert.strictEqual(yield* Effect.promise(() => fresh.ping()), "PONG")
    })
  )

  it.live("keeps requests and replies in order when it gets faster", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const client = yield* connect(proxy)
      const words = Array.from({ length: 20 }, (_, index) => String(index))
      const replies: Array<Promise<string>> = []
      for (const word of words) {
        proxy.latency = replies.length % 2 === 0 ? 20 : 0
        replies.push(client.echo(word))
        yield* Effect.sleep("2 millis")
      }
      assert.deepStrictEqual(yield* Effect.promise(() => Promise.all(replies)), words)
    })
  )

  it.live("delays, drops replies and kills connections", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const client = yield* connect(proxy)
      yield* Effect.promise(() => client.ping())
      proxy.latency = 20
      const started = performance.now()
      yield* Effect.promise(() => client.ping())
      assert.isAtLeast(performance.now() - started, 40)
      proxy.latency = 0
      proxy.mode = "dropReplies"
      const pending = client.incr("counter").then(
        () => "answered",
        () => "lost"
      )
      while (proxy.counts.dropped === 0) yield* Effect.sleep("1 millis")
      assert.strictEqual(yield* server.command("GET", "counter"), "1")
      proxy.killConnections()
      assert.strictEqual(yield* Effect.promise(() => pending), "lost")
      assert.strictEqual(proxy.counts.open, 0)
    })
  )
})
