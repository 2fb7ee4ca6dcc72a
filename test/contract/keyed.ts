import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Logger, Option, Scope } from "effect"
import { Semaphore, TokenBucket } from "steindamm"
import { inOrder, start } from "../support/fibers.ts"
import { assertTook, type Backend, caseFor, freshName, timed } from "./harness.ts"

/** What limiters by key owe to their users, over any backend. */
export const keyedContract = (backend: Backend): unknown =>
  describe(`limiters by key ${backend.label}`, () => {
    const claim = caseFor(backend)
    const took = (elapsed: number, expected: number) => assertTook(backend, elapsed, expected)
    const buckets = (options = {}) =>
      TokenBucket.makeKeyed({ name: freshName(), capacity: 2, refillFrequency: 10_000, ...options })
    const semaphores = (options = {}) => Semaphore.makeKeyed({ name: freshName(), capacity: 2, ...options })
    const pass = Effect.void

    claim(
      "share their options and nothing else",
      Effect.gen(function* () {
        const perUser = yield* buckets()
        yield* perUser.withPermits("ada", 2)(pass)
        assert.strictEqual((yield* perUser.state("ada")).tokens, 0)
        assert.deepInclude(yield* perUser.state("grace"), { tokens: 2, capacity: 2 })
        const perHost = yield* semaphores()
        yield* perHost.withPermit("a")(
          Effect.gen(function* () {
            assert.strictEqual((yield* perHost.state("a")).held, 1)
            assert.strictEqual((yield* perHost.state("b")).held, 0)
          })
        )
      })
    )

    claim(
      "are the same for the same name and key, whichever definition or forKey they come from",
      Effect.gen(function* () {
        const name = freshName()
        const [one, other] = yield* Effect.all([TokenBucket.makeKeyed({ name }), TokenBucket.makeKeyed({ name })])
        yield* one.withPermit("ada")(pass)
        assert.strictEqual((yield* other.state("ada")).tokens, 4)
        const ada = yield* one.forKey("ada")
        yield* ada.withPermit(pass)
        assert.strictEqual((yield* other.state("ada")).tokens, 3)
        assert.strictEqual(one.name, name)
        assert.deepStrictEqual(one.maxSleep, Duration.seconds(30))
        assert.strictEqual(ada.name, `${name}[ada]`)
      })
    )

    claim(
      "never mistake one name and key for another",
      Effect.gen(function* () {
        const name = freshName()
        const ambiguous = [
          [name, "b:c"],
          [`${name}:b`, "c"],
          [`${name}[b`, "c"],
          [name, "b[c"],
          [`${name}[`, "b[c"],
          [`${name}[`, "c"],
          [name, "[b[c"],
          [`${name}%5B`, "c"],
          [`${name}%`, "5B[c"],
          [name, "c]"],
          [name, "c"],
          [name, "é"],
          [name, "e\u0301"],
          [name, "{c}"],
          [name, " "]
        ] as const
        for (const [name, key] of ambiguous) {
          const limiter = yield* TokenBucket.makeKeyed({ name, capacity: 1, refillFrequency: 60_000 })
          assert.isTrue(Option.isSome(yield* limiter.withPermitsIfAvailable(key, 1)(pass)), `${name} ${key}`)
        }
      })
    )

    claim(
      "refuse a key that is empty or leaves no room, naming it",
      Effect.gen(function* () {
        const name = "n".repeat(500)
        const perUser = yield* buckets({ name })
        const perHost = yield* semaphores({ name })
        for (const key of ["", "k".repeat(11), "éééééé", undefined as never]) {
          const refusals: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
            perUser.withPermit(key)(pass),
            perUser.reserve(key),
            perUser.state(key),
            Effect.scoped(perHost.acquire(key)),
            perHost.withPermits(key, 1)(pass),
            perHost.wrap(
              () => pass,
              () => key
            )()
          ]
          for (const refused of refusals) {
            const error = yield* Effect.flip(refused)
            assert.deepInclude<object>(error, { _tag: "InvalidOptions", name, field: "key", value: key })
          }
        }
        yield* perUser.withPermit("k".repeat(10))(pass)
        const error = yield* Effect.flip(buckets({ name: "n".repeat(510) }))
        assert.deepInclude(error, { _tag: "InvalidOptions", field: "name" })
      })
    )

    claim(
      "refuse bad options as limiters without a key do",
      Effect.gen(function* () {
        assert.deepInclude(yield* Effect.flip(buckets({ capacity: -1 })), { _tag: "InvalidOptions", field: "capacity" })
        assert.deepInclude(yield* Effect.flip(semaphores({ expiry: 1 })), { _tag: "InvalidOptions", field: "expiry" })
      })
    )

    claim(
      "have every verb of a token bucket",
      Effect.gen(function* () {
        const perUser = yield* buckets()
        const permit = yield* Effect.scoped(perUser.acquire("ada", 2))
        assert.strictEqual(permit.tokens, 2)
        yield* permit.settle(1)
        const reservation = yield* perUser.reserve("ada")
        assert.isTrue(Duration.isZero(reservation.delay))
        assert.deepStrictEqual(yield* perUser.withPermitsIfAvailable("ada", 1)(pass), Option.none())
        yield* reservation.cancel
        const double = perUser.wrap(
          (_user: string, n: number) => Effect.succeed(2 * n),
          (user) => user
        )
        assert.strictEqual(yield* double("ada", 3), 6)
        yield* perUser.reset("ada")
        assert.strictEqual((yield* perUser.state("ada")).tokens, 2)
        assert.isFalse(Duration.isZero((yield* Effect.andThen(double("ada", 1), perUser.stateFor("ada", 2))).wait))
        yield* perUser.reset("ada")
        yield* perUser.pause("ada", 300)
        assert.strictEqual((yield* perUser.state("grace")).tokens, 2)
        const [, elapsed] = yield* timed(perUser.withPermit("ada")(pass))
        took(elapsed, 300)
      })
    )

    claim(
      "have every verb of a semaphore",
      Effect.gen(function* () {
        const perHost = yield* semaphores()
        yield* perHost.resize("a", 1)
        assert.strictEqual((yield* perHost.state("a")).capacity, 1)
        assert.strictEqual((yield* perHost.state("b")).capacity, 2)
        const scope = yield* Scope.make()
        yield* Scope.provide(perHost.acquire("a"), scope)
        const waiting = yield* start(perHost.withPermit("a")(Effect.succeed("ran")))
        assert.deepStrictEqual(yield* perHost.withPermitsIfAvailable("a", 1)(pass), Option.none())
        assert.strictEqual(
          yield* perHost.wrap(
            (host: string) => Effect.succeed(host),
            (host) => host
          )("b"),
          "b"
        )
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* Fiber.join(waiting), "ran")
        yield* perHost.reset("a")
        assert.strictEqual((yield* perHost.state("a")).capacity, 2)
      })
    )

    claim(
      "let those who wait for one key go on in their order, whichever call they came by",
      Effect.gen(function* () {
        const perUser = yield* buckets({ capacity: 1, refillFrequency: 200 })
        yield* perUser.withPermit("ada")(pass)
        const order: Array<number> = []
        const request = (index: number) => perUser.withPermit("ada")(Effect.sync(() => order.push(index)))
        const leaving = yield* start(request(0))
        const others = yield* inOrder([request(1), request(2)])
        yield* Effect.sleep(20)
        yield* Fiber.interrupt(leaving)
        const [, elapsed] = yield* timed(Fiber.joinAll(others))
        took(elapsed, 380)
        assert.deepStrictEqual(order, [1, 2])
      })
    )

    claim(
      "warn once about other options, not once a key",
      Effect.gen(function* () {
        const name = freshName()
        const warnings: Array<unknown> = []
        const logger = Logger.make(({ message }) => void warnings.push(message))
        const [large, small] = yield* Effect.all([
          TokenBucket.makeKeyed({ name, capacity: 10 }),
          TokenBucket.makeKeyed({ name, capacity: 4 })
        ])
        yield* Effect.gen(function* () {
          for (const key of ["a", "b", "c"]) {
            yield* large.withPermit(key)(pass)
            yield* small.withPermit(key)(pass)
          }
        }).pipe(Effect.provide(Logger.layer([logger])))
        assert.strictEqual(warnings.length, 1)
        assert.include(String(warnings[0]), `"${name}"`)
      })
    )
  })
