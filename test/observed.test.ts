import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Logger, Metric, Option, References, Tracer } from "effect"
import { TestClock } from "effect/testing"
import {
  type InvalidOptions,
  Limiter,
  LocalLive,
  Observation,
  type ObservationOptions,
  Semaphore,
  TokenBucket
} from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import { start } from "./support/fibers.ts"
import { interruptedAfter, sweep } from "./support/interruption.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { isolated, reading, seriesOf, sumOf } from "./support/metrics.ts"
import { quiet } from "./support/redisRun.ts"
import { startServer } from "./support/servers.ts"

const overLocal =
  (options?: ObservationOptions) =>
  <A, E>(effect: Effect.Effect<A, E, TokenBucket | Semaphore>) =>
    isolated(Effect.provide(effect, LocalLive.pipe(Layer.provide(Observation.layer(options)))))

const granted = "steindamm_permits_granted_total"
const away = "steindamm_permits_granted_away_total"
const refused = "steindamm_requests_refused_total"
const waiting = "steindamm_requests_waiting"
const wait = "steindamm_wait_seconds"
const inUse = "steindamm_permits_in_use"
const hold = "steindamm_hold_seconds"
const lost = "steindamm_leases_lost_total"
const tokens = "steindamm_tokens_available"
const disagreed = "steindamm_options_disagreed_total"

describe("without observation", () => {
  it.effect("limiters leave no trace in the metrics", () =>
    Effect.gen(function* () {
      const bucket = yield* TokenBucket.make({ name: "bucket" })
      const semaphore = yield* Semaphore.make({ name: "semaphore" })
      yield* bucket.withPermit(semaphore.withPermit(Effect.void))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Metric.snapshot, [])
    }).pipe(Effect.provide(LocalLive), isolated)
  )
})

describe("an observed limiter", () => {
  it.effect("is labelled by its name, its kind and where its state is", () =>
    Effect.gen(function* () {
      yield* TokenBucket.make({ name: "api" })
      yield* Semaphore.make({ name: "database" })
      const [bucket, semaphore] = yield* seriesOf(granted)
      assert.deepStrictEqual(
        [bucket?.attributes, semaphore?.attributes],
        [
          { limiter: "api", kind: "TokenBucket", backend: "local", unit: "{permit}" },
          { limiter: "database", kind: "Semaphore", backend: "local", unit: "{permit}" }
        ]
      )
    }).pipe(overLocal())
  )

  it.effect("shows zeroes before it is used, so that the first refusal is seen as a rise", () =>
    Effect.gen(function* () {
      yield* TokenBucket.make({ name: "api" })
      yield* Semaphore.make({ name: "database" })
      for (const limiter of ["api", "database"]) {
        for (const reason of ["MaxSleepExceeded", "BackendError", "Unavailable", "Interrupted"]) {
          assert.strictEqual(yield* reading(refused, { limiter, reason }), 0)
        }
        for (const name of [granted, waiting, wait]) assert.strictEqual(yield* reading(name, { limiter }), 0)
      }
      for (const name of [inUse, hold, lost]) assert.strictEqual(yield* reading(name), 0)
    }).pipe(overLocal())
  )

  it.effect("counts together with others of its name over any layer", () =>
    Effect.gen(function* () {
      const use = Effect.flatMap(TokenBucket.make({ name: "api" }), (limiter) => limiter.withPermit(Effect.void)).pipe(
        Effect.provide(LocalLive.pipe(Layer.provide(Observation.layer())), { local: true })
      )
      yield* use
      yield* use
      assert.strictEqual(yield* reading(granted), 2)
      assert.strictEqual((yield* seriesOf(granted)).length, 1)
    }).pipe(isolated)
  )

  it.effect("is observed as well if the observation is provided around everything", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api" })
      yield* limiter.withPermit(Effect.void)
      assert.strictEqual(yield* reading(granted), 1)
    }).pipe(Effect.provide(LocalLive), Effect.provide(Observation.layer()), isolated)
  )
})

