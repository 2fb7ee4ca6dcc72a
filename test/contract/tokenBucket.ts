import { assert, describe } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Logger, Option } from "effect"
import { TokenBucket, type TokenBucketOptions } from "steindamm"
import { inOrder, start } from "../support/fibers.ts"
import { assertTook, type Backend, caseFor, eventually, freshName, outliveMistake, timed } from "./harness.ts"

/** What any backend of token buckets owes to its users. */
export const tokenBucketContract = (backend: Backend): unknown =>
  describe(`token bucket ${backend.label}`, () => {
    const claim = caseFor(backend)
    const took = (elapsed: number, expected: number, message?: string) =>
      assertTook(backend, elapsed, expected, message)
    const make = (options: Omit<TokenBucketOptions, "name"> = {}) => TokenBucket.make({ name: freshName(), ...options })
    const pass = Effect.void

    claim(
      "serves who comes next, whatever who watches the one before throws",
      Effect.gen(function* () {
        for (const initialTokens of [2, 0]) {
          const limiter = yield* make({ capacity: 2, initialTokens, refillFrequency: 50 })
          yield* outliveMistake(yield* inOrder([1, 2, 3, 4].map(() => limiter.withPermit(pass))))
          yield* limiter.withPermit(pass)
        }
      })
    )

    describe("refill", () => {
      claim(
        "lets a burst of capacity through at once and then one token per interval",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 3, refillFrequency: 200 })
          const [, burst] = yield* timed(
            Effect.all([limiter.withPermit(pass), limiter.withPermit(pass), limiter.withPermit(pass)])
          )
          took(burst, 0)
          const [, fourth] = yield* timed(limiter.withPermit(pass))
          took(fourth + burst, 200)
          const [, fifth] = yield* timed(limiter.withPermit(pass))
          took(fifth, 200)
        })
      )

      claim(
        "brings refillAmount tokens at once",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 4, refillAmount: 2, refillFrequency: 200, initialTokens: 0 })
          const results = yield* Effect.forEach([1, 2, 3], () => timed(limiter.withPermit(pass)))
          const [first = 0, second = 0, third = 0] = results.map(([, elapsed]) => elapsed)
          took(first, 200)
          took(second, 0)
          took(third, 200)
        })
      )

      claim(
        "trickles evenly when it is continuous",
        Effect.gen(function* () {
          const limiter = yield* make({
            capacity: 10,
            refillAmount: 10,
            refillFrequency: 1000,
            refill: "continuous",
            initialTokens: 0
          })
          const [, one] = yield* timed(limiter.withPermit(pass))
          took(one, 100)
          const [, three] = yield* timed(limiter.withPermits(3)(pass))
          took(three, 300)
        })
      )

      claim(
        "refills on the multiples of refillFrequency after windowStartTime",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 300, windowStartTime: 0 })
          yield* limiter.withPermit(pass)
          const now = yield* Effect.clockWith((clock) => Effect.succeed(clock.currentTimeMillisUnsafe()))
          const [, elapsed] = yield* timed(limiter.withPermit(pass))
          took(elapsed, 300 - (now % 300))
        })
      )

      claim(
        "counts fractions of tokens",
        Effect.gen(function* () {
          const limiter = yield* make({
            capacity: 0.5,
            refillAmount: 0.25,
            refillFrequency: 200,
            tokensToConsume: 0.25
          })
          const [, burst] = yield* timed(Effect.all([limiter.withPermit(pass), limiter.withPermit(pass)]))
          took(burst, 0)
          const [, third] = yield* timed(limiter.withPermits(0.000001)(pass))
          took(third, 200)
        })
      )

      claim(
        "never refills a quota, and says so instead of waiting",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2, refillAmount: 0, refillFrequency: 0 })
          yield* limiter.withPermit(pass)
          const error = yield* Effect.flip(limiter.withPermits(2)(pass))
          assert.strictEqual(error._tag, "NoTokensAvailable")
          assert.deepInclude(error, { available: 1, requested: 2 })
          yield* limiter.withPermit(pass)
          assert.isFalse(Duration.isFinite((yield* limiter.state).wait))
        })
      )

      claim(
        "keeps a quota alive as long as anyone asks for it, and forgets it after expiry",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillAmount: 0, refillFrequency: 0, expiry: 400 })
          yield* limiter.withPermit(pass)
          for (let asked = 0; asked < 3; asked++) {
            yield* Effect.sleep(250)
            assert.strictEqual((yield* Effect.flip(limiter.withPermit(pass)))._tag, "NoTokensAvailable")
          }
          yield* Effect.sleep(500)
          yield* limiter.withPermit(pass)
        })
      )
    })

    describe("requests", () => {
      claim(
        "that cost nothing pass at once, whoever waits",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 1000, initialTokens: 0 })
          const waiting = yield* start(limiter.withPermit(pass))
          const [, elapsed] = yield* timed(limiter.withPermits(0)(pass))
          took(elapsed, 0)
          yield* Fiber.interrupt(waiting)
        })
      )

      claim(
        "for more than the capacity are refused at once",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2 })
          const error = yield* Effect.flip(limiter.withPermits(3)(pass))
          assert.strictEqual(error._tag, "InvalidOptions")
          assert.deepInclude(error, { field: "permits", value: 3 })
          assert.strictEqual((yield* limiter.state).tokens, 2)
        })
      )

      claim(
        "run in order of arrival, however much they ask for",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 3, refillFrequency: 100, initialTokens: 0, maxSleep: 0 })
          const order: Array<number> = []
          const fibers = yield* inOrder(
            [3, 1, 2, 1].map((tokens, index) => limiter.withPermits(tokens)(Effect.sync(() => order.push(index))))
          )
          const [, elapsed] = yield* timed(Fiber.joinAll(fibers))
          took(elapsed, 700)
          assert.deepStrictEqual(order, [0, 1, 2, 3])
        })
      )

      claim(
        "give what the work gives, and fail as the work fails",
        Effect.gen(function* () {
          const limiter = yield* make()
          assert.strictEqual(yield* limiter.withPermit(Effect.succeed("value")), "value")
          assert.strictEqual(yield* Effect.flip(limiter.withPermit(Effect.fail("failure"))), "failure")
          const wrapped = limiter.wrap((a: number, b: number) => Effect.succeed(a + b))
          assert.strictEqual(yield* wrapped(1, 2), 3)
          assert.strictEqual((yield* limiter.state).tokens, 2)
        })
      )

      claim(
        "take tokensToConsume unless they say otherwise",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 5, tokensToConsume: 2 })
          yield* limiter.withPermit(pass)
          assert.strictEqual((yield* limiter.state).tokens, 3)
          yield* Effect.scoped(limiter.acquire())
          assert.strictEqual((yield* limiter.state).tokens, 1)
        })
      )
    })

    describe("maxSleep", () => {
      claim(
        "is decided before anything is consumed, and tells how long the wait would have been",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 1000, initialTokens: 0, maxSleep: 500 })
          const [error, elapsed] = yield* timed(Effect.flip(limiter.withPermit(pass)))
          took(elapsed, 0)
          assert.strictEqual(error._tag, "MaxSleepExceeded")
          if (error._tag !== "MaxSleepExceeded") return
          assert.strictEqual(error.kind, "TokenBucket")
          assert.strictEqual(Duration.toMillis(error.maxSleep), 500)
          const required = Duration.toMillis(error.requiredSleep ?? Duration.zero)
          assert.isAtMost(required, 1000)
          assert.isAtLeast(required, 1000 - backend.tolerance)
          const [, wait] = yield* timed(Effect.all([Effect.sleep(error.requiredSleep ?? 0), limiter.withPermit(pass)]))
          took(wait, Math.ceil(required))
        })
      )

      claim(
        "of zero waits without bound",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 400, initialTokens: 0, maxSleep: 0 })
          const [, elapsed] = yield* timed(limiter.withPermit(pass))
          took(elapsed, 400)
        })
      )

      claim(
        "does not matter to withPermitsIfAvailable, which never waits and never overtakes",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2, refillFrequency: 300 })
          assert.deepStrictEqual(yield* limiter.withPermitsIfAvailable(1)(Effect.succeed("ran")), Option.some("ran"))
          const waiting = yield* start(limiter.withPermits(2)(pass))
          yield* eventually(limiter.state, ({ tokens }) => tokens === 0)
          const [refused, elapsed] = yield* timed(limiter.withPermitsIfAvailable(1)(Effect.succeed("ran")))
          assert.deepStrictEqual(refused, Option.none())
          took(elapsed, 0)
          yield* Fiber.join(waiting)
        })
      )
    })

    describe("giving back", () => {
      claim(
        "thirty sleepers that leave cost those that come after them nothing",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 300, maxSleep: 0 })
          yield* limiter.withPermit(pass)
          const fibers = yield* inOrder(Array.from({ length: 30 }, () => limiter.withPermit(pass)))
          const [, left] = yield* timed(Effect.andThen(Effect.sleep(100), Fiber.interruptAll(fibers)))
          const [, elapsed] = yield* timed(limiter.withPermit(pass))
          took(elapsed + left, 300)
        })
      )

      claim(
        "moves those behind up when somebody leaves the middle, and admits no more than refills",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 100, maxSleep: 0 })
          yield* limiter.withPermit(pass)
          const ran: Array<number> = []
          const fibers = yield* inOrder(
            Array.from({ length: 8 }, (_, index) => limiter.withPermit(Effect.sync(() => ran.push(index))))
          )
          yield* Effect.sleep(20)
          yield* Fiber.interruptAll(fibers.slice(0, 4))
          const newcomers = yield* inOrder(
            Array.from({ length: 2 }, (_, index) => limiter.withPermit(Effect.sync(() => ran.push(8 + index))))
          )
          const [, elapsed] = yield* timed(Fiber.joinAll([...fibers.slice(4), ...newcomers]))
          took(elapsed, 580)
          assert.deepStrictEqual(ran, [4, 5, 6, 7, 8, 9])
        })
      )

      claim(
        "cancelling a reservation gives its tokens back once",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 4, refillFrequency: 10_000 })
          const reservation = yield* limiter.reserve(3)
          assert.isTrue(Duration.isZero(reservation.delay))
          assert.strictEqual((yield* limiter.state).tokens, 1)
          yield* reservation.cancel
          yield* reservation.cancel
          assert.strictEqual((yield* limiter.state).tokens, 4)
        })
      )

      claim(
        "a reservation tells how long to wait, and those that come later wait behind it",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2, refillFrequency: 200, initialTokens: 0 })
          const [first, second] = yield* Effect.all([limiter.reserve(2), limiter.reserve()])
          const delay = Duration.toMillis(first.delay)
          took(400, Math.ceil(delay))
          assert.isAtLeast(Duration.toMillis(second.delay), delay)
          yield* second.cancel
          const [, elapsed] = yield* timed(limiter.withPermit(pass))
          took(elapsed, 600)
        })
      )

      claim(
        "settling returns what the work didn't cost, and charges what it cost beyond",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 10, refillFrequency: 10_000 })
          yield* Effect.scoped(Effect.flatMap(limiter.acquire(6), (permit) => permit.settle(2)))
          assert.strictEqual((yield* limiter.state).tokens, 8)
          const reservation = yield* limiter.reserve(1)
          yield* reservation.settle(4)
          yield* reservation.settle(0)
          assert.strictEqual((yield* limiter.state).tokens, 4)
        })
      )

      claim(
        "what becomes of a reservation is decided once, by cancelling or by settling",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 10, refillFrequency: 10_000 })
          yield* limiter.withPermits(2)(pass)
          const cancelled = yield* limiter.reserve(4)
          yield* cancelled.cancel
          yield* cancelled.settle(0)
          assert.strictEqual((yield* limiter.state).tokens, 8)
          const settled = yield* limiter.reserve(4)
          yield* settled.settle(3)
          yield* settled.cancel
          assert.strictEqual((yield* limiter.state).tokens, 5)
        })
      )

      claim(
        "settling late returns nothing that the bucket could not have held all the while",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 4, refillFrequency: 200 })
          const reservation = yield* limiter.reserve(4)
          yield* Effect.sleep(1000)
          // The bucket is full again, and would have overflown.
          yield* limiter.withPermits(4)(pass)
          yield* reservation.settle(0)
          assert.isAtMost((yield* limiter.state).tokens, 1)
        })
      )

      claim(
        "a debt from settling is waited for by those that come later",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2, refillFrequency: 100, maxSleep: 0 })
          const reservation = yield* limiter.reserve(2)
          yield* reservation.settle(4)
          const [, elapsed] = yield* timed(limiter.withPermit(pass))
          took(elapsed, 300)
        })
      )
    })

    describe("state", () => {
      claim(
        "looks, and consumes nothing",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 3, refillFrequency: 10_000, tokensToConsume: 2 })
          assert.deepInclude(yield* limiter.state, { tokens: 3, capacity: 3 })
          yield* limiter.withPermit(pass)
          const { tokens, wait } = yield* limiter.state
          assert.strictEqual(tokens, 1)
          took(10_000, Math.ceil(Duration.toMillis(wait)))
        })
      )

      claim(
        "is shared by name, and by name only",
        Effect.gen(function* () {
          const name = freshName()
          const [one, same, other] = yield* Effect.all([
            TokenBucket.make({ name, capacity: 2, refillFrequency: 10_000 }),
            TokenBucket.make({ name, capacity: 2, refillFrequency: 10_000 }),
            TokenBucket.make({ name: `${name}'`, capacity: 2, refillFrequency: 10_000 })
          ])
          yield* one.withPermit(pass)
          assert.strictEqual((yield* same.state).tokens, 1)
          assert.strictEqual((yield* other.state).tokens, 2)
        })
      )

      claim(
        "is as new after reset, and what was reserved before counts for nothing",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2, refillFrequency: 10_000, initialTokens: 1 })
          const before = yield* limiter.reserve(1)
          assert.strictEqual((yield* limiter.state).tokens, 0)
          yield* limiter.reset
          assert.strictEqual((yield* limiter.state).tokens, 1)
          yield* before.cancel
          assert.strictEqual((yield* limiter.state).tokens, 1)
        })
      )

      claim(
        "is forgotten once it is full and idle for expiry, and no sooner",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2, refillFrequency: 100, initialTokens: 0, expiry: 300 })
          yield* limiter.withPermit(pass)
          yield* Effect.sleep(350)
          assert.strictEqual((yield* limiter.state).tokens, 2)
          yield* Effect.sleep(400)
          assert.strictEqual((yield* limiter.state).tokens, 0)
        })
      )

      claim(
        "of a quota may be remembered without end",
        Effect.gen(function* () {
          const limiter = yield* make({ refillAmount: 0, refillFrequency: 0, expiry: "Infinity" })
          yield* limiter.withPermit(pass)
          assert.strictEqual((yield* limiter.state).tokens, 4)
        })
      )

      claim(
        "carries over as an amount of tokens to a limiter with other options, which is told once",
        Effect.gen(function* () {
          const name = freshName()
          const warnings: Array<unknown> = []
          const logger = Logger.make(({ message }) => void warnings.push(message))
          const large = yield* TokenBucket.make({ name, capacity: 10, refillFrequency: 10_000 })
          const small = yield* TokenBucket.make({ name, capacity: 4, refillFrequency: 10_000 })
          yield* large.withPermits(1)(pass)
          yield* Effect.gen(function* () {
            yield* small.withPermitsIfAvailable(1)(pass)
            assert.strictEqual((yield* small.state).tokens, 3)
            yield* large.withPermits(1)(pass)
            assert.strictEqual((yield* large.state).tokens, 2)
            yield* small.withPermitsIfAvailable(1)(pass)
            assert.strictEqual((yield* small.state).tokens, 1)
          }).pipe(Effect.provide(Logger.layer([logger])))
          assert.strictEqual(warnings.length, 2)
          assert.include(String(warnings[0]), name)
        })
      )
    })

    claim(
      "its state tells what a request would meet and when there is one more token",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 3, refillFrequency: 1000 })
        const near = (duration: Duration.Duration, expected: number) =>
          took(expected, Math.ceil(Duration.toMillis(duration)))
        yield* limiter.withPermits(2)(pass)
        const state = yield* limiter.stateFor(3)
        assert.deepInclude(state, { tokens: 1, capacity: 3, fillTime: Duration.seconds(3) })
        near(state.wait, 2000)
        near(state.nextToken, 1000)
        assert.isTrue(Duration.isZero((yield* limiter.state).wait))
        yield* limiter.reset
        assert.isFalse(Duration.isFinite((yield* limiter.state).nextToken))
        assert.deepInclude(yield* Effect.flip(limiter.stateFor(4)), { _tag: "InvalidOptions", field: "permits" })
      })
    )

    describe("a pause", () => {
      claim(
        "lets no work through until it is over, and keeps the tokens",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 3, refillFrequency: 10_000 })
          yield* limiter.withPermit(pass)
          yield* limiter.pause(400)
          assert.strictEqual((yield* limiter.state).tokens, 0)
          assert.deepStrictEqual(yield* limiter.withPermitsIfAvailable(1)(pass), Option.none())
          const [, elapsed] = yield* timed(limiter.withPermits(2)(pass))
          took(elapsed, 400)
          assert.strictEqual((yield* limiter.state).tokens, 0)
        })
      )

      claim(
        "holds for every limiter of the name",
        Effect.gen(function* () {
          const name = freshName()
          const [told, other] = yield* Effect.all([TokenBucket.make({ name }), TokenBucket.make({ name })])
          yield* told.pause(400)
          const [, elapsed] = yield* timed(other.withPermit(pass))
          took(elapsed, 400)
        })
      )

      claim(
        "makes those who wait wait longer, in their order",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 2, refillFrequency: 300, initialTokens: 0 })
          const order: Array<number> = []
          const waiting = yield* inOrder(
            [1, 2, 1, 1].map((tokens, index) => limiter.withPermits(tokens)(Effect.sync(() => order.push(index))))
          )
          yield* Effect.sleep(50)
          yield* limiter.pause(800)
          const [, elapsed] = yield* timed(Fiber.joinAll(waiting))
          // Two of the five tokens are there when the pause ends, 850 ms after the beginning; the others by 1500.
          took(elapsed, 1450)
          assert.deepStrictEqual(order, [0, 1, 2, 3])
        })
      )

      claim(
        "lets those give up for whom it is too long",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 300, initialTokens: 0, maxSleep: 600 })
          const waiting = yield* start(Effect.flip(limiter.withPermit(pass)))
          yield* Effect.sleep(50)
          yield* limiter.pause(2000)
          const [error, elapsed] = yield* timed(Fiber.join(waiting))
          took(elapsed, 0)
          assert.strictEqual(error._tag, "MaxSleepExceeded")
          if (error._tag !== "MaxSleepExceeded") return
          took(2000, Math.ceil(Duration.toMillis(error.requiredSleep ?? Duration.zero)))
        })
      )

      claim(
        "is over at once when it is reset, and is nothing if it lasts no time",
        Effect.gen(function* () {
          const limiter = yield* make()
          yield* limiter.pause(Duration.infinity)
          assert.strictEqual((yield* Effect.flip(limiter.withPermit(pass)))._tag, "MaxSleepExceeded")
          yield* limiter.reset
          yield* limiter.pause(0)
          assert.strictEqual((yield* limiter.state).tokens, 5)
          const error = yield* Effect.flip(limiter.pause(Duration.millis(-1)))
          assert.strictEqual(error._tag, "InvalidOptions")
          assert.deepInclude(error, { field: "duration" })
        })
      )

      claim(
        "can be interrupted by those who wait for its end",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 10_000, initialTokens: 0, maxSleep: 0 })
          const waiting = yield* inOrder([limiter.withPermit(pass), limiter.withPermit(pass), limiter.withPermit(pass)])
          const untilAsked = eventually(limiter.state, ({ wait }) => Duration.toMillis(wait) > 30_000)
          yield* untilAsked
          yield* limiter.pause(1000)
          yield* untilAsked
          yield* Fiber.interruptAll(waiting)
          // What one of them is still being told comes back when it has been told.
          yield* eventually(limiter.state, ({ wait }) => Duration.toMillis(wait) <= 10_000)
        })
      )
    })

    describe("acquire", () => {
      claim(
        "gives a permit that tells how long it was waited for",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 200, initialTokens: 0 })
          const permit = yield* Effect.scoped(limiter.acquire())
          assert.strictEqual(permit.tokens, 1)
          assert.strictEqual(permit.name, limiter.name)
          took(Math.round(Duration.toMillis(permit.waited)), 200)
        })
      )

      claim(
        "can be interrupted while it waits",
        Effect.gen(function* () {
          const limiter = yield* make({ capacity: 1, refillFrequency: 60_000, initialTokens: 0, maxSleep: 0 })
          const fiber = yield* start(Effect.scoped(limiter.acquire()))
          yield* eventually(limiter.state, ({ wait }) => Duration.toMillis(wait) > 60_000)
          const [, elapsed] = yield* timed(Fiber.interrupt(fiber))
          took(elapsed, 0)
          assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
        })
      )
    })
  })
