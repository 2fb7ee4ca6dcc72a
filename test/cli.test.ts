import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, type Scope } from "effect"
import { Semaphore, type SemaphoreLimiter, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import { limiterKey } from "../src/internal/limiterKeys.ts"
import { type Ended, runToEnd, steindamm } from "./support/command.ts"
import { InspectDocument } from "./support/commandDocuments.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { connect, startServer, until } from "./support/servers.ts"

const strictly = { onExcessProperty: "error" } as const

const decodeInspect = Schema.decodeUnknownSync(Schema.fromJsonString(InspectDocument), strictly)

const succeeded = ({ code, stdout, stderr }: Ended): string => {
  assert.strictEqual(code, 0, stderr)
  assert.strictEqual(stderr, "")
  return stdout
}

/** One sentence on standard error, nothing else anywhere. */
const failed = ({ code, stdout, stderr }: Ended): string => {
  assert.strictEqual(code, 1, stdout)
  assert.strictEqual(stdout, "")
  assert.match(stderr, /^steindamm: [^\n]+\n$/)
  return stderr
}

const misunderstood = ({ code, stdout, stderr }: Ended): string => {
  assert.strictEqual(code, 2, stdout)
  assert.strictEqual(stdout, "")
  assert.notMatch(stderr, /^\s+at /m)
  return stderr
}

interface Backend {
  readonly url: string
  readonly prefix: string
  /** The command, asking this backend. */
  readonly run: (...args: ReadonlyArray<string>) => Effect.Effect<Ended>
}

const backend = (url: string): Backend => {
  const prefix = freshKeyPrefix()
  return {
    url,
    prefix,
    run: (...args) => Effect.promise(() => runToEnd([...steindamm, ...args, "--redis", url, "--prefix", prefix]))
  }
}

const limits = ({ url, prefix: keyPrefix }: Backend, isCluster: boolean) =>
  RedisLive.pipe(
    Layer.provide(isCluster ? RedisClient.layer({ nodes: [url], keyPrefix }) : RedisClient.layer({ url, keyPrefix }))
  )

/** One command over a connection of its own. */
const command = (url: string, name: string, ...args: ReadonlyArray<string>) => {
  const { hostname, port } = new URL(url)
  return Effect.scoped(
    Effect.flatMap(connect({ host: hostname, port: Number(port) }), (redis) =>
      Effect.promise(() => redis.call(name, ...args))
    )
  )
}

/** Somebody waits for a permit, until the scope closes. */
const waiting = Effect.fnUntraced(function* (semaphore: SemaphoreLimiter, permits: number) {
  const before = (yield* semaphore.state).waiting
  yield* Effect.forkScoped(Effect.scoped(Effect.andThen(semaphore.acquire(permits), Effect.never)))
  yield* until(Effect.map(semaphore.state, ({ waiting }) => waiting > before))
})

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

    it.live("says so if nobody knows a limiter", () =>
      onBackend((backend) =>
        Effect.map(backend.run("inspect", "nobody"), (ended) => assert.include(failed(ended), `"nobody"`))
      )
    )
  })
}

describe("steindamm", () => {
  it.live("finds limiters that share a tag with others by their name", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      yield* Effect.gen(function* () {
        const semaphore = yield* Semaphore.make({ name: "seats" })
        yield* semaphore.acquire()
        const key = (tag: { readonly tag?: string }) =>
          limiterKey(one.prefix, { kind: "Semaphore", name: "seats", ...tag })
        yield* command(one.url, "RENAME", key({}), key({ tag: "airline" }))
        const [report] = decodeInspect(succeeded(yield* one.run("inspect", "seats", "--json"))).limiters
        assert.strictEqual(report?.name, "seats")
        assert.strictEqual(report?.tag, "airline")
      }).pipe(Effect.provide(limits(one, false)))
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

  it.live("tells what it did not understand, on standard error, and ends with 2", () =>
    Effect.gen(function* () {
      const run = (...args: ReadonlyArray<string>) => Effect.promise(() => runToEnd([...steindamm, ...args]))
      assert.include(misunderstood(yield* run("inspect")), "Missing required argument: name")
      assert.include(misunderstood(yield* run("inspekt", "x")), "inspect")
      assert.include(misunderstood(yield* run("inspect", "x", "--colour")), "--colour")
      assert.include(misunderstood(yield* run("inspect", "x", "--redis", "localhost")), `"localhost"`)
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
      for (const word of ["inspect", "--redis", "--cluster", "--prefix", "--json"]) assert.include(help, word)
      assert.strictEqual(succeeded(yield* run()), help)
      assert.match(succeeded(yield* run("--version")), /v\d+\.\d+\.\d+\n$/)
      for (const shell of ["bash", "zsh", "fish"]) {
        assert.include(succeeded(yield* run("--completions", shell)), "inspect")
      }
    })
  )
})