describe("an observed token bucket", () => {
  const make = TokenBucket.make({ name: "api", capacity: 3, tokensToConsume: 2, maxSleep: "2 seconds" })

  it.effect("counts the tokens that every verb takes", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api", capacity: 100, tokensToConsume: 2 })
      let expected = 0
      const took = (n: number) => {
        expected += n
        return Effect.map(reading(granted), (count) => assert.strictEqual(count, expected))
      }
      yield* limiter.withPermit(Effect.void)
      yield* took(2)
      yield* limiter.withPermits(3.5)(Effect.void)
      yield* took(3.5)
      yield* limiter.withPermitsIfAvailable(4)(Effect.void)
      yield* took(4)
      yield* Effect.scoped(limiter.acquire())
      yield* took(2)
      yield* Effect.scoped(limiter.acquire(5))
      yield* took(5)
      yield* limiter.wrap(() => Effect.void)()
      yield* took(2)
      yield* limiter.reserve()
      yield* took(2)
      yield* limiter.reserve(6)
      yield* took(6)
      assert.strictEqual(yield* reading(wait), 8)
      assert.strictEqual(yield* reading(waiting), 0)
    }).pipe(overLocal())
  )

  it.effect("tells who waits, and afterwards how long", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      yield* limiter.withPermit(Effect.void)
      const fiber = yield* start(limiter.withPermit(Effect.void))
      assert.deepStrictEqual([yield* reading(waiting), yield* reading(granted)], [1, 2])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual([yield* reading(waiting), yield* reading(granted)], [0, 4])
      assert.deepStrictEqual([yield* reading(wait), yield* sumOf(wait)], [2, 1])
    }).pipe(overLocal())
  )

  it.effect("counts what a reservation has to wait as waited for, and nobody as waiting", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      yield* limiter.reserve(3)
      yield* limiter.reserve(1)
      assert.deepStrictEqual([yield* reading(waiting), yield* sumOf(wait)], [0, 1])
    }).pipe(overLocal())
  )

  it.effect("counts who is refused, and why", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      const quota = yield* TokenBucket.make({ name: "quota", capacity: 1, refillAmount: 0, refillFrequency: 0 })
      yield* quota.withPermit(Effect.void)
      yield* Effect.exit(quota.withPermit(Effect.void))
      assert.strictEqual(yield* reading(refused, { limiter: "quota", reason: "NoTokensAvailable" }), 1)

      yield* limiter.withPermits(3)(Effect.void)
      assert.isTrue(Option.isNone(yield* limiter.withPermitsIfAvailable(1)(Effect.void)))
      assert.strictEqual(yield* reading(refused, { limiter: "api", reason: "Unavailable" }), 1)

      yield* Effect.exit(limiter.withPermits(3)(Effect.void))
      assert.strictEqual(yield* reading(refused, { limiter: "api", reason: "MaxSleepExceeded" }), 1)

      yield* Effect.exit(limiter.withPermits(4)(Effect.void))
      assert.strictEqual(yield* reading(refused, { limiter: "api", reason: "InvalidOptions" }), 1)

      const fiber = yield* start(limiter.withPermit(Effect.void))
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* reading(refused, { limiter: "api", reason: "Interrupted" }), 1)
      assert.deepStrictEqual([yield* reading(granted, { limiter: "api" }), yield* reading(waiting)], [3, 0])
    }).pipe(overLocal())
  )

  it.effect("does not take the failure of its work for a refusal", () =>
    Effect.gen(function* () {
      const outer = yield* TokenBucket.make({ name: "outer" })
      const inner = yield* TokenBucket.make({ name: "inner", maxSleep: "1 milli", capacity: 1 })
      yield* inner.withPermit(Effect.void)
      const exit = yield* Effect.exit(outer.withPermit(inner.withPermit(Effect.void)))
      assert.isTrue(Exit.isFailure(exit))
      assert.strictEqual(yield* reading(refused, { limiter: "outer" }), 0)
      assert.strictEqual(yield* reading(refused, { limiter: "inner" }), 1)
    }).pipe(overLocal())
  )

  it.effect("tells how many tokens are left, as long as it is not full again", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api", capacity: 3 })
      yield* limiter.withPermits(3)(Effect.void)
      assert.isNaN(yield* reading(tokens))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* reading(tokens), 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* reading(tokens), 2)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* reading(tokens), 3)
    }).pipe(overLocal({ lookEvery: "1 second" }))
  )

  it.effect("tells how much is left of a quota whenever some of it is used", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "quota", capacity: 3, refillAmount: 0, refillFrequency: 0 })
      for (const left of [2, 1, 0]) {
        yield* limiter.withPermit(Effect.void)
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* reading(tokens), left)
      }
    }).pipe(overLocal())
  )

  it.effect("counts each request that finds the bucket used with other options, whatever the verb", () =>
    Effect.gen(function* () {
      const large = yield* TokenBucket.make({ name: "api", capacity: 9 })
      const small = yield* TokenBucket.make({ name: "api", capacity: 5 })
      assert.strictEqual(yield* reading(disagreed), 0)
      yield* large.withPermit(Effect.void)
      yield* small.withPermit(Effect.void)
      yield* small.withPermit(Effect.void)
      assert.strictEqual(yield* reading(disagreed), 1)
      yield* large.withPermitsIfAvailable(1)(Effect.void)
      assert.strictEqual(yield* reading(disagreed), 2)
      yield* Limiter.all([small]).withPermit(Effect.void)
      assert.strictEqual(yield* reading(disagreed), 3)
      for (const capacity of [3, 4]) {
        const keyed = yield* TokenBucket.makeKeyed({ name: "user", capacity })
        yield* keyed.withPermit("ada")(Effect.void)
      }
      assert.strictEqual(yield* reading(disagreed, { limiter: "user" }), 1)
    }).pipe(overLocal(), Effect.provideService(References.MinimumLogLevel, "Error"))
  )
})

