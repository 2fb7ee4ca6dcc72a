import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Schema, type Scope } from "effect"
import { Semaphore, type SemaphoreLimiter, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import { limiterKey } from "../src/internal/limiterKeys.ts"
import { type Ended, runToEnd, steindamm } from "./support/command.ts"
import {
  type Backend,
  backend,
  command,
  failed,
  limits,
  misunderstood,
  succeeded,
  waiting
} from "./support/commandBackend.ts"
import { InspectDocument, ReleaseDocument, ResetDocument, ResizeDocument } from "./support/commandDocuments.ts"
import { sentinelUrl, startSentinelGroup, startServer, until } from "./support/servers.ts"
import { openTerminal } from "./support/terminal.ts"

const strictly = { onExcessProperty: "error" } as const

const decoderOf = <A>(document: Schema.Decoder<A>) =>
  Schema.decodeUnknownSync(Schema.fromJsonString(document), strictly)

const decodeInspect = decoderOf(InspectDocument)
const decodeRelease = decoderOf(ReleaseDocument)
const decodeResize = decoderOf(ResizeDocument)
const decodeReset = decoderOf(ResetDocument)

/** Works with a permit until that is lost, and tells why it was. */
const working = (semaphore: SemaphoreLimiter) =>
  Effect.gen(function* () {
    const begun = yield* Deferred.make<void>()
    const fiber = yield* Effect.forkScoped(
      Effect.flip(semaphore.withPermit(Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)))
    )
    yield* Deferred.await(begun)
    return fiber
  })

const holderOf = (semaphore: SemaphoreLimiter) =>
  Effect.map(semaphore.state, ({ holders }) => holders[0]?.id ?? "nobody")

