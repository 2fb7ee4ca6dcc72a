import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Limiter, Semaphore, TokenBucket } from "steindamm"
import { RedisClient, type RedisClientOptions, RedisLive } from "steindamm/redis"
import { runToEnd, steindamm } from "./support/command.ts"
import { type RedisServer, startCluster, startServer } from "./support/servers.ts"

const guide = readFileSync(new URL("../docs/redis.md", import.meta.url), "utf8")

/** As the guide gives them to a user. */
const rights = /^ACL SETUSER limits on >secret (.+)$/m.exec(guide)?.[1]?.split(" ") ?? []

const rightsOnCluster = /On a cluster add `([^`]+)`/.exec(guide)?.[1]?.split(" ") ?? []

const account = { username: "limits", password: "secret" }

const allow = (server: RedisServer, rules: ReadonlyArray<string>) =>
  server.command("ACL", "SETUSER", account.username, "on", `>${account.password}`, ...rules)

const denials = (server: RedisServer) =>
  Effect.map(server.command("ACL", "LOG"), (log) => (log as ReadonlyArray<ReadonlyArray<unknown>>).map(String))

const useEverything = Effect.gen(function* () {
  const bucket = yield* TokenBucket.make({
    name: "bucket",
    tag: "both",
    capacity: 2,
    refillFrequency: "20 millis",
    whenAway: { local: 0.5 }
  })
  const semaphore = yield* Semaphore.make({ name: "semaphore", tag: "both", capacity: 1, expiry: "1 second" })

  yield* Effect.forEach([1, 2, 3], () => bucket.withPermit(Effect.void), { concurrency: "unbounded" })
  const reservation = yield* bucket.reserve()
  yield* reservation.settle(0.5)
  yield* bucket.pause("20 millis")

  // Long enough to be renewed, and to be handed from one process to another.
  yield* Effect.forEach([1, 2], () => semaphore.withPermit(Effect.sleep("400 millis")), { concurrency: "unbounded" })
  yield* Limiter.all([bucket, semaphore]).withPermit(Effect.void)
  yield* semaphore.resize(2)
  yield* Effect.all([bucket.state, semaphore.state])
})

const inTwoProcesses = (options: RedisClientOptions) => {
  const process = () => Layer.fresh(RedisLive.pipe(Layer.provide(RedisClient.layer(options))))
  return Effect.all(
    [1, 2].map(() => Effect.provide(useEverything, process())),
    {
      concurrency: "unbounded",
      discard: true
    }
  )
}

/** What the command asks of Redis. */
const useCommand = (url: string) =>
  Effect.forEach([["top"], ["inspect", "bucket"], ["resize", "semaphore", "3"], ["reset", "bucket", "--yes"]], (args) =>
    Effect.gen(function* () {
      const REDIS_URL = url.replace("//", `//${account.username}:${account.password}@`)
      const { code, stderr } = yield* Effect.promise(() => runToEnd([...steindamm, ...args], { env: { REDIS_URL } }))
      assert.strictEqual(code, 0, `${args.join(" ")}: ${stderr}`)
    })
  )

describe("a user with the rights that the guide names", { timeout: 60_000 }, () => {
  it.live("may do all that limiters and the command do", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* allow(server, rights)
      yield* inTwoProcesses({ host: server.host, port: server.port, ...account })
      yield* useCommand(server.url)
      assert.deepStrictEqual(yield* denials(server), [])
    })
  )

  it.live("may do all that limiters and the command do on a cluster", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      yield* Effect.forEach(cluster.primaries, (server) => allow(server, [...rights, ...rightsOnCluster]))
      yield* inTwoProcesses({ nodes: [cluster.url], redisOptions: account })
      yield* useCommand(cluster.url)
      for (const server of cluster.primaries) assert.deepStrictEqual(yield* denials(server), [])
    })
  )
})