describe("an observed semaphore", () => {
  const make = Semaphore.make({ name: "database", capacity: 3, maxSleep: "2 seconds" })

  it.effect("tells what is in use, and afterwards how long it was held, whatever the verb", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      const second = Effect.sleep("1 second")
      const users: ReadonlyArray<readonly [permits: number, use: Effect.Effect<unknown, unknown>]> = [
        [1, limiter.withPermit(second)],
        [2, limiter.withPermits(2)(second)],
        [3, limiter.withPermitsIfAvailable(3)(second)],
        [1, Effect.scoped(Effect.andThen(limiter.acquire(), second))],
        [2, Effect.scoped(Effect.andThen(limiter.acquire(2), second))],
        [1, limiter.wrap(() => second)()]
      ]
      let [ended, permits] = [0, 0]
      for (const [n, use] of users) {
        const fiber = yield* start(use)
        permits += n
        assert.deepStrictEqual([yield* reading(inUse), yield* reading(granted)], [n, permits])
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        ended++
        assert.deepStrictEqual([yield* reading(inUse), yield* reading(hold), yield* sumOf(hold)], [0, ended, ended])
      }
    }).pipe(overLocal())
  )

  it.effect("tells who waits, and afterwards how long", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      const first = yield* start(limiter.withPermits(3)(Effect.sleep("1 second")))
      const others = yield* start(
        Effect.all([limiter.withPermit(Effect.void), limiter.withPermits(2)(Effect.void)], { concurrency: 2 })
      )
      assert.strictEqual(yield* reading(waiting), 2)
      yield* TestClock.adjust("1 second")
      yield* Effect.all([Fiber.join(first), Fiber.join(others)])
      assert.deepStrictEqual([yield* reading(waiting), yield* reading(wait), yield* sumOf(wait)], [0, 3, 2])
    }).pipe(overLocal())
  )

  it.effect("counts who is refused, and why", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      const holder = yield* start(limiter.withPermits(3)(Effect.never))
      yield* limiter.withPermitsIfAvailable(1)(Effect.void)
      assert.strictEqual(yield* reading(refused, { reason: "Unavailable" }), 1)
      const late = yield* start(Effect.exit(limiter.withPermit(Effect.void)))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(late)
      assert.strictEqual(yield* reading(refused, { reason: "MaxSleepExceeded" }), 1)
      yield* Fiber.interrupt(yield* start(limiter.withPermit(Effect.void)))
      assert.strictEqual(yield* reading(refused, { reason: "Interrupted" }), 1)
      yield* Fiber.interrupt(holder)
      assert.deepStrictEqual([yield* reading(inUse), yield* reading(waiting), yield* reading(granted)], [0, 0, 3])
    }).pipe(overLocal())
  )

  it.effect("counts a lost lease once, whether it is guarded work or a scope that has it", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      const guarded = yield* start(Effect.exit(limiter.withPermit(limiter.withPermit(Effect.never))))
      yield* limiter.reset
      const exit = yield* Fiber.join(guarded)
      assert.strictEqual(
        Exit.isFailure(exit) && Cause.findErrorOption(exit.cause).pipe(Option.getOrThrow)._tag,
        "PermitLost"
      )
      assert.deepStrictEqual([yield* reading(lost), yield* reading(inUse)], [2, 0])
      yield* Effect.gen(function* () {
        yield* limiter.acquire()
        yield* limiter.reset
        yield* Effect.yieldNow
        assert.deepStrictEqual([yield* reading(lost), yield* reading(inUse)], [3, 1])
      }).pipe(Effect.scoped)
      assert.strictEqual(yield* reading(inUse), 0)
    }).pipe(overLocal())
  )
})