for (const [where, isCluster] of [
  ["one server", false],
  ["a cluster", true]
] as const) {
  const onBackend = <A, E>(
    body: (backend: Backend) => Effect.Effect<A, E, TokenBucket | Semaphore | Scope.Scope>
  ): Effect.Effect<A, unknown, Scope.Scope> =>
    Effect.suspend(() => {
      const one = backend(inject(isCluster ? "clusterUrl" : "redisUrl"))
      return body(one).pipe(Effect.provide(limits(one, isCluster)))
    })

  describe(`steindamm on ${where}`, () => {
    it.live("inspects a semaphore: who holds, who waits and in what order", () =>
      onBackend((backend) =>
        Effect.gen(function* () {
          const semaphore = yield* Semaphore.make({ name: "database", capacity: 3, expiry: "20 seconds" })
          const first = yield* semaphore.acquire(2)
          const second = yield* semaphore.acquire()
          yield* waiting(semaphore, 3)
          yield* waiting(semaphore, 1)

          const { prefix, limiters } = decodeInspect(succeeded(yield* backend.run("inspect", "database", "--json")))
          assert.strictEqual(prefix, backend.prefix)
          assert.lengthOf(limiters, 1)
          const [report] = limiters
          if (report?.kind !== "semaphore") return assert.fail(`it is a ${report?.kind}`)
          const { capacity, resized, ownCapacities, inUse, holders, waiters } = report
          assert.deepStrictEqual(
            { capacity, resized, ownCapacities, inUse, waiting: report.waiting },
            {
              capacity: 3,
              resized: false,
              ownCapacities: [3],
              inUse: 3,
              waiting: 2
            }
          )
          assert.deepStrictEqual(
            holders.map(({ id, permits, fencingToken }) => ({ id, permits, fencingToken })),
            [first, second].map(({ id, permits, fencingToken }) => ({ id, permits, fencingToken }))
          )
          assert.deepStrictEqual(
            waiters.map(({ permits }) => permits),
            [3, 1]
          )
          for (const { leaseLeftMs } of [...holders, ...waiters]) {
            assert.isAbove(leaseLeftMs, 0)
            assert.isAtMost(leaseLeftMs, 20_000)
          }
          for (const { heldMs } of holders) assert.isBelow(heldMs, 20_000)
          assert.isAtLeast(waiters[0]?.waitingMs ?? 0, waiters[1]?.waitingMs ?? 0)

          const shown = succeeded(yield* backend.run("inspect", "database"))
          const ids = [...holders, ...waiters].map(({ id }) => shown.indexOf(id))
          assert.isAbove(Math.min(...ids), 0)
          assert.deepStrictEqual(
            ids,
            ids.toSorted((a, b) => a - b)
          )
        })
      )
    )

    it.live("inspects a token bucket: what it holds, what it owes, and its options", () =>
      onBackend((backend) =>
        Effect.gen(function* () {
          const bucket = yield* TokenBucket.make({
            name: "mail",
            capacity: 10,
            refillAmount: 2,
            refillFrequency: "1 hour",
            initialTokens: 8,
            maxSleep: 0
          })
          yield* bucket.reserve(5)
          yield* bucket.reserve(4.5)

          const inspected = decodeInspect(succeeded(yield* backend.run("inspect", "mail", "--json")))
          const [report] = inspected.limiters
          if (report?.kind !== "token-bucket") return assert.fail(`it is a ${report?.kind}`)
          const { waitMs, nextRefillMs, ...rest } = report
          assert.deepStrictEqual(rest, {
            kind: "token-bucket",
            name: "mail",
            tag: null,
            capacity: 10,
            tokens: 0,
            owed: 1.5,
            taken: 9.5,
            options: {
              refillAmount: 2,
              refillFrequencyMs: 3_600_000,
              initialTokens: 8,
              expiryMs: 60_000,
              windowStartTime: null
            }
          })
          assert.isAtMost(nextRefillMs ?? 0, 3_600_000)
          assert.isAbove(nextRefillMs ?? 0, 3_500_000)
          assert.isAtMost(Math.abs((waitMs ?? 0) - (nextRefillMs ?? 0) - 3_600_000), 1)

          const shown = succeeded(yield* backend.run("inspect", "mail"))
          assert.match(shown, /owed +1\.5/)
          assert.match(shown, /refill +2 every 1 h/)
        })
      )
    )

    it.live("shows every limiter of a name, or the kind that is asked for", () =>
      onBackend((backend) =>
        Effect.gen(function* () {
          yield* Effect.flatMap(TokenBucket.make({ name: "both" }), (bucket) => bucket.reserve())
          yield* Effect.flatMap(Semaphore.make({ name: "both" }), (semaphore) => semaphore.acquire())
          const kinds = (ended: Ended) => decodeInspect(succeeded(ended)).limiters.map(({ kind }) => kind)
          assert.deepStrictEqual(kinds(yield* backend.run("inspect", "both", "--json")), ["token-bucket", "semaphore"])
          assert.deepStrictEqual(kinds(yield* backend.run("inspect", "both", "--json", "--kind", "semaphore")), [
            "semaphore"
          ])
        })
      )
    )

    it.live("releases a holder, which is told by the time that it renews its lease, for who is next", () =>
      onBackend((backend) =>
        Effect.gen(function* () {
          const semaphore = yield* Semaphore.make({ name: "stuck", capacity: 1, expiry: "3 seconds" })
          const stuck = yield* working(semaphore)
          const id = yield* holderOf(semaphore)
          const next = yield* Effect.forkScoped(Effect.scoped(semaphore.acquire()))
          yield* until(Effect.map(semaphore.state, ({ waiting }) => waiting === 1))

          const released = decodeRelease(succeeded(yield* backend.run("release", "stuck", id, "--json")))
          assert.deepStrictEqual([released.name, released.id], ["stuck", id])
          const lost = yield* Fiber.join(stuck)
          assert.strictEqual(lost._tag, "PermitLost")
          assert.isAbove((yield* Fiber.join(next)).fencingToken, lost._tag === "PermitLost" ? lost.fencingToken : 0)
          yield* until(Effect.map(semaphore.state, ({ held }) => held === 0))

          assert.include(failed(yield* backend.run("release", "stuck", id)), `Nobody holds by the id "${id}"`)
        })
      )
    )

    it.live("resizes a semaphore for everyone, and leaves it to its programs again", () =>
      onBackend((backend) =>
        Effect.gen(function* () {
          const semaphore = yield* Semaphore.make({ name: "pool", capacity: 1 })
          yield* semaphore.acquire()
          yield* waiting(semaphore, 1)
          const resize = (capacity: string) =>
            Effect.map(backend.run("resize", "pool", capacity, "--json"), (ended) => {
              const { capacity, before } = decodeResize(succeeded(ended))
              return [capacity, before]
            })
          assert.deepStrictEqual(yield* resize("2"), [2, 1])
          const { capacity, held, waiting: stillWaiting } = yield* semaphore.state
          assert.deepStrictEqual([capacity, held, stillWaiting], [2, 2, 0])
          const [report] = decodeInspect(succeeded(yield* backend.run("inspect", "pool", "--json"))).limiters
          if (report?.kind !== "semaphore") return assert.fail(`it is a ${report?.kind}`)
          assert.deepStrictEqual([report.capacity, report.resized, report.ownCapacities], [2, true, [1]])
          assert.deepStrictEqual(yield* resize("0"), [null, 2])
          assert.strictEqual((yield* semaphore.state).capacity, 1)
        })
      )
    )

    it.live("resets a semaphore: who held a permit loses it", () =>
      onBackend((backend) =>
        Effect.gen(function* () {
          const semaphore = yield* Semaphore.make({ name: "jammed", capacity: 1, expiry: "3 seconds" })
          const holder = yield* working(semaphore)
          decodeReset(succeeded(yield* backend.run("reset", "jammed", "--yes", "--json")))
          assert.strictEqual((yield* semaphore.state).held, 0)
          assert.strictEqual((yield* Fiber.join(holder))._tag, "PermitLost")
        })
      )
    )

    it.live("resets a token bucket: it holds its initial tokens", () =>
      onBackend((backend) =>
        Effect.gen(function* () {
          const options = { name: "quota", capacity: 9, initialTokens: 7, refillAmount: 0, refillFrequency: 0 }
          const bucket = yield* TokenBucket.make(options)
          yield* bucket.reserve(7)
          assert.strictEqual((yield* bucket.state).tokens, 0)
          const { kind } = decodeReset(succeeded(yield* backend.run("reset", "quota", "-y", "--json")))
          assert.strictEqual(kind, "token-bucket")
          assert.strictEqual((yield* bucket.state).tokens, 7)
        })
      )
    )

    it.live("says so if nobody knows a limiter", () =>
      onBackend((backend) =>
        Effect.map(backend.run("inspect", "nobody"), (ended) => assert.include(failed(ended), `"nobody"`))
      )
    )
  })
}

