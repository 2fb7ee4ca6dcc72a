/**
 * What `Limiter.all` promises, whether its limiters live in one place or apart.
 */
import { assert, describe } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Option } from "effect"
import {
  Limiter,
  Semaphore,
  type SemaphoreOptions,
  TokenBucket,
  type TokenBucketOptions,
  type TokenBucketState
} from "steindamm"
import { inOrder, start } from "../support/fibers.ts"
import { assertTook, type Backend, caseFor, eventually, freshName, timed } from "./harness.ts"

const pass = Effect.void

const tokensOf = (state: TokenBucketState): number => state.tokens

export const jointContract = (backend: Backend, isTagged: boolean): void => {
  const claim = caseFor(backend)
  const took = (elapsed: number, expected: number, message?: string) => assertTook(backend, elapsed, expected, message)

  describe(`several limiters ${backend.label}, ${isTagged ? "of one tag" : "each with its own tag"}`, () => {
    /** Makes limiters that share a tag, or don't. */
    const maker = () => {
      const tag = isTagged ? { tag: freshName() } : {}
      return {
        bucket: (options: Partial<TokenBucketOptions> = {}) =>
          TokenBucket.make({ name: freshName(), ...tag, ...options }),
        semaphore: (options: Partial<SemaphoreOptions> = {}) =>
          Semaphore.make({ name: freshName(), ...tag, ...options })
      }
    }

    claim(
      "let work run at the first moment that suits all of them",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const fast = yield* bucket({ capacity: 5, refillFrequency: 100 })
        const slow = yield* bucket({ capacity: 1, refillFrequency: 400 })
        const joint = Limiter.all([fast, slow, yield* semaphore()])
        const twice = Effect.all([
          joint.withPermit(Effect.succeed("first")),
          joint.withPermit(Effect.succeed("second"))
        ])
        const [values, elapsed] = yield* timed(twice)
        assert.deepStrictEqual(values, ["first", "second"])
        took(elapsed, 400)
      })
    )

    claim(
      "take of each what its member says, and so many times as much with permits",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const requests = yield* bucket({ capacity: 10, refillFrequency: 10_000 })
        const tokens = yield* bucket({ capacity: 5000, refillFrequency: 10_000 })
        const costly = yield* bucket({ capacity: 10, refillFrequency: 10_000, tokensToConsume: 2 })
        const connections = yield* semaphore({ capacity: 4 })
        const joint = Limiter.all([requests, { limiter: tokens, permits: 1200 }, costly, connections])
        yield* joint.withPermit(pass)
        assert.deepStrictEqual(
          (yield* joint.state).slice(0, 3).map((state) => ("tokens" in state ? state.tokens : 0)),
          [9, 3800, 8]
        )
        const held = yield* joint.withPermits(3)(connections.state)
        assert.strictEqual(held.held, 3)
        assert.strictEqual(tokensOf(yield* requests.state), 6)
        assert.strictEqual(tokensOf(yield* tokens.state), 200)
        assert.strictEqual(tokensOf(yield* costly.state), 2)
        const error = yield* Effect.flip(joint.withPermits(5)(pass))
        assert.deepInclude(error, { _tag: "InvalidOptions", name: tokens.name, field: "permits", value: 6000 })
        assert.strictEqual(tokensOf(yield* requests.state), 6)
      })
    )

    claim(
      "take nothing from any when one refuses, and tell which, the smallest maxSleep and the largest wait",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const fast = yield* bucket({ capacity: 5, refillFrequency: 10_000, maxSleep: 500 })
        const middle = yield* bucket({ capacity: 1, initialTokens: 0, refillFrequency: 700 })
        const slow = yield* bucket({ capacity: 1, initialTokens: 0, refillFrequency: 1000, maxSleep: 800 })
        const semaphoreLimiter = yield* semaphore()
        const joint = Limiter.all([fast, slow, middle, semaphoreLimiter])
        assert.deepStrictEqual(joint.maxSleep, Duration.millis(500))
        // From their first request on they refill.
        for (const limiter of [slow, middle]) yield* limiter.withPermitsIfAvailable(1)(pass)
        const [error, elapsed] = yield* timed(Effect.flip(joint.withPermit(Effect.die("must not run"))))
        took(elapsed, 0)
        assert.strictEqual(error._tag, "MaxSleepExceeded")
        if (error._tag !== "MaxSleepExceeded") return
        assert.strictEqual(error.kind, "TokenBucket")
        assert.strictEqual(Duration.toMillis(error.maxSleep), 500)
        assert.strictEqual(error.name, slow.name)
        took(1000, Math.ceil(Duration.toMillis(error.requiredSleep ?? Duration.zero)))
        assert.strictEqual(tokensOf(yield* fast.state), 5)
        assert.strictEqual((yield* semaphoreLimiter.state).held, 0)
        yield* Effect.andThen(Effect.sleep(1000), joint.withPermit(pass))
        assert.strictEqual(tokensOf(yield* fast.state), 4)
      })
    )

    claim(
      "take nothing from any when a quota is used up",
      Effect.gen(function* () {
        const { bucket } = maker()
        const fast = yield* bucket({ capacity: 5, refillFrequency: 10_000 })
        const quota = yield* bucket({ capacity: 2, refillAmount: 0, refillFrequency: 0 })
        const joint = Limiter.all([fast, { limiter: quota, permits: 2 }])
        yield* joint.withPermit(pass)
        const error = yield* Effect.flip(joint.withPermit(pass))
        assert.deepInclude(error, { _tag: "NoTokensAvailable", name: quota.name, available: 0, requested: 2 })
        assert.strictEqual(tokensOf(yield* fast.state), 4)
      })
    )

    claim(
      "keep the order of arrival in each of them, also to those who ask one alone",
      Effect.gen(function* () {
        const { bucket } = maker()
        const fast = yield* bucket({ capacity: 1, refillFrequency: 400, maxSleep: 0 })
        const slow = yield* bucket({ capacity: 1, initialTokens: 0, refillFrequency: 1000, maxSleep: 0 })
        const order: Array<string> = []
        const push = (name: string) => Effect.sync(() => order.push(name))
        const joint = Limiter.all([fast, slow])
        const [, elapsed] = yield* timed(
          Effect.gen(function* () {
            const first = yield* start(joint.withPermit(push("joint")))
            yield* eventually(fast.state, ({ wait }) => !Duration.isZero(wait))
            const second = yield* start(fast.withPermit(push("alone")))
            yield* Fiber.joinAll([first, second])
          })
        )
        took(elapsed, 1200)
        assert.deepStrictEqual(order, ["joint", "alone"])
      })
    )

    claim(
      "have everything back when a wait is interrupted, and those who came later need not wait for it any more",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const fast = yield* bucket({ capacity: 3, refillFrequency: 10_000 })
        const slow = yield* bucket({ capacity: 2, refillFrequency: 2000 })
        const connections = yield* semaphore()
        const joint = Limiter.all([fast, slow, connections])
        yield* slow.withPermits(2)(pass)
        const waiting = yield* inOrder([joint.withPermit(pass), joint.withPermit(pass)])
        // Behind both of them.
        yield* eventually(slow.state, ({ wait }) => Duration.toMillis(wait) > 4000)
        yield* eventually(fast.state, ({ tokens }) => tokens === 0)
        yield* Fiber.interruptAll(waiting)
        // What one of them is still being told comes back when it has been told.
        yield* eventually(fast.state, ({ tokens }) => tokens === 3)
        assert.strictEqual((yield* connections.state).held, 0)
        const [, elapsed] = yield* timed(fast.withPermits(3)(pass))
        took(elapsed, 0)
        const { wait } = yield* slow.state
        assert.isAtMost(Duration.toMillis(wait), 2000)
      })
    )

    claim(
      "move those behind up when somebody leaves the middle",
      Effect.gen(function* () {
        const { bucket } = maker()
        const fast = yield* bucket({ capacity: 3, refillFrequency: 100, maxSleep: 0 })
        const slow = yield* bucket({ capacity: 1, refillFrequency: 400, maxSleep: 0 })
        const joint = Limiter.all([fast, slow])
        yield* joint.withPermit(pass)
        const ran: Array<number> = []
        const [, elapsed] = yield* timed(
          Effect.gen(function* () {
            const fibers = yield* inOrder(
              Array.from({ length: 6 }, (_, index) => joint.withPermit(Effect.sync(() => ran.push(index))))
            )
            // The last of them would run after 2400 ms.
            yield* eventually(fast.state, ({ wait }) => Duration.toMillis(wait) > 1700)
            yield* Fiber.interruptAll(fibers.slice(0, 3))
            yield* Fiber.joinAll(fibers.slice(3))
          })
        )
        took(elapsed, 1200)
        assert.deepStrictEqual(ran, [3, 4, 5])
      })
    )

    claim(
      "take semaphores last, and give the tokens back if those can't be had in time",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const tokens = yield* bucket({ capacity: 3, refillFrequency: 60_000, maxSleep: 1000 })
        const [free, taken] = [yield* semaphore(), yield* semaphore({ capacity: 1 })]
        const joint = Limiter.all([free, taken, tokens])
        const holder = yield* start(taken.withPermit(Effect.never))
        yield* eventually(taken.state, ({ held }) => held === 1)
        const [error, elapsed] = yield* timed(Effect.flip(joint.withPermit(Effect.die("must not run"))))
        assert.isAtLeast(elapsed, 1000 - backend.tolerance)
        assert.deepInclude(error, { _tag: "MaxSleepExceeded", kind: "Semaphore", name: taken.name })
        assert.strictEqual(tokensOf(yield* tokens.state), 3)
        assert.deepInclude(yield* free.state, { held: 0, waiting: 0 })
        const waiting = yield* start(joint.withPermit(pass))
        yield* eventually(taken.state, ({ waiting }) => waiting === 1)
        yield* Fiber.interrupt(holder)
        yield* Fiber.join(waiting)
        assert.strictEqual(tokensOf(yield* tokens.state), 2)
      })
    )

    claim(
      "wait no longer than the smallest maxSleep behind others who wait longer for a semaphore",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const taken = yield* semaphore({ capacity: 1, maxSleep: 3000 })
        const joint = Limiter.all([yield* bucket({ maxSleep: 500 }), taken])
        const [holder] = yield* inOrder([taken.withPermit(Effect.never)])
        yield* eventually(taken.state, ({ held }) => held === 1)
        const [patient] = yield* inOrder([taken.withPermit(pass)])
        yield* eventually(taken.state, ({ waiting }) => waiting === 1)
        const [error, elapsed] = yield* timed(Effect.flip(joint.withPermit(pass)))
        took(elapsed, 500)
        assert.deepInclude(error, { _tag: "MaxSleepExceeded", name: taken.name })
        if (holder !== undefined) yield* Fiber.interrupt(holder)
        if (patient !== undefined) yield* Fiber.join(patient)
      })
    )

    claim(
      "have everything back when a wait for a semaphore is interrupted",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const tokens = yield* bucket({ capacity: 3, refillFrequency: 10_000 })
        const [free, taken] = [yield* semaphore(), yield* semaphore({ capacity: 1 })]
        const joint = Limiter.all([tokens, free, taken])
        const holder = yield* start(taken.withPermit(Effect.never))
        yield* eventually(taken.state, ({ held }) => held === 1)
        const waiting = yield* start(joint.withPermit(pass))
        yield* eventually(taken.state, ({ waiting }) => waiting === 1)
        assert.strictEqual(tokensOf(yield* tokens.state), 2)
        yield* Fiber.interrupt(waiting)
        assert.strictEqual(tokensOf(yield* tokens.state), 3)
        assert.deepInclude(yield* free.state, { held: 0, waiting: 0 })
        assert.deepInclude(yield* taken.state, { held: 1, waiting: 0 })
        yield* Fiber.interrupt(holder)
      })
    )

    claim(
      "of which each names the semaphores in another order do not wait for each other",
      Effect.gen(function* () {
        const { semaphore } = maker()
        const [one, other] = [yield* semaphore({ capacity: 1 }), yield* semaphore({ capacity: 1 })]
        const both = [Limiter.all([one, other]), Limiter.all([other, one])]
        let ran = 0
        const work = Effect.andThen(
          Effect.yieldNow,
          Effect.sync(() => ran++)
        )
        yield* Effect.forEach(
          Array.from({ length: 20 }, (_, index) => both[index % 2] ?? Limiter.all([one])),
          (joint) => joint.withPermit(work),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(ran, 20)
        assert.deepInclude(yield* one.state, { held: 0, waiting: 0 })
        assert.deepInclude(yield* other.state, { held: 0, waiting: 0 })
      })
    )

    claim(
      "refuse work that would have to wait because of one that is not to be waited for, and hold nobody up with it",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const common = yield* bucket({ capacity: 2, refillFrequency: 10_000 })
        const own = yield* bucket({ capacity: 1, refillFrequency: 5000 })
        const joint = Limiter.all([common, { limiter: own, wait: false }])
        yield* joint.withPermit(pass)
        const error = yield* Effect.flip(joint.withPermit(pass))
        assert.deepInclude(error, { _tag: "MaxSleepExceeded", name: own.name, maxSleep: Duration.zero })
        if (error._tag === "MaxSleepExceeded") {
          assert.isAbove(Duration.toMillis(error.requiredSleep ?? Duration.zero), 0)
        }
        assert.strictEqual(tokensOf(yield* common.state), 1)
        const connections = yield* semaphore({ capacity: 1 })
        const holder = yield* start(connections.withPermit(Effect.never))
        yield* eventually(connections.state, ({ held }) => held === 1)
        const impatient = Limiter.all([common, { limiter: connections, wait: false }])
        const refused = yield* Effect.flip(impatient.withPermit(pass))
        assert.deepInclude(refused, { _tag: "MaxSleepExceeded", name: connections.name, maxSleep: Duration.zero })
        assert.strictEqual(tokensOf(yield* common.state), 1)
        yield* Fiber.interrupt(holder)
      })
    )

    claim(
      "wait for others together with one that is not to be waited for itself",
      Effect.gen(function* () {
        const { bucket } = maker()
        const common = yield* bucket({ capacity: 1, initialTokens: 0, refillFrequency: 400 })
        const own = yield* bucket({ capacity: 5, refillFrequency: 10_000 })
        const joint = Limiter.all([{ limiter: own, wait: false }, common])
        const both = Effect.all([joint.withPermit(pass), joint.withPermit(pass)], { concurrency: "unbounded" })
        const [, elapsed] = yield* timed(both)
        took(elapsed, 800)
        assert.strictEqual(tokensOf(yield* own.state), 3)
      })
    )

    claim(
      "run work only if all have it this instant, and take nothing otherwise",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const tokens = yield* bucket({ capacity: 3, refillFrequency: 10_000 })
        const slow = yield* bucket({ capacity: 2, refillFrequency: 10_000 })
        const connections = yield* semaphore({ capacity: 1 })
        const joint = Limiter.all([tokens, slow, connections])
        const tried = joint.withPermitsIfAvailable(1)(Effect.succeed("ran"))
        assert.deepStrictEqual(yield* tried, Option.some("ran"))
        const busy = yield* connections.withPermit(tried)
        assert.deepStrictEqual(busy, Option.none())
        assert.strictEqual(tokensOf(yield* tokens.state), 2)
        yield* tried
        const [none, elapsed] = yield* timed(tried)
        assert.deepStrictEqual(none, Option.none())
        took(elapsed, 0)
        assert.strictEqual(tokensOf(yield* tokens.state), 1)
        assert.strictEqual((yield* connections.state).held, 0)
      })
    )

    claim(
      "give a scope what each of them gives, and have the permits back when it closes",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const requests = yield* bucket({ capacity: 3, refillFrequency: 10_000 })
        const tokens = yield* bucket({ capacity: 5000, refillFrequency: 10_000 })
        const connections = yield* semaphore({ capacity: 2 })
        const joint = Limiter.all([connections, { limiter: tokens, permits: 1200 }, requests])
        yield* Effect.scoped(
          Effect.gen(function* () {
            const permit = yield* joint.acquire()
            const [connection, ofTokens, request] = permit.permits
            assert.strictEqual(permit.name, joint.name)
            assert.deepStrictEqual([connection.permits, ofTokens.tokens, request.tokens], [1, 1200, 1])
            assert.isAbove(connection.fencingToken, 0)
            assert.strictEqual((yield* connections.state).held, 1)
            yield* ofTokens.settle(200)
          })
        )
        assert.strictEqual((yield* connections.state).held, 0)
        assert.strictEqual(tokensOf(yield* tokens.state), 4800)
        assert.strictEqual(tokensOf(yield* requests.state), 2)
      })
    )

    claim(
      "interrupt the work when a permit of any is lost",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const limiters = [yield* semaphore(), yield* semaphore(), yield* semaphore()] as const
        const joint = Limiter.all([...limiters, yield* bucket()])
        for (const limiter of limiters) {
          const begun = yield* Deferred.make<void>()
          const work = Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
          const working = yield* start(Effect.flip(joint.withPermit(work)))
          yield* Deferred.await(begun)
          yield* limiter.reset
          const error = yield* Fiber.join(working)
          assert.deepInclude(error, { _tag: "PermitLost", name: limiter.name })
          for (const one of limiters) assert.strictEqual((yield* one.state).held, 0)
        }
      })
    )

    claim(
      "show the state of each, and start anew together",
      Effect.gen(function* () {
        const { bucket, semaphore } = maker()
        const [one, other] = [yield* bucket({ refillFrequency: 10_000 }), yield* bucket({ refillFrequency: 10_000 })]
        const joint = Limiter.all([one, yield* semaphore({ capacity: 7 }), other])
        yield* joint.withPermit(pass)
        yield* other.withPermit(pass)
        const [first, second, third] = yield* joint.state
        assert.deepStrictEqual([first.tokens, second.capacity, third.tokens], [4, 7, 3])
        yield* joint.reset
        assert.strictEqual(tokensOf(yield* one.state), 5)
        assert.strictEqual(tokensOf(yield* other.state), 5)
      })
    )

    claim(
      "wrap functions, fail as the work fails, and let pass what costs nothing",
      Effect.gen(function* () {
        const { bucket } = maker()
        const [one, other] = [
          yield* bucket({ refillFrequency: 10_000 }),
          yield* bucket({ initialTokens: 0, refillFrequency: 10_000 })
        ]
        const joint = Limiter.all([one, { limiter: other, permits: 0 }])
        const add = joint.wrap((a: number, b: number) => Effect.succeed(a + b))
        assert.strictEqual(yield* add(1, 2), 3)
        assert.strictEqual(yield* Effect.flip(joint.withPermit(Effect.fail("failure"))), "failure")
        assert.strictEqual(tokensOf(yield* one.state), 3)
        const none = yield* Effect.exit(Limiter.all([]).withPermit(pass))
        assert.isTrue(Exit.isSuccess(none))
      })
    )
  })
}