describe("an interruption of an observed request at any point", () => {
  const work = Effect.andThen(Effect.yieldNow, Effect.yieldNow)

  const semaphore = Semaphore.make({ name: "semaphore", capacity: 2 })
  const bucket = (initialTokens: number) => TokenBucket.make({ name: "bucket", capacity: 1e6, initialTokens })

  type Ask = Effect.Effect<unknown, unknown>
  const cases: ReadonlyArray<
    readonly [what: string, ask: Effect.Effect<Ask, InvalidOptions, TokenBucket | Semaphore>]
  > = [
    ["for a permit", Effect.map(semaphore, (limiter): Ask => limiter.withPermit(work))],
    [
      "for permits of a scope",
      Effect.map(semaphore, (limiter): Ask => Effect.scoped(Effect.andThen(limiter.acquire(2), work)))
    ],
    ["for a token", Effect.map(bucket(1e6), (limiter): Ask => limiter.withPermit(work))],
    ["that waits for a token", Effect.map(bucket(0), (limiter): Ask => limiter.withPermit(work))]
  ]

  for (const [what, make] of cases) {
    it.effect(`${what} leaves nobody waiting and nothing in use, and counts once`, () =>
      Effect.gen(function* () {
        const ask = yield* make
        let counted = 0
        yield* sweep((operations, turns) =>
          Effect.gen(function* () {
            yield* interruptedAfter(ask, operations, turns)
            const now = (yield* reading(wait)) + (yield* reading(refused))
            assert.include([0, 1], now - counted, `${operations} ${turns}`)
            counted = now
            assert.strictEqual(yield* reading(waiting), 0, `${operations} ${turns}`)
            assert.strictEqual((yield* reading(inUse)) || 0, 0, `${operations} ${turns}`)
          })
        )
        assert.isAbove(counted, 100)
      }).pipe(overLocal())
    )
  }
})

