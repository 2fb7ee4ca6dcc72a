import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { examine, micros, sectionsOf } from "./support/history.ts"
import { startProxy } from "./support/proxy.ts"
import { each, emptied, end, go, lease, say, sceneAt } from "./support/semaphoreScene.ts"
import { type RedisServer, startReplica, startServer } from "./support/servers.ts"

const capacity = 5

/** How far the log of writes has come. */
const offsetOf = (server: RedisServer, field: "master_repl_offset" | "slave_repl_offset") =>
  Effect.map(server.command("INFO", "replication"), (info) =>
    Number(new RegExp(`${field}:(\\d+)`).exec(String(info))?.[1])
  )

/** A primary whose replica may be cut off, and processes that find whichever of the two is the primary now. */
const failoverScene = Effect.fnUntraced(function* (name: string) {
  const primary = yield* startServer()
  const replication = yield* startProxy(primary)
  const replica = yield* startReplica(replication)
  const address = yield* startProxy(primary)
  const promote = Effect.gen(function* () {
    yield* replica.command("REPLICAOF", "NO", "ONE")
    address.target = replica
    address.killConnections()
    yield* primary.kill
    return micros()
  })
  const missed = Effect.zipWith(
    offsetOf(primary, "master_repl_offset"),
    offsetOf(replica, "slave_repl_offset"),
    (written, read) => written - read
  )
  const scene = yield* sceneAt(address.url, name, capacity, { fibers: 5, hold: [300, 900] })
  return { ...scene, promote, missed, cutOff: Effect.sync(replication.goHalfOpen) }
})

describe("a semaphore whose primary is replaced", { timeout: 60_000 }, () => {
  const failover = (name: string, lag: number) =>
    Effect.gen(function* () {
      const { processes, limiter, promote, missed, cutOff } = yield* failoverScene(name)
      const four = yield* processes.startMany(4, {})
      yield* each(four, go)
      yield* Effect.sleep("1 second")
      if (lag > 0) {
        yield* cutOff
        yield* Effect.sleep(lag)
      }
      const bytesMissed = yield* missed
      const promoted = yield* promote
      yield* Effect.sleep("2 seconds")
      yield* each(four, end)
      const settled = yield* emptied(limiter)
      const lines = processes.history()
      const found = examine(lines, capacity)
      const stalled = ((sectionsOf(lines).find(({ start }) => start > promoted)?.start ?? Infinity) - promoted) / 1000
      yield* say(name, { ...found, bytesMissed, stalled, settled })
      assert.strictEqual(found.unended, 0)
      assert.isAtMost(found.peak, 2 * capacity)
      assert.isAtMost(found.longestOverlap, lease)
      // By one clock, as here.
      assert.strictEqual(found.repeatedTokens + found.tokensOutOfOrder, 0)
      assert.isBelow(stalled, 2 * lease)
      return { ...found, bytesMissed }
    })

  it.live("goes on with a replica that knew nearly everything", () => failover("promoted", 0))

  it.live("overlaps for less than a lease when the replica has missed what was granted last", () =>
    Effect.gen(function* () {
      const { bytesMissed } = yield* failover("lagging", lease / 3)
      assert.isAbove(bytesMissed, 0)
    })
  )

  it.live("overlaps for less than a lease when every lease that the replica knew has ended", () =>
    Effect.gen(function* () {
      const { bytesMissed, lost } = yield* failover("long cut off", lease * 1.5)
      assert.isAbove(bytesMissed, 0)
      assert.isAbove(lost, 0)
    })
  )

  it.live("ends work within its lease when the primary notices that it is alone", () =>
    Effect.gen(function* () {
      const primary = yield* startServer()
      yield* startReplica(primary)
      const { processes, limiter } = yield* sceneAt(primary.url, "alone", 1, { fibers: 1, rounds: 1 })
      const holder = yield* processes.start({})
      yield* go(holder)
      yield* holder.wrote("in")
      // As if its replica had been silent for longer than `min-replicas-max-lag`.
      yield* primary.command("CONFIG", "SET", "min-replicas-to-write", 2)
      const refusedFrom = micros()
      yield* holder.wrote("lost")
      const [section] = sectionsOf(holder.history())
      const stoppedAfter = ((section?.end ?? Infinity) - refusedFrom) / 1000
      yield* say("alone", { stoppedAfter })
      assert.isAtMost(stoppedAfter, lease + 100)
      yield* primary.command("CONFIG", "SET", "min-replicas-to-write", 0)
      yield* end(holder)
      yield* emptied(limiter)
    })
  )
})
