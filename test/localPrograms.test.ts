import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Fiber, Scheduler } from "effect"
import { TestClock } from "effect/testing"
import { LocalLive, type Reservation, Semaphore, TokenBucket } from "steindamm"
import { type Admitted, worstWindow } from "./support/bucketModel.ts"
import { start } from "./support/fibers.ts"
import { PermitPile, TokenQueue } from "./support/queueModel.ts"
import { seeded } from "./support/random.ts"

/** Until every fiber has come as far as it can without time passing. */
const quiet = Effect.repeat(Effect.yieldNow, { times: 4 })

describe("random programs", () => {
  it.effect("find tokens when a row of people at a jar would, whoever leaves the row", () =>
    Effect.gen(function* () {
      let left = 0
      let waited = 0
      const program = Effect.fnUntraced(function* (seed: number) {
        const random = seeded(seed)
        const capacity = random.integer(1, 8)
        const amount = random.integer(1, capacity)
        const interval = random.integer(1, 12)
        const cost = random.integer(1, capacity)
        const limiter = yield* TokenBucket.make({
          name: "jar",
          capacity,
          refillAmount: amount,
          refillFrequency: interval,
          tokensToConsume: cost,
          maxSleep: 0
        })
        const model = new TokenQueue({ capacity, amount, interval, cost })
        const served: Array<readonly [person: number, time: number]> = []
        const waiting = new Map<number, Fiber.Fiber<void, unknown>>()
        const begin = yield* Clock.currentTimeMillis
        let now = 0
        const pass = Effect.gen(function* () {
          model.tick(++now)
          yield* TestClock.adjust(1)
          yield* quiet
        })
        for (let person = 1; person <= 60; person++) {
          if (random.chance(0.6)) {
            model.come(person, now)
            const work = Effect.map(Clock.currentTimeMillis, (time) => {
              waiting.delete(person)
              served.push([person, time - begin])
            })
            const fiber = yield* start(limiter.withPermit(work))
            if (fiber.pollUnsafe() === undefined) waiting.set(person, fiber)
          } else if (waiting.size > 0) {
            const [leaving, fiber] = random.pick(Array.from(waiting))
            model.leave(leaving)
            waiting.delete(leaving)
            left++
            yield* Fiber.interrupt(fiber)
          }
          for (let i = random.pick([0, 0, 1, random.integer(0, 15)]); i > 0; i--) yield* pass
        }
        waited += waiting.size
        while (waiting.size > 0) yield* pass
        assert.deepStrictEqual(served, model.served, `seed ${seed}`)
      })
      // Each in a layer of its own: a bucket that is full may be forgotten as soon as there are others.
      for (let seed = 1; seed <= 200; seed++) yield* Effect.provide(program(seed), LocalLive, { local: true })
      assert.isAbove(left, 500)
      assert.isAbove(waited, 500)
    })
  )

  it.effect("get no more tokens in any window than the bucket had, and all get theirs, wherever they are stopped", () =>
    Effect.gen(function* () {
      let interrupted = 0
      for (let seed = 1; seed <= 300; seed++) {
        const random = seeded(seed)
        const capacity = random.integer(1, 8)
        const refillAmount = random.integer(1, capacity)
        const refillFrequency = random.integer(1, 12)
        const limiter = yield* TokenBucket.make({
          name: `stopped ${seed}`,
          capacity,
          refillAmount,
          refillFrequency,
          refill: random.pick(["interval", "continuous"]),
          maxSleep: 0,
          ...(random.chance(0.3) ? { windowStartTime: 0 } : {})
        })
        const history: Array<Admitted> = []
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        const reserved: Array<{ readonly reservation: Reservation; readonly runs: number }> = []
        for (let step = 0; step < 50; step++) {
          const amount = random.integer(1, capacity)
          const dice = random.next()
          if (dice < 0.5) {
            const work = Effect.map(Clock.currentTimeMillis, (time) => void history.push({ time, amount }))
            const request = random.chance(0.2)
              ? limiter.withPermitsIfAvailable(amount)(work)
              : limiter.withPermits(amount)(work)
            const slowly = Effect.provideService(request, Scheduler.MaxOpsBeforeYield, random.integer(3, 64))
            fibers.push(yield* start(slowly))
          } else if (dice < 0.7) {
            const fiber = random.pick(fibers)
            if (fiber === undefined || fiber.pollUnsafe() !== undefined) continue
            interrupted++
            yield* Fiber.interrupt(fiber)
          } else if (dice < 0.8) {
            const reservation = yield* limiter.reserve(amount)
            const runs = (yield* Clock.currentTimeMillis) + Duration.toMillis(reservation.delay)
            reserved.push({ reservation, runs })
          } else if (dice < 0.9) {
            const [one] = reserved.splice(random.integer(0, reserved.length - 1), 1)
            if (one === undefined) continue
            const actual = random.integer(0, one.reservation.tokens)
            if (random.chance(0.5)) yield* one.reservation.cancel
            else {
              yield* one.reservation.settle(actual)
              history.push({ time: one.runs, amount: actual })
            }
          }
          for (let i = random.integer(0, 8); i > 0; i--) yield* Effect.yieldNow
          if (random.chance(0.5)) continue
          // Whoever has tokens begins, however slowly, before time passes.
          yield* Effect.repeat(Effect.yieldNow, { times: 40 })
          yield* TestClock.adjust(random.integer(1, 6))
        }
        for (const { reservation, runs } of reserved) history.push({ time: runs, amount: reservation.tokens })
        while (fibers.some((fiber) => fiber.pollUnsafe() === undefined)) {
          yield* TestClock.adjust(refillFrequency)
          yield* quiet
        }
        const refilled = (from: number, to: number) => (Math.floor((to - from) / refillFrequency) + 1) * refillAmount
        assert.isAtMost(worstWindow(capacity, refilled, history), 0, `seed ${seed}`)
        yield* TestClock.adjust(refillFrequency * (capacity + 50 * capacity))
        assert.strictEqual((yield* limiter.state).tokens, capacity, `seed ${seed}`)
      }
      assert.isAbove(interrupted, 500)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("find permits when a row of people at a pile would, whoever leaves and however the pile is resized", () =>
    Effect.gen(function* () {
      let left = 0
      let refused = 0
      for (let seed = 1; seed <= 400; seed++) {
        const random = seeded(seed)
        const capacity = random.integer(1, 6)
        const limiter = yield* Semaphore.make({ name: `pile ${seed}`, capacity, maxSleep: 0 })
        const model = new PermitPile(capacity)
        const served: Array<number> = []
        const inside = new Map<number, Deferred.Deferred<void>>()
        const fibers = new Map<number, Fiber.Fiber<void, unknown>>()
        for (let person = 1; person <= 60; person++) {
          const dice = random.next()
          const members = Array.from(fibers)
          if (dice < 0.45) {
            const permits = random.integer(1, random.pick([1, capacity]))
            const end = yield* Deferred.make<void>()
            const work = Effect.suspend(() => {
              served.push(person)
              inside.set(person, end)
              return Deferred.await(end)
            })
            model.come({ name: person, permits })
            fibers.set(person, yield* start(limiter.withPermits(permits)(work)))
          } else if (dice < 0.7 && inside.size > 0) {
            const [name, end] = random.pick(Array.from(inside))
            model.go(name)
            inside.delete(name)
            yield* Deferred.succeed(end, undefined)
          } else if (dice < 0.9 && members.length > 0) {
            const [name, fiber] = random.pick(members)
            model.go(name)
            inside.delete(name)
            left++
            yield* Fiber.interrupt(fiber)
          } else {
            const size = random.integer(1, 6)
            model.resize(size)
            yield* limiter.resize(size)
          }
          yield* quiet
          for (const [name, fiber] of fibers) if (fiber.pollUnsafe() !== undefined) fibers.delete(name)
          const where = `seed ${seed}, step ${person}`
          assert.deepStrictEqual(served, model.served, where)
          const { holders, ...state } = yield* limiter.state
          assert.deepStrictEqual(
            state,
            { capacity: model.capacity, held: model.held, waiting: model.row.length },
            where
          )
          assert.strictEqual(holders.length, model.holders.length, where)
          assert.strictEqual(fibers.size, model.row.length + model.holders.length, where)
        }
        refused += model.refused.size
        yield* Fiber.interruptAll(fibers.values())
        assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0, holders: [] })
      }
      assert.isAbove(left, 1000)
      assert.isAbove(refused, 100)
    }).pipe(Effect.provide(LocalLive))
  )
})