describe("an observed limiter by key", () => {
  it.effect("is labelled by the name of its definition, whatever the keys", () =>
    Effect.gen(function* () {
      const bucket = yield* TokenBucket.makeKeyed({ name: "user", capacity: 5, tokensToConsume: 2 })
      const semaphore = yield* Semaphore.makeKeyed({ name: "host" })
      for (const key of ["ada", "grace"]) {
        yield* bucket.withPermit(key)(Effect.void)
        yield* bucket.reserve(key)
        yield* Effect.flatMap(bucket.forKey(key), (limiter) => limiter.withPermits(1)(Effect.void))
        yield* semaphore.withPermits(key, 2)(Effect.void)
      }
      const series = yield* seriesOf(granted)
      assert.deepStrictEqual(
        series.map(({ attributes }) => attributes?.["limiter"]),
        ["user", "host"]
      )
      assert.strictEqual(yield* reading(granted, { limiter: "user" }), 10)
      assert.strictEqual(yield* reading(granted, { limiter: "host" }), 4)
      yield* TestClock.adjust("10 seconds")
      assert.isNaN(yield* reading(tokens))
    }).pipe(overLocal())
  )

  it.effect("is labelled by key as well if that is asked for", () =>
    Effect.gen(function* () {
      const bucket = yield* TokenBucket.makeKeyed({ name: "host", capacity: 5, refillFrequency: "1 minute" })
      const semaphore = yield* Semaphore.makeKeyed({ name: "pool" })
      yield* bucket.withPermits("a", 1)(Effect.void)
      yield* bucket.withPermits("b", 2)(Effect.void)
      yield* bucket.withPermits("b", 1)(Effect.void)
      yield* semaphore.withPermit("c")(Effect.void)
      assert.strictEqual(yield* reading(granted, { limiter: "host", key: "a" }), 1)
      assert.strictEqual(yield* reading(granted, { limiter: "host", key: "b" }), 3)
      assert.strictEqual(yield* reading(hold, { limiter: "pool", key: "c" }), 1)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* reading(tokens, { key: "b" }), 2)
    }).pipe(overLocal({ byKey: true }))
  )
})

describe("observed limiters that are combined", () => {
  const make = Effect.gen(function* () {
    const calls = yield* TokenBucket.make({ name: "calls", capacity: 2, maxSleep: "5 seconds" })
    const cost = yield* TokenBucket.make({ name: "cost", capacity: 10, maxSleep: "2 seconds" })
    const users = yield* Semaphore.makeKeyed({ name: "users", capacity: 1 })
    return Limiter.all([calls, { limiter: cost, permits: 5 }, yield* users.forKey("ada")])
  })

  it.effect("count what work takes of each, and how long it waits for all", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      const work = Effect.sleep("1 second")
      const users = yield* Effect.forEach(
        [limiter.withPermit(work), Effect.scoped(Effect.andThen(limiter.acquire(), work))],
        start
      )
      assert.deepStrictEqual([yield* reading(granted, { limiter: "calls" }), yield* reading(inUse)], [1, 1])
      assert.deepStrictEqual([yield* reading(granted, { limiter: "cost" }), yield* reading(waiting)], [5, 3])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([yield* reading(inUse), yield* reading(waiting)], [1, 0])
      yield* TestClock.adjust("1 second")
      yield* Fiber.joinAll(users)
      for (const [name, permits] of [
        ["calls", 2],
        ["cost", 10],
        ["users", 2]
      ] as const) {
        assert.strictEqual(yield* reading(granted, { limiter: name }), permits)
        assert.strictEqual(yield* sumOf(wait, { limiter: name }), 1)
      }
      assert.deepStrictEqual([yield* reading(inUse), yield* sumOf(hold)], [0, 2])
    }).pipe(overLocal())
  )

  it.effect("count as many times as much for work that takes as many times as much", () =>
    Effect.gen(function* () {
      const calls = yield* TokenBucket.make({ name: "calls" })
      const pool = yield* Semaphore.make({ name: "pool", capacity: 10 })
      const limiter = Limiter.all([calls, { limiter: pool, permits: 2 }])
      const look = Effect.all([reading(granted, { limiter: "calls" }), reading(inUse)])
      assert.deepStrictEqual(yield* limiter.withPermits(3)(look), [3, 6])
      assert.deepStrictEqual(yield* look, [3, 0])
    }).pipe(overLocal())
  )

  it.effect("count a refusal where it comes from, or at all of them if nobody in particular refused", () =>
    Effect.gen(function* () {
      const limiter = yield* make
      yield* limiter.withPermit(Effect.void)
      yield* limiter.withPermit(Effect.void)
      assert.strictEqual((yield* Effect.flip(limiter.withPermit(Effect.void)))._tag, "MaxSleepExceeded")
      const reason = "MaxSleepExceeded"
      const refusals = (labels: { readonly reason: string }) =>
        Effect.forEach(["calls", "cost", "users"], (limiter) => reading(refused, { limiter, ...labels }))
      assert.deepStrictEqual(yield* refusals({ reason }), [0, 1, 0])
      yield* limiter.withPermitsIfAvailable(1)(Effect.void)
      assert.deepStrictEqual(yield* refusals({ reason: "Unavailable" }), [1, 1, 1])
      assert.strictEqual(yield* reading(waiting), 0)
    }).pipe(overLocal())
  )
})

