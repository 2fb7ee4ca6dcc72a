import {
  BackendError,
  type ConnectionOptions,
  createTokenBucket,
  InvalidOptions,
  MaxSleepExceeded,
  NoTokensAvailable,
  type TokenBucket,
  type TokenBucketOptions
} from "steindamm/promise"
import { assert, describe, it, onTestFinished } from "vitest"
import { elapsed, gate, rejection } from "../support/promises.ts"
import { freshName } from "./harness.ts"

/** What a token bucket for plain promises owes to its users, wherever its state lives. */
export const promiseTokenBucketContract = (label: string, connection: () => ConnectionOptions): unknown =>
  describe(`a promised token bucket ${label}`, () => {
    const make = (options: Omit<TokenBucketOptions, "name"> = {}): TokenBucket => {
      const limiter = createTokenBucket({ name: freshName(), ...connection(), ...options })
      onTestFinished(() => limiter.close({ timeout: 0 }))
      return limiter
    }

    /** Refills so seldom that a test sees nothing of it. */
    const seldom = { refillFrequency: "1 hour", maxSleep: "1 day" } as const

    it("runs callbacks while it has tokens, and then as they refill", async () => {
      const limiter = make({ capacity: 2, refillFrequency: 100 })
      const took = await elapsed(async () => {
        const values = await Promise.all([1, 2, 3, 4].map((n) => limiter.withPermit(async () => n)))
        assert.deepStrictEqual(values, [1, 2, 3, 4])
      })
      assert.isAtLeast(took, 100)
      assert.isAtMost(took, 1000)
    })

    it("lets the callback's errors through as they are, and keeps the tokens that it took", async () => {
      const limiter = make({ capacity: 3, ...seldom })
      const error = new Error("mine")
      assert.strictEqual(await rejection(limiter.withPermit(() => Promise.reject(error), 2)), error)
      assert.strictEqual((await limiter.state()).tokens, 1)
    })

    it("is rejected with MaxSleepExceeded beforehand, with nothing consumed and a stack that names the caller", async () => {
      const limiter = make({ capacity: 1, refillFrequency: "1 hour" })
      await limiter.withPermit(() => {})
      const impatientCaller = async () => {
        await limiter.withPermit(() => assert.fail("ran"))
      }
      const anotherCaller = async () => {
        await limiter.reserve()
      }
      for (const caller of [impatientCaller, anotherCaller]) {
        const error = await rejection(caller())
        assert.instanceOf(error, MaxSleepExceeded)
        assert.strictEqual(error.kind, "TokenBucket")
        assert.isDefined(error.requiredSleep)
        assert.include(error.stack, caller.name)
      }
      const { wait } = await limiter.state()
      assert.isAbove(wait, 3_500_000)
      assert.isAtMost(wait, 3_600_000)
    })

    it("is rejected with NoTokensAvailable when a quota is used up", async () => {
      const limiter = make({ capacity: 2, refillAmount: 0, refillFrequency: 0 })
      await limiter.withPermit(() => {}, { permits: 2 })
      const error = await rejection(limiter.withPermit(() => assert.fail("ran")))
      assert.instanceOf(error, NoTokensAvailable)
      assert.strictEqual(error.available, 0)
      assert.isUndefined(await limiter.tryAcquire())
      assert.strictEqual((await limiter.state()).wait, Number.POSITIVE_INFINITY)
    })

    it("takes tokensToConsume, unless the request says how many", async () => {
      const limiter = make({ capacity: 10, tokensToConsume: 2.5, ...seldom })
      await limiter.withPermit(() => {})
      assert.strictEqual((await limiter.state()).tokens, 7.5)
      await limiter.withPermit(() => {}, 3)
      assert.strictEqual((await limiter.state()).tokens, 4.5)
      const free = await limiter.acquire({ permits: 0 })
      assert.strictEqual(free.tokens, 0)
      await limiter.withPermit(() => {}, { permits: 0 })
      assert.strictEqual((await limiter.state()).tokens, 4.5)
      const error = await rejection(limiter.acquire(10.5))
      assert.instanceOf(error, InvalidOptions)
      assert.strictEqual(error.field, "permits")
    })

    it("never begins what an aborted signal asks for, and consumes nothing", async () => {
      const limiter = make({ capacity: 1, ...seldom })
      const reason = { why: "never mind" }
      const signal = AbortSignal.abort(reason)
      const never = () => assert.fail("ran")
      assert.strictEqual(await rejection(limiter.withPermit(never, { signal })), reason)
      assert.strictEqual(await rejection(limiter.acquire({ signal })), reason)
      assert.strictEqual(await rejection(limiter.tryAcquire({ signal })), reason)
      assert.strictEqual(await rejection(limiter.reserve({ signal })), reason)
      assert.strictEqual((await limiter.state()).tokens, 1)
    })

    it("ends a wait with the reason of its signal, and gives its tokens back", async () => {
      const limiter = make({ capacity: 1, ...seldom })
      await limiter.withPermit(() => {})
      const before = (await limiter.state()).wait
      const controllers = Array.from({ length: 4 }, () => new AbortController())
      const ended = controllers.map(({ signal }, n) =>
        rejection(n % 2 === 0 ? limiter.withPermit(() => assert.fail("ran"), { signal }) : limiter.acquire({ signal }))
      )
      while ((await limiter.state()).wait < before + 3 * 3_600_000) await new Promise(setImmediate)
      for (const [n, controller] of controllers.entries()) controller.abort(n)
      assert.deepStrictEqual(await Promise.all(ended), [0, 1, 2, 3])
      while ((await limiter.state()).wait > before) await new Promise(setImmediate)
    })

    it("tells a callback that its caller has aborted, and is rejected with the reason once the callback has settled", async () => {
      const limiter = make()
      const controller = new AbortController()
      const started = gate()
      const mayEnd = gate()
      let told: unknown
      const work = limiter.withPermit(
        async ({ signal }) => {
          started.open()
          await mayEnd.passed
          told = signal.reason
          return "value"
        },
        { signal: controller.signal }
      )
      await started.passed
      controller.abort("reason")
      mayEnd.open()
      assert.strictEqual(await rejection(work), "reason")
      assert.strictEqual(told, "reason")
    })

    it("settles what the work really cost", async () => {
      const limiter = make({ capacity: 100, ...seldom })
      const permit = await limiter.acquire(50)
      assert.strictEqual(permit.tokens, 50)
      assert.isAtLeast(permit.waited, 0)
      await permit.settle(20)
      await permit.settle(50)
      assert.strictEqual((await limiter.state()).tokens, 80)
      {
        await using dearer = await limiter.acquire(10)
        await dearer.settle(30)
      }
      assert.strictEqual((await limiter.state()).tokens, 50)
      const error = await rejection(permit.settle(-1))
      assert.instanceOf(error, InvalidOptions)
      assert.strictEqual(error.field, "actual")
    })

    it("gives undefined instead of waiting, and takes nothing", async () => {
      const limiter = make({ capacity: 3, ...seldom })
      assert.strictEqual((await limiter.tryAcquire(2))?.tokens, 2)
      assert.isUndefined(await limiter.tryAcquire(2))
      assert.strictEqual((await limiter.tryAcquire())?.tokens, 1)
      assert.isUndefined(await limiter.tryAcquire())
    })

    it("reserves tokens that come later, to be waited for", async () => {
      const limiter = make({ capacity: 1, refillFrequency: 500 })
      assert.strictEqual((await limiter.reserve()).delay, 0)
      const asked = performance.now()
      const reservation = await limiter.reserve()
      assert.isAbove(reservation.delay, 0)
      assert.isAtMost(reservation.delay, 500)
      await reservation.wait()
      assert.isAtLeast(performance.now() - asked, reservation.delay)
      // It is over, and not begun anew.
      assert.isBelow(await elapsed(() => reservation.wait()), reservation.delay)
    })

    it("takes reservations back that are cancelled, or whose wait is aborted", async () => {
      const limiter = make({ capacity: 1, ...seldom })
      await limiter.reserve()
      const before = (await limiter.state()).wait
      const cancelled = await limiter.reserve()
      assert.isAbove((await limiter.state()).wait, before)
      await cancelled.cancel()
      await cancelled.cancel()
      await cancelled.settle(1)
      assert.isAtMost((await limiter.state()).wait, before)

      for (const abortedBefore of [false, true]) {
        const controller = new AbortController()
        const aborted = await limiter.reserve()
        if (abortedBefore) controller.abort("reason")
        const ended = rejection(aborted.wait({ signal: controller.signal }))
        controller.abort("reason")
        assert.strictEqual(await ended, "reason")
        while ((await limiter.state()).wait > before) await new Promise(setImmediate)
      }
    })

    it("settles reservations", async () => {
      const limiter = make({ capacity: 10, ...seldom })
      const reservation = await limiter.reserve({ permits: 4 })
      assert.strictEqual(reservation.tokens, 4)
      assert.strictEqual(reservation.name, limiter.name)
      await reservation.settle(1)
      assert.strictEqual((await limiter.state()).tokens, 9)
    })

    it("pauses for everyone, and starts anew", async () => {
      const limiter = make({ capacity: 5 })
      await limiter.pause("1 hour")
      assert.isUndefined(await limiter.tryAcquire())
      await limiter.reset()
      assert.isDefined(await limiter.tryAcquire())
      const error = await rejection(limiter.pause("soon" as never))
      assert.instanceOf(error, InvalidOptions)
      assert.strictEqual(error.field, "duration")
    })

    it("shows the wait of a request", async () => {
      const limiter = make({ capacity: 2, refillFrequency: "1 hour", maxSleep: 0 })
      await limiter.acquire(2)
      const [one, two] = [await limiter.state(), await limiter.state(2)]
      assert.strictEqual(one.capacity, 2)
      assert.strictEqual(one.tokens, 0)
      assert.strictEqual(one.fillTime, 7_200_000)
      assert.isAbove(one.nextToken, 3_500_000)
      assert.approximately(two.wait - one.wait, 3_600_000, 10_000)
    })

    it("wraps functions", async () => {
      const limiter = make({ capacity: 1, ...seldom })
      const add = limiter.wrap((a: number, b: number) => a + b)
      assert.strictEqual(await add(1, 2), 3)
      assert.strictEqual((await limiter.state()).tokens, 0)
    })

    it("has tokens of its own for each key", async () => {
      const limiter = make({ capacity: 1, ...seldom })
      assert.isDefined(await limiter.forKey("ada").tryAcquire())
      assert.isUndefined(await limiter.forKey("ada").tryAcquire())
      assert.isDefined(await limiter.forKey("grace").tryAcquire())
      assert.strictEqual((await limiter.state()).tokens, 1)
    })

    it("shares its tokens with limiters of the same name", async () => {
      const one = make({ capacity: 1, ...seldom })
      const other = createTokenBucket({ name: one.name, capacity: 1, ...seldom, ...connection() })
      await one.acquire()
      assert.isUndefined(await other.tryAcquire())
      await other.close()
      assert.strictEqual((await one.state()).tokens, 0)
    })

    it("refuses everything once it is closed, and those who wait at once", async () => {
      const limiter = make({ capacity: 1, ...seldom })
      const permit = await limiter.acquire()
      const reservation = await limiter.reserve()
      const lateCaller = async () => {
        await limiter.withPermit(() => assert.fail("ran"))
      }
      const waiting = rejection(lateCaller())
      const sleeping = rejection(reservation.wait())
      await limiter.close()
      for (const refused of [
        await waiting,
        await sleeping,
        await rejection(lateCaller()),
        await rejection(limiter.acquire()),
        await rejection(limiter.reserve()),
        await rejection(limiter.state()),
        await rejection(permit.settle(0)),
        await rejection(reservation.cancel()),
        await rejection(limiter.forKey("key").acquire())
      ]) {
        assert.instanceOf(refused, BackendError)
        assert.strictEqual(refused.reason, "Closed")
      }
      assert.include(((await waiting) as Error).stack, "lateCaller")
    })
  })