describe("steindamm", () => {
  it.live("releases a holder at once if its process has ever waited", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      yield* Effect.gen(function* () {
        const semaphore = yield* Semaphore.make({ name: "long", capacity: 1, expiry: "1 hour", maxSleep: 0 })
        const stuck = yield* working(semaphore)
        yield* waiting(semaphore, 1)
        yield* until(
          Effect.map(command(one.url, "PUBSUB", "CHANNELS", `${one.prefix}*`), (channels) => String(channels) !== "")
        )
        succeeded(yield* one.run("release", "long", yield* holderOf(semaphore)))
        assert.strictEqual((yield* Fiber.join(stuck))._tag, "PermitLost")
      }).pipe(Effect.provide(limits(one, false)))
    })
  )

  it.live("releases nobody who only waits", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      yield* Effect.gen(function* () {
        const semaphore = yield* Semaphore.make({ name: "queue", capacity: 1 })
        yield* semaphore.acquire()
        yield* waiting(semaphore, 1)
        const [report] = decodeInspect(succeeded(yield* one.run("inspect", "queue", "--json"))).limiters
        const id = report?.kind === "semaphore" ? (report.waiters[0]?.id ?? "") : ""
        assert.include(failed(yield* one.run("release", "queue", id)), `"${id}" waits, and holds nothing`)
        assert.strictEqual((yield* semaphore.state).waiting, 1)
      }).pipe(Effect.provide(limits(one, false)))
    })
  )

  it.live("asks in a terminal before it resets, and does nothing else unless told so", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      yield* Effect.gen(function* () {
        const semaphore = yield* Semaphore.make({ name: "asked", capacity: 2 })
        yield* semaphore.acquire(2)
        const answer = Effect.fnUntraced(function* (keys: string) {
          const session = openTerminal([...steindamm, "reset", "asked", "--redis", one.url, "--prefix", one.prefix])
          yield* Effect.promise(() => session.until(/2 permits in use will be lost.*\(y\/N\)/))
          session.type(keys)
          return { code: yield* Effect.promise(() => session.ended), written: session.written() }
        })
        for (const [keys, code, sentence] of [
          ["n", 1, "Nothing was reset"],
          ["\r", 1, "Nothing was reset"],
          ["\u0003", 130, ""]
        ] as const) {
          const refused = yield* answer(keys)
          assert.strictEqual(refused.code, code)
          assert.include(refused.written, sentence)
          assert.strictEqual((yield* semaphore.state).held, 2)
        }
        const agreed = yield* answer("y")
        assert.strictEqual(agreed.code, 0)
        assert.include(agreed.written, `Reset: semaphore "asked" starts anew.`)
        assert.strictEqual((yield* semaphore.state).held, 0)
      }).pipe(Effect.provide(limits(one, false)))
    })
  )

  it.live("resets nothing where nobody can be asked", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      yield* Effect.gen(function* () {
        const semaphore = yield* Semaphore.make({ name: "unasked" })
        yield* semaphore.acquire()
        assert.include(misunderstood(yield* one.run("reset", "unasked")), "--yes")
        assert.strictEqual((yield* semaphore.state).held, 1)
      }).pipe(Effect.provide(limits(one, false)))
    })
  )

  it.live("finds limiters with tags by their names, and tells those of one name apart by their tags", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      yield* Effect.gen(function* () {
        const tags = ["airline", "theatre"]
        for (const tag of tags) {
          const semaphore = yield* Semaphore.make({ name: "seats", tag })
          yield* semaphore.acquire()
        }
        const tagsOf = (ended: Ended) => decodeInspect(succeeded(ended)).limiters.map(({ tag }) => tag)
        assert.sameMembers(tagsOf(yield* one.run("inspect", "seats", "--json")), tags)
        assert.deepStrictEqual(tagsOf(yield* one.run("inspect", "seats", "--json", "--tag", "theatre")), ["theatre"])
        assert.include(failed(yield* one.run("inspect", "seats", "--tag", "bus")), `with the tag "bus"`)

        assert.include(failed(yield* one.run("resize", "seats", "7")), "--tag")
        assert.strictEqual(
          decodeResize(succeeded(yield* one.run("resize", "seats", "7", "--tag", "airline", "--json"))).tag,
          "airline"
        )
        const capacities = yield* Effect.forEach(tags, (tag) =>
          Effect.flatMap(Semaphore.make({ name: "seats", tag }), ({ state }) =>
            Effect.map(state, ({ capacity }) => capacity)
          )
        )
        assert.deepStrictEqual(capacities, [7, 5])
      }).pipe(Effect.provide(limits(one, false)))
    })
  )

  it.live("asks a server that does not let it ask what kind of server it is", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* server.command("ACL", "SETUSER", "narrow", "on", "nopass", "~*", "&*", "+@all", "-info")
      const url = server.url.replace("//", "//narrow:any@")
      const ended = yield* Effect.promise(() => runToEnd([...steindamm, "inspect", "x", "--redis", url]))
      assert.include(failed(ended), `remembers no limiter "x"`)
    })
  )

  it.live("lets no name write to the terminal what isn't text", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      const name = "\u001B[2Jgone\u202E\n"
      yield* Effect.flatMap(TokenBucket.make({ name }), (bucket) => bucket.reserve()).pipe(
        Effect.provide(limits(one, false))
      )
      assert.include(succeeded(yield* one.run("inspect", name)), String.raw`"\u{1b}[2Jgone\u{202e}\u{a}"`)
    })
  )

  it.live("says in a sentence what is wrong with Redis, and nothing about passwords", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ config: { requirepass: "secret" } })
      const at = (credentials: string) => `redis://${credentials}${server.host}:${server.port}`
      const inspect = (url: string) => Effect.promise(() => runToEnd([...steindamm, "inspect", "x", "--redis", url]))

      assert.match(failed(yield* inspect(at(":secret@"))), /remembers no limiter "x"/)
      assert.include(failed(yield* inspect(at(""))), "NOAUTH")
      const refused = failed(yield* inspect(at(":wrong-secret@")))
      assert.include(refused, "WRONGPASS")
      assert.notInclude(refused, "wrong-secret")
      yield* server.kill
      const away = failed(yield* inspect(at(":secret@")))
      assert.include(away, "ECONNREFUSED")
      assert.notInclude(away, "secret")
    })
  )

  it.live("comes to an end where a cluster is not in order", () =>
    Effect.gen(function* () {
      const { url } = yield* startServer({ config: { "cluster-enabled": "yes" } })
      const run = (...args: ReadonlyArray<string>) =>
        Effect.promise(() => runToEnd([...steindamm, ...args, "--redis", url]))

      assert.include(failed(yield* run("inspect", "x")), "can't be reached")
      assert.include(failed(yield* run("resize", "x", "3")), "does not answer")
    })
  )

  it.live("says so if something else lives under a limiter's key", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      yield* command(one.url, "SET", limiterKey(one.prefix, { kind: "Semaphore", name: "taken" }), "by others")
      assert.include(failed(yield* one.run("inspect", "taken")), "holds something else under this limiter's key")
    })
  )

  it.live("takes the address from REDIS_URL", () =>
    Effect.gen(function* () {
      const env = { REDIS_URL: inject("redisUrl") }
      const ended = yield* Effect.promise(() => runToEnd([...steindamm, "inspect", "nobody"], { env }))
      assert.include(failed(ended), env.REDIS_URL)
    })
  )

  it.live("says so if Redis refuses the database", () =>
    Effect.gen(function* () {
      const { run } = backend(`${inject("redisUrl")}/99`)
      assert.include(failed(yield* run("top")), "refuses: ERR DB index is out of range")
    })
  )

  it.live("takes the path of a socket", () =>
    Effect.gen(function* () {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "steindamm-"))),
        (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
      )
      const path = join(directory, "redis.sock")
      yield* startServer({ config: { unixsocket: path } })
      const { run } = backend(path)
      assert.include(failed(yield* run("inspect", "nobody")), path)
      assert.include(succeeded(yield* run("top")), path)
    })
  )

  it.live("asks Sentinels for the primary", () =>
    Effect.gen(function* () {
      const group = yield* startSentinelGroup()
      const { run, prefix } = backend(sentinelUrl(group))
      const limiters = RedisLive.pipe(Layer.provide(RedisClient.layer({ url: group.primary.url, keyPrefix: prefix })))
      yield* Effect.gen(function* () {
        const semaphore = yield* Semaphore.make({ name: "database", capacity: 3 })
        yield* semaphore.acquire(2)
        assert.match(succeeded(yield* run("inspect", "database")), /in use +2/)
        assert.include(succeeded(yield* run("top")), "database")
      }).pipe(Effect.provide(limiters))
      const nowhere = backend("redis-sentinel://:secret@127.0.0.1:1,127.0.0.1:2#group")
      const error = failed(yield* nowhere.run("inspect", "database"))
      assert.include(error, "redis-sentinel://127.0.0.1:1,127.0.0.1:2#group does not answer")
    })
  )

  it.live("tells what it did not understand, on standard error, and ends with 2", () =>
    Effect.gen(function* () {
      const run = (...args: ReadonlyArray<string>) => Effect.promise(() => runToEnd([...steindamm, ...args]))
      assert.include(misunderstood(yield* run("inspect")), "Missing required argument: name")
      assert.include(misunderstood(yield* run("inspekt", "x")), "inspect")
      assert.include(misunderstood(yield* run("resize", "x", "-1")), "-1")
      assert.include(misunderstood(yield* run("resize", "x", "many")), "capacity")
      assert.include(misunderstood(yield* run("inspect", "x", "--colour")), "--colour")
      const wrong = [
        "localhost",
        "redis-sentinel://localhost",
        "redis-sentinel://localhost:many#group",
        "redis://%@localhost"
      ]
      for (const address of wrong) {
        assert.include(misunderstood(yield* run("inspect", "x", "--redis", address)), `"${address.replace("%@", "")}"`)
      }
      assert.include(
        misunderstood(yield* run("inspect", "x", "--prefix", "{x}", "--redis", inject("redisUrl"))),
        "--prefix"
      )
    })
  )

  it.live("explains itself", () =>
    Effect.gen(function* () {
      const run = (...args: ReadonlyArray<string>) => Effect.promise(() => runToEnd([...steindamm, ...args]))
      const help = succeeded(yield* run("--help"))
      for (const word of ["inspect", "release", "resize", "reset", "--redis", "--cluster", "--prefix", "--json"])
        assert.include(help, word)
      assert.strictEqual(succeeded(yield* run()), help)
      assert.match(succeeded(yield* run("--version")), /v\d+\.\d+\.\d+\n$/)
      for (const shell of ["bash", "zsh", "fish"]) {
        assert.include(succeeded(yield* run("--completions", shell)), "inspect")
      }
    })
  )
})