describe("an observed limiter over Redis", () => {
  const roundTrips = "steindamm_round_trips_total"
  const roundTrip = "steindamm_round_trip_seconds"
  const batchSize = "steindamm_batch_size"
  const errors = "steindamm_backend_errors_total"

  const over =
    (url: string) =>
    <A, E>(effect: Effect.Effect<A, E, TokenBucket | Semaphore>) =>
      effect.pipe(
        Effect.provide(
          RedisLive.pipe(
            Layer.provide(quiet(RedisClient.layer({ url, keyPrefix: freshKeyPrefix() }))),
            Layer.provide(Observation.layer())
          )
        ),
        isolated
      )

  it.live("is labelled so, and counts as in memory", () =>
    Effect.gen(function* () {
      const bucket = yield* TokenBucket.make({
        name: "api",
        capacity: 3,
        refillFrequency: "1 hour",
        maxSleep: "30 seconds"
      })
      const semaphore = yield* Semaphore.make({ name: "database", capacity: 1 })
      const impatient = yield* Semaphore.make({ name: "database", capacity: 1, maxSleep: "300 millis" })
      yield* bucket.withPermits(3)(semaphore.withPermit(Effect.void))
      yield* Effect.exit(bucket.withPermit(Effect.void))
      yield* Effect.exit(semaphore.withPermit(impatient.withPermit(Effect.void)))
      assert.strictEqual(yield* reading(granted, { limiter: "api", backend: "redis" }), 3)
      assert.strictEqual(yield* reading(refused, { limiter: "api", reason: "MaxSleepExceeded" }), 1)
      assert.strictEqual(yield* reading(granted, { limiter: "database", backend: "redis" }), 2)
      assert.strictEqual(yield* reading(refused, { limiter: "database", reason: "MaxSleepExceeded" }), 1)
      assert.deepStrictEqual([yield* reading(inUse), yield* reading(waiting)], [0, 0])
    }).pipe(over(inject("redisUrl")))
  )

  it.live("tells how many requests shared how many round trips", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api", capacity: 10 })
      const calls = { kind: "TokenBucket", backend: "redis" }
      yield* limiter.withPermit(Effect.void)
      assert.deepStrictEqual([yield* reading(roundTrips, calls), yield* sumOf(batchSize, calls)], [1, 1])
      yield* Effect.all(
        Array.from({ length: 9 }, () => limiter.withPermit(Effect.void)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(yield* sumOf(batchSize, calls), 10)
      const trips = yield* reading(roundTrips, calls)
      assert.isBelow(trips, 10)
      assert.deepStrictEqual([yield* reading(batchSize, calls), yield* reading(roundTrip, calls)], [trips, trips])
      assert.isAbove(yield* sumOf(roundTrip, calls), 0)
      assert.strictEqual(yield* reading(errors), 0)
    }).pipe(over(inject("redisUrl")))
  )

  it.live("counts what was given while Redis was away, for limiters that then go on", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* Effect.gen(function* () {
        const bucket = yield* TokenBucket.make({ name: "bucket", whenAway: "allow" })
        const semaphore = yield* Semaphore.make({ name: "semaphore", whenAway: { local: 1 } })
        const strict = yield* TokenBucket.make({ name: "strict" })
        const both = Limiter.all([bucket, semaphore])
        yield* strict.withPermit(both.withPermit(Effect.void))
        const counts = Effect.forEach(["bucket", "semaphore", "strict"], (limiter) => reading(away, { limiter }))
        assert.deepStrictEqual(yield* counts, [0, 0, Number.NaN])
        yield* server.kill
        yield* bucket.withPermit(Effect.void)
        yield* semaphore.withPermits(2)(Effect.void)
        assert.deepStrictEqual(yield* counts, [1, 2, Number.NaN])
        yield* both.withPermit(Effect.void)
        assert.deepStrictEqual(yield* counts, [2, 3, Number.NaN])
        assert.strictEqual(yield* reading(granted, { limiter: "bucket" }), 3)
      }).pipe(over(server.url))
    })
  )

  it.live("counts errors of the backend by reason, and lost leases", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* Effect.gen(function* () {
        const bucket = yield* TokenBucket.make({ name: "api", maxSleep: "1 second" })
        const semaphore = yield* Semaphore.make({ name: "database", expiry: "300 millis" })
        const started = yield* Deferred.make<void>()
        const work = Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
        const holder = yield* start(Effect.flip(semaphore.withPermit(work)))
        yield* Deferred.await(started)
        yield* bucket.withPermit(Effect.void)
        assert.strictEqual(yield* reading(errors), 0)
        yield* server.kill
        assert.strictEqual((yield* Effect.flip(bucket.withPermit(Effect.void)))._tag, "BackendError")
        assert.strictEqual((yield* Fiber.join(holder))._tag, "PermitLost")
        assert.strictEqual(yield* reading(refused, { limiter: "api", reason: "BackendError" }), 1)
        assert.isAbove(yield* reading(errors, { kind: "TokenBucket", reason: "Unreachable" }), 0)
        assert.strictEqual(yield* reading(lost, { limiter: "database", backend: "redis" }), 1)
      }).pipe(over(server.url))
    })
  )
})

