import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, type Scope } from "effect"
import { Semaphore, TokenBucket } from "steindamm"
import { inject } from "vitest"
import { limiterKey } from "../src/internal/limiterKeys.ts"
import { runToEnd, steindamm } from "./support/command.ts"
import { type Backend, backend, command, failed, limits, succeeded, waiting } from "./support/commandBackend.ts"
import { TopDocument } from "./support/commandDocuments.ts"
import { startServer } from "./support/servers.ts"
import { openTerminal, type TerminalSession } from "./support/terminal.ts"

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(TopDocument), { onExcessProperty: "error" })

const quickly = ["--interval", "0.1"]

/** A semaphore that is full, with one who waits, and a bucket that owes. */
const busyLimiters = Effect.gen(function* () {
  const semaphore = yield* Semaphore.make({ name: "database", capacity: 2 })
  yield* semaphore.acquire(2)
  yield* waiting(semaphore, 1)
  const bucket = yield* TokenBucket.make({ name: "mail", capacity: 5, refillFrequency: "1 hour", maxSleep: 0 })
  yield* bucket.reserve(5)
  yield* bucket.reserve(1)
  return { semaphore, bucket }
})

for (const [where, isCluster] of [
  ["one server", false],
  ["a cluster", true]
] as const) {
  describe(`steindamm top on ${where}`, () => {
    it.live("tells once of all limiters where it is not in a terminal", () =>
      Effect.gen(function* () {
        const one = backend(inject(isCluster ? "clusterUrl" : "redisUrl"))
        yield* Effect.gen(function* () {
          yield* busyLimiters
          // Names that share no slot, so that every primary of a cluster has some.
          const names = Array.from({ length: 30 }, (_, n) => `user/${String(n).padStart(2, "0")}`)
          yield* Effect.forEach(names, (name) => Effect.flatMap(TokenBucket.make({ name }), (one) => one.reserve()))

          const document = decode(succeeded(yield* one.run("top", "--json", ...quickly)))
          assert.strictEqual(document.isCut, false)
          assert.deepStrictEqual(
            document.limiters.map(({ name }) => name),
            ["database", "mail", ...names]
          )
          const [database, mail] = document.limiters
          assert.deepStrictEqual(database, {
            kind: "semaphore",
            name: "database",
            tag: null,
            capacity: 2,
            inUse: 2,
            waiting: 1,
            tokens: null,
            waitMs: null,
            nextRefillMs: null,
            ratePerSecond: 0,
            problem: null
          })
          assert.deepStrictEqual([mail?.kind, mail?.tokens, mail?.ratePerSecond], ["token-bucket", -1, 0])
          assert.isAtMost(mail?.nextRefillMs ?? 0, 3_600_000)

          const table = succeeded(yield* one.run("top", ...quickly)).split("\n")
          assert.match(table[0] ?? "", /^name +kind +capacity +in use +waiting +tokens +next refill +rate$/)
          assert.match(table[1] ?? "", /^database +semaphore +2 +2 +1 +– +– +0$/)
          assert.notInclude(table.join(""), "\u001B")

          const some = decode(succeeded(yield* one.run("top", "--json", "--name", "user/1", ...quickly)))
          assert.lengthOf(some.limiters, 10)
          const few = decode(succeeded(yield* one.run("top", "--json", "--limit", "3", ...quickly)))
          assert.strictEqual(few.isCut, true)
          assert.lengthOf(few.limiters, 3)
          assert.include(succeeded(yield* one.run("top", "--limit", "3", ...quickly)), "There may be more")
          const all = decode(succeeded(yield* one.run("top", "--json", "--limit", "32", ...quickly)))
          assert.deepStrictEqual([all.isCut, all.limiters.length], [false, 32])
        }).pipe(Effect.provide(limits(one, isCluster)))
      })
    )
  })
}

const opened = (one: Backend, ...args: ReadonlyArray<string>): TerminalSession =>
  openTerminal([...steindamm, "top", ...quickly, "--redis", one.url, "--prefix", one.prefix, ...args], {
    // What the terminal is like before and afterwards.
    shell: (program) => `stty --save; ${program}; code=$?; stty --save; exit $code`
  })

const settingsOf = (written: string) => written.match(/^[0-9a-f]+(?::[0-9a-f]+){10,}/gm) ?? []

/** The cursor shows, the screen is that of before, and keys are read as before. */
const assertRestored = (session: TerminalSession): void => {
  const written = session.written()
  const [before, after] = settingsOf(written.replaceAll("\u001B[?1049l", "\n"))
  assert.isDefined(before)
  assert.strictEqual(after, before)
  for (const [on, off] of [
    ["\u001B[?1049h", "\u001B[?1049l"],
    ["\u001B[?25l", "\u001B[?25h"]
  ] as const) {
    assert.strictEqual(written.split(on).length, 2)
    assert.strictEqual(written.split(off).length, 2)
    assert.isAbove(written.indexOf(off), written.lastIndexOf("\u001B[K"))
  }
}

