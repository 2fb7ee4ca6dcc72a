import { getEventListeners } from "node:events"
import {
  BackendError,
  type ConnectionOptions,
  createSemaphore,
  InvalidOptions,
  MaxSleepExceeded,
  PermitLost,
  type Semaphore,
  type SemaphoreOptions
} from "steindamm/promise"
import { assert, describe, it, onTestFinished } from "vitest"
import { aborted, elapsed, gate, rejection, until } from "../support/promises.ts"
import { freshName } from "./harness.ts"

/** What a semaphore for plain promises owes to its users, wherever its state lives. */
export const promiseSemaphoreContract = (label: string, connection: () => ConnectionOptions): unknown =>
  describe(`a promised semaphore ${label}`, () => {
    const make = (options: Partial<SemaphoreOptions> = {}): Semaphore => {
      const limiter = createSemaphore({ name: freshName(), ...connection(), ...options })
      onTestFinished(() => limiter.close({ timeout: 0 }))
      return limiter
    }

    const isIdle = async (limiter: Semaphore) => {
      const { held, waiting } = await limiter.state()
      assert.deepStrictEqual({ held, waiting }, { held: 0, waiting: 0 })
    }

    /** Work that goes on until it is told to end. */
    const occupy = async (limiter: Semaphore, permits = 1) => {
      const { passed, open } = gate()
      const started = gate()
      const ended = limiter.withPermit(async () => {
        started.open()
        await passed
      }, permits)
      await Promise.race([started.passed, ended])
      return {
        end: async () => {
          open()
          await ended
        }
      }
    }

    it("gives what the callback gives, and has its permit back by then", async () => {
      const limiter = make({ capacity: 1 })
      assert.strictEqual(await limiter.withPermit(async () => "promised"), "promised")
      assert.strictEqual(await limiter.withPermit(() => "at once"), "at once")
      await isIdle(limiter)
    })

    it("lets the callback's errors through as they are, whatever they are, and has its permit back", async () => {
      const limiter = make({ capacity: 1 })
      const error = new Error("mine")
      const stack = error.stack
      assert.strictEqual(await rejection(limiter.withPermit(() => Promise.reject(error))), error)
      assert.strictEqual(error.stack, stack)
      const thrown = limiter.withPermit(() => {
        throw error
      })
      assert.strictEqual(await rejection(thrown), error)
      assert.strictEqual(await rejection(limiter.withPermit(() => Promise.reject())), undefined)
      const mine = new PermitLost({ name: "mine", permitId: "1", fencingToken: 1 })
      const itsStack = mine.stack
      assert.strictEqual(await rejection(limiter.withPermit(() => Promise.reject(mine))), mine)
      assert.strictEqual(mine.stack, itsStack)
      await isIdle(limiter)
    })

    it("lets no more run at once than it has permits, in order of arrival", async () => {
      const limiter = make({ capacity: 2 })
      const order: Array<number> = []
      let inside = 0
      let peak = 0
      const run = (n: number) =>
        limiter.withPermit(async () => {
          peak = Math.max(peak, ++inside)
          order.push(n)
          await new Promise(setImmediate)
          inside--
        })
      await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(run))
      assert.strictEqual(peak, 2)
      assert.deepStrictEqual(order, [0, 1, 2, 3, 4, 5, 6, 7])
    })

    it("takes as many permits as are asked for, by number or by name", async () => {
      const limiter = make({ capacity: 3 })
      const two = await occupy(limiter, 2)
      assert.isUndefined(await limiter.tryAcquire({ permits: 2 }))
      assert.strictEqual((await limiter.state()).held, 2)
      await two.end()
      {
        await using permit = await limiter.acquire({ permits: 3 })
        assert.strictEqual(permit.permits, 3)
        assert.strictEqual((await limiter.state()).held, 3)
      }
      await isIdle(limiter)
    })

    it("is rejected with MaxSleepExceeded when no permit came in time, with a stack that names the caller", async () => {
      const patient = make({ capacity: 1 })
      const held = await occupy(patient)
      const limiter = make({ name: patient.name, capacity: 1, maxSleep: 300 })
      const impatientCaller = async () => {
        await limiter.withPermit(() => assert.fail("ran"))
      }
      const anotherCaller = async () => {
        await using _permit = await limiter.acquire()
      }
      for (const caller of [impatientCaller, anotherCaller]) {
        const error = await rejection(caller())
        assert.instanceOf(error, MaxSleepExceeded)
        assert.instanceOf(error, Error)
        assert.strictEqual(error.name, limiter.name)
        assert.include(error.message, limiter.name)
        assert.include(error.stack, caller.name)
        assert.match(error.stack ?? "", /promiseSemaphore\.ts/)
      }
      await held.end()
      await isIdle(limiter)
    })

    it("never begins what an aborted signal asks for", async () => {
      const limiter = make()
      const reason = { why: "never mind" }
      const signal = AbortSignal.abort(reason)
      const never = () => assert.fail("ran")
      assert.strictEqual(await rejection(limiter.withPermit(never, { signal })), reason)
      assert.strictEqual(await rejection(limiter.acquire({ signal })), reason)
      assert.strictEqual(await rejection(limiter.tryAcquire({ signal })), reason)
      await isIdle(limiter)
    })

    it("ends a wait with the reason of its signal, and loses no permit", async () => {
      const limiter = make({ capacity: 1 })
      const held = await occupy(limiter)
      const [first, second] = [new AbortController(), new AbortController()]
      const reasons = Promise.all([
        rejection(limiter.withPermit(() => assert.fail("ran"), { signal: first.signal })),
        rejection(limiter.acquire({ signal: second.signal }))
      ])
      const last = limiter.withPermit(async () => "last")
      await until(async () => (await limiter.state()).waiting === 3)
      first.abort("first")
      second.abort("second")
      assert.deepStrictEqual(await reasons, ["first", "second"])
      await held.end()
      assert.strictEqual(await last, "last")
      await isIdle(limiter)
    })

    it("listens to a signal once, however many calls it is passed to, and no longer than they last", async () => {
      const limiter = make({ capacity: 1 })
      const { signal } = new AbortController()
      const held = await occupy(limiter)
      const calls = Array.from({ length: 20 }, () => limiter.withPermit(() => {}, { signal }))
      assert.strictEqual(getEventListeners(signal, "abort").length, 1)
      await held.end()
      await Promise.all(calls)
      assert.strictEqual(getEventListeners(signal, "abort").length, 0)
    })

    for (const [does, settle] of [
      ["succeeds", () => "value"],
      ["fails", () => Promise.reject(new Error("stopped"))]
    ] as const) {
      it(`tells a callback that its caller has aborted, and keeps the permit until the callback ${does}`, async () => {
        const limiter = make({ capacity: 1 })
        const controller = new AbortController()
        const told = gate<unknown>()
        const mayEnd = gate()
        let isSettled = false
        const work = limiter.withPermit(
          async ({ signal }) => {
            told.open(await aborted(signal))
            await mayEnd.passed
            return settle()
          },
          { signal: controller.signal }
        )
        const ended = rejection(work).finally(() => {
          isSettled = true
        })
        await until(async () => (await limiter.state()).held === 1)
        const reason = new Error("the user has left")
        controller.abort(reason)
        assert.strictEqual(await told.passed, reason)
        assert.isUndefined(await limiter.tryAcquire())
        assert.isFalse(isSettled)
        mayEnd.open()
        assert.strictEqual(await ended, reason)
        await isIdle(limiter)
      })
    }

    it("shows an aborted signal to a callback that looks late", async () => {
      const limiter = make()
      const controller = new AbortController()
      const started = gate()
      const look = gate()
      const work = limiter.withPermit(
        async (context) => {
          started.open()
          await look.passed
          assert.isTrue(context.signal.aborted)
          assert.strictEqual(context.signal.reason, "late")
        },
        { signal: controller.signal }
      )
      await started.passed
      controller.abort("late")
      look.open()
      assert.strictEqual(await rejection(work), "late")
    })

    it("gives a permit that is released once, by a call or at the end of its block", async () => {
      const limiter = make({ capacity: 2 })
      const permit = await limiter.acquire()
      const { id, name, permits, waited } = permit
      assert.strictEqual(name, limiter.name)
      assert.strictEqual(permits, 1)
      assert.isAtLeast(waited, 0)
      const { holders } = await limiter.state()
      assert.deepStrictEqual(
        holders.map(({ id }) => id),
        [id]
      )
      permit.release()
      permit.release()
      await isIdle(limiter)
      const tokens: Array<number> = []
      {
        await using one = await limiter.acquire()
        using two = await limiter.acquire()
        tokens.push(permit.fencingToken, one.fencingToken, two.fencingToken)
        assert.isUndefined(await limiter.tryAcquire())
      }
      await isIdle(limiter)
      assert.deepStrictEqual(
        tokens,
        [...new Set(tokens)].sort((a, b) => a - b)
      )
      const token = await limiter.withPermit(({ fencingToken }) => fencingToken)
      assert.isAbove(token, Math.max(...tokens))
    })

    it("has told how long a permit was waited for", async () => {
      const limiter = make({ capacity: 1 })
      const held = await occupy(limiter)
      const waiting = limiter.acquire()
      await until(async () => (await limiter.state()).waiting === 1)
      const took = await elapsed(held.end)
      const permit = await waiting
      assert.isAbove(permit.waited, 0)
      assert.isBelow(permit.waited, took + 5000)
      permit.release()
    })

    it("is about the wait only, what a signal says to acquire", async () => {
      const limiter = make({ capacity: 1 })
      const controller = new AbortController()
      const permit = await limiter.acquire({ signal: controller.signal })
      controller.abort()
      assert.isFalse(permit.signal.aborted)
      assert.strictEqual((await limiter.state()).held, 1)
      permit.release()
    })

    it("gives undefined instead of waiting", async () => {
      const limiter = make({ capacity: 1 })
      const permit = await limiter.tryAcquire()
      assert.isDefined(permit)
      assert.isUndefined(await limiter.tryAcquire())
      permit?.release()
      const again = await limiter.tryAcquire()
      assert.isDefined(again)
      again?.release()
      await isIdle(limiter)
    })

    it("tells callbacks and holders of a lost permit, and fails with it once the callback has settled", async () => {
      const limiter = make({ capacity: 2 })
      const permit = await limiter.acquire()
      const started = gate()
      const told = gate<unknown>()
      const mayEnd = gate()
      const nameOfTheCaller = async () => {
        await limiter.withPermit(async ({ signal }) => {
          started.open()
          told.open(await aborted(signal))
          await mayEnd.passed
        })
      }
      const ended = rejection(nameOfTheCaller())
      await started.passed
      await limiter.reset()
      const error = await told.passed
      assert.instanceOf(error, PermitLost)
      const lost = await aborted(permit.signal)
      assert.instanceOf(lost, PermitLost)
      assert.strictEqual(lost.permitId, permit.id)
      assert.strictEqual(lost.fencingToken, permit.fencingToken)
      mayEnd.open()
      assert.strictEqual(await ended, error)
      assert.include(error.stack, "nameOfTheCaller")
      permit.release()
      await isIdle(limiter)
    })

    it("wraps functions and methods", async () => {
      const limiter = make({ capacity: 1 })
      class Counter {
        count = 0
        add = limiter.wrap(function (this: Counter, n: number, times: number = 1) {
          this.count += n * times
          return Promise.resolve(this.count)
        })
      }
      const counter = new Counter()
      assert.deepStrictEqual(await Promise.all([counter.add(1), counter.add(2, 3)]), [1, 7])
      const error = new Error("mine")
      const failing = limiter.wrap(() => Promise.reject(error))
      assert.strictEqual(await rejection(failing()), error)
      // As a decorator would be called.
      const decorated = (limiter.wrap as (f: () => number, context: object) => () => Promise<number>)(() => 1, {})
      assert.strictEqual(await decorated(), 1)
      await isIdle(limiter)
    })

    it("changes its capacity for those who wait, and refuses what has become too large", async () => {
      const limiter = make({ capacity: 1 })
      const held = await occupy(limiter)
      const waiting = limiter.withPermit(async () => "ran")
      await until(async () => (await limiter.state()).waiting === 1)
      await limiter.resize(2)
      assert.strictEqual(await waiting, "ran")
      assert.strictEqual((await limiter.state()).capacity, 2)
      await held.end()
      const error = await rejection(limiter.acquire({ permits: 3 }))
      assert.instanceOf(error, InvalidOptions)
      assert.strictEqual(error.field, "permits")
      assert.include(error.rule, "capacity (2)")
    })

    it("shows who holds permits", async () => {
      const limiter = make({ capacity: 3, expiry: "1 minute" })
      const held = await occupy(limiter, 2)
      const { capacity, holders, ...counts } = await limiter.state()
      assert.deepStrictEqual({ capacity, ...counts }, { capacity: 3, held: 2, waiting: 0 })
      assert.strictEqual(holders.length, 1)
      assert.strictEqual(holders[0]?.permits, 2)
      assert.isAbove(holders[0]?.leaseLeft ?? 0, 30_000)
      await held.end()
    })

    it("shares its permits with limiters of the same name", async () => {
      const one = make({ capacity: 1 })
      const other = createSemaphore({ name: one.name, capacity: 1, ...connection() })
      const held = await occupy(one)
      assert.isUndefined(await other.tryAcquire())
      await other.close()
      assert.strictEqual((await one.state()).held, 1)
      await held.end()
    })

    it("has permits of its own for each key", async () => {
      const limiter = make({ capacity: 1 })
      const [ada, grace] = [limiter.forKey("ada"), limiter.forKey("grace")]
      await using _held = await ada.acquire()
      assert.isUndefined(await limiter.forKey("ada").tryAcquire())
      assert.strictEqual(await grace.withPermit(() => "ran"), "ran")
      assert.strictEqual((await limiter.state()).held, 0)
      const error = await rejection(Promise.resolve().then(() => limiter.forKey("")))
      assert.instanceOf(error, InvalidOptions)
      assert.strictEqual(error.field, "key")
    })

    it("closes when what runs has ended, and refuses those who wait or come", async () => {
      const limiter = make({ capacity: 1 })
      const { passed, open } = gate()
      const running = limiter.withPermit(async ({ signal }) => {
        await passed
        assert.isFalse(signal.aborted)
        return "ended"
      })
      await until(async () => (await limiter.state()).held === 1)
      const lateCaller = async () => {
        await limiter.withPermit(() => assert.fail("ran"))
      }
      const waiting = rejection(lateCaller())
      await until(async () => (await limiter.state()).waiting === 1)
      let isClosed = false
      const closed = Promise.all([limiter.close(), limiter[Symbol.asyncDispose]()]).then(() => {
        isClosed = true
      })
      for (const refused of [
        await waiting,
        await rejection(lateCaller()),
        await rejection(limiter.acquire()),
        await rejection(limiter.state()),
        await rejection(limiter.forKey("key").tryAcquire())
      ]) {
        assert.instanceOf(refused, BackendError)
        assert.strictEqual(refused.reason, "Closed")
      }
      const late = await rejection(lateCaller())
      assert.include((late as Error).stack, "lateCaller")
      assert.isFalse(isClosed)
      open()
      assert.strictEqual(await running, "ended")
      await closed
      await limiter.close()
    })

    it("closes when permits are released", async () => {
      const limiter = make({ capacity: 1 })
      const permit = await limiter.acquire()
      let isClosed = false
      const closed = limiter.close().then(() => {
        isClosed = true
      })
      await new Promise(setImmediate)
      assert.isFalse(isClosed)
      assert.isFalse(permit.signal.aborted)
      permit.release()
      await closed
    })

    it("waits no longer than its timeout to be closed, and tells what still runs", async () => {
      const limiter = make({ capacity: 2 })
      const permit = await limiter.acquire()
      const told = gate<unknown>()
      const { passed, open } = gate()
      const running = rejection(
        limiter.withPermit(async ({ signal }) => {
          told.open(await aborted(signal))
          await passed
        })
      )
      await until(async () => (await limiter.state()).held === 2)
      const endless = limiter.close()
      await limiter.close({ timeout: 20 })
      const error = await told.passed
      assert.instanceOf(error, BackendError)
      assert.strictEqual(error.reason, "Closed")
      assert.instanceOf(await aborted(permit.signal), BackendError)
      open()
      assert.strictEqual(await running, error)
      permit.release()
      await endless
    })
  })