describe("the span of a request", () => {
  /** Runs with a tracer in memory, and gives the spans that have ended. */
  const traced = <A, E>(effect: Effect.Effect<A, E, TokenBucket | Semaphore>, options: ObservationOptions) =>
    Effect.gen(function* () {
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      yield* effect.pipe(overLocal(options), Effect.withTracer(tracer))
      return spans.map(({ name, parent, status, attributes }) => ({
        name,
        parent: Option.match(parent, { onNone: () => "", onSome: (parent) => ("name" in parent ? parent.name : "") }),
        attributes: Object.fromEntries(attributes),
        duration: status._tag === "Ended" ? Number(status.endTime - status.startTime) / 1e9 : Number.NaN,
        isFailure: status._tag === "Ended" && Exit.isFailure(status.exit)
      }))
    })

  it.effect("lasts until it is given permits, and is not a parent of the work", () =>
    Effect.gen(function* () {
      const program = Effect.gen(function* () {
        const limiter = yield* Semaphore.make({ name: "database", capacity: 1 })
        const holder = yield* start(limiter.withPermit(Effect.sleep("2 seconds")))
        const waiter = yield* start(
          limiter.withPermit(Effect.withSpan(Effect.sleep("1 second"), "query")).pipe(Effect.withSpan("request"))
        )
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.joinAll([holder, waiter])
      })
      const [first, request, second, query] = yield* traced(program, { spans: true })
      const attributes = {
        "steindamm.limiter": "database",
        "steindamm.kind": "Semaphore",
        "steindamm.backend": "local",
        "steindamm.permits": 1,
        "steindamm.outcome": "Granted"
      }
      assert.deepStrictEqual(first, {
        name: "steindamm.acquire",
        parent: "",
        attributes: { ...attributes, "steindamm.wait_seconds": 0 },
        duration: 0,
        isFailure: false
      })
      assert.deepStrictEqual(second, {
        name: "steindamm.acquire",
        parent: "request",
        attributes: { ...attributes, "steindamm.wait_seconds": 2 },
        duration: 2,
        isFailure: false
      })
      assert.deepStrictEqual([request?.name, request?.duration], ["request", 3])
      assert.deepStrictEqual([query?.name, query?.parent, query?.duration], ["query", "request", 1])
    })
  )

  it.effect("tells why a request was refused, and of which key", () =>
    Effect.gen(function* () {
      const program = Effect.gen(function* () {
        const limiter = yield* TokenBucket.makeKeyed({ name: "user", capacity: 1, maxSleep: 1 })
        yield* Effect.scoped(limiter.acquire("ada"))
        yield* Effect.exit(limiter.reserve("ada"))
        yield* limiter.withPermitsIfAvailable("ada", 1)(Effect.void)
        const patient = yield* TokenBucket.make({ name: "patient", capacity: 1 })
        yield* patient.reserve()
        yield* Fiber.interrupt(yield* start(patient.withPermit(Effect.void)))
      })
      const spans = yield* traced(program, { spans: true })
      assert.deepStrictEqual(
        spans.map(({ attributes, isFailure }) => [
          attributes["steindamm.key"] ?? attributes["steindamm.limiter"],
          attributes["steindamm.outcome"],
          isFailure
        ]),
        [
          ["ada", "Granted", false],
          ["ada", "MaxSleepExceeded", true],
          ["ada", "Unavailable", false],
          ["patient", "Granted", false],
          ["patient", "Interrupted", true]
        ]
      )
    })
  )

  it.effect("is not there unless it is asked for", () =>
    Effect.gen(function* () {
      const program = Effect.flatMap(Semaphore.make({ name: "database" }), (limiter) => limiter.withPermit(Effect.void))
      assert.deepStrictEqual(yield* traced(program, {}), [])
    })
  )
})

describe("the log lines of guarded work", () => {
  it.effect("tell of the limiter if that is asked for", () =>
    Effect.gen(function* () {
      const lines: Array<readonly [message: unknown, annotations: object]> = []
      const logger = Logger.make(({ message, fiber }) => {
        lines.push([message, fiber.getRef(References.CurrentLogAnnotations)])
      })
      const program = Effect.gen(function* () {
        const limiter = yield* TokenBucket.makeKeyed({ name: "user", capacity: 1 })
        yield* limiter.withPermit("ada")(Effect.void)
        const second = yield* start(limiter.withPermit("ada")(Effect.log("inside")))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(second)
        yield* Effect.log("outside")
      })
      yield* program.pipe(overLocal({ logs: true }), Effect.provide(Logger.layer([logger])))
      assert.deepStrictEqual(lines, [
        [
          ["inside"],
          {
            "steindamm.limiter": "user",
            "steindamm.kind": "TokenBucket",
            "steindamm.backend": "local",
            "steindamm.key": "ada",
            "steindamm.permits": 1,
            "steindamm.wait_seconds": 1
          }
        ],
        [["outside"], {}]
      ])
    })
  )
})