const inTerminal = (
  body: (session: TerminalSession, one: Backend) => Effect.Effect<void, unknown, Semaphore | TokenBucket | Scope.Scope>
) =>
  Effect.gen(function* () {
    const one = backend(inject("redisUrl"))
    yield* Effect.gen(function* () {
      yield* busyLimiters
      const session = opened(one)
      yield* Effect.addFinalizer(() => Effect.sync(() => session.type("q")))
      yield* Effect.promise(() => session.until(/database/))
      yield* body(session, one)
    }).pipe(Effect.provide(limits(one, false)))
  })

const seen = (session: TerminalSession, pattern: RegExp) => Effect.promise(() => session.until(pattern))

const codeOf = (session: TerminalSession) => Effect.promise(() => session.ended)

describe("steindamm top in a terminal", () => {
  it.live("shows what changes, and a spark line of what passes, until q", () =>
    inTerminal((session) =>
      Effect.gen(function* () {
        const bucket = yield* TokenBucket.make({ name: "newcomer", capacity: 1000, refillFrequency: "1 hour" })
        yield* bucket.reserve(7)
        yield* seen(session, /newcomer/)
        yield* Effect.forkScoped(
          Effect.forever(Effect.andThen(bucket.withPermits(1)(Effect.void), Effect.sleep("20 millis")))
        )
        yield* seen(session, /newcomer[^\n]* \/s[^\n]*[▁▂▃▄▅▆▇█]/)
        session.type("q")
        assert.strictEqual(yield* codeOf(session), 0)
        assertRestored(session)
      })
    )
  )

  it.live("ends well with Ctrl-C and Escape", () =>
    Effect.gen(function* () {
      for (const key of ["\u0003", "\u001B"]) {
        yield* inTerminal((session) =>
          Effect.gen(function* () {
            session.type(key)
            assert.strictEqual(yield* codeOf(session), 0)
            assertRestored(session)
          })
        )
      }
    })
  )

  it.live("sorts and scrolls by keys", () =>
    inTerminal((session, one) =>
      Effect.gen(function* () {
        const names = Array.from({ length: 40 }, (_, n) => `user/${String(n).padStart(2, "0")}`)
        yield* Effect.forEach(names, (name) => Effect.flatMap(TokenBucket.make({ name }), (bucket) => bucket.reserve()))
        yield* seen(session, /1–19 of 42 limiters/)
        session.type("\u001B[B")
        yield* seen(session, /2–20 of 42 limiters/)
        session.type("\u001B[F")
        yield* seen(session, /24–42 of 42 limiters/)
        session.type("\u001B[A")
        yield* seen(session, /23–41 of 42 limiters/)
        session.type("s")
        yield* seen(session, /1–19 of 42 limiters[^\n]*sorted by waiting/)
        yield* command(one.url, "DEL", ...names.map((name) => limiterKey(one.prefix, { kind: "TokenBucket", name })))
        yield* seen(session, /\b2 limiters/)
        session.type("q")
        assert.strictEqual(yield* codeOf(session), 0)
      })
    )
  )

  it.live("tells when Redis is away, keeps what it knew, and goes on when it is back", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const one = backend(server.url)
      const key = (name: string) => limiterKey(one.prefix, { kind: "Semaphore", name })
      yield* server.command("SET", key("first"), "by others")
      const session = opened(one)
      yield* seen(session, /first/)
      yield* server.kill
      yield* seen(session, /first[\s\S]*does not answer: connect ECONNREFUSED/)
      yield* server.start()
      yield* server.command("SET", key("second"), "by others")
      yield* seen(session, /second/)
      session.type("q")
      assert.strictEqual(yield* codeOf(session), 0)
      assertRestored(session)
    })
  )
})

describe("steindamm", () => {
  it.live("looks through very many keys in small steps, and ends at its bounds", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const one = backend(server.url)
      yield* server.command("DEBUG", "POPULATE", 200_000)
      yield* Effect.gen(function* () {
        yield* busyLimiters
        const calls = (info: unknown, name: string) =>
          Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(info))?.[1] ?? 0)
        yield* server.command("CONFIG", "RESETSTAT")
        const { limiters, isCut } = decode(succeeded(yield* one.run("top", "--json", ...quickly)))
        assert.deepStrictEqual([limiters.length, isCut], [2, false])
        const stats = yield* server.command("INFO", "commandstats")
        assert.strictEqual(calls(stats, "keys"), 0)
        assert.isAtLeast(calls(stats, "scan"), 300)
        // A million keys are as many as it looks at.
        yield* server.command("DEBUG", "POPULATE", 1_100_000)
        const bounded = decode(succeeded(yield* one.run("top", "--json", ...quickly)))
        assert.strictEqual(bounded.isCut, true)
      }).pipe(Effect.provide(limits(one, false)))
    })
  )

  it.live("ends quietly when nobody reads what it prints", () =>
    Effect.gen(function* () {
      const one = backend(inject("redisUrl"))
      const program = [...steindamm, "top", ...quickly, "--redis", one.url, "--prefix", one.prefix]
      const ended = yield* Effect.promise(() =>
        runToEnd(["sh", "-c", `{ "$@"; echo "code $?" >&2; } | true`, "sh", ...program])
      )
      assert.deepStrictEqual(ended, { code: 0, stdout: "", stderr: "code 0\n" })
    })
  )

  it.live("says that Redis is away instead of a table", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* server.kill
      assert.include(failed(yield* backend(server.url).run("top")), "ECONNREFUSED")
    })
  )
})
