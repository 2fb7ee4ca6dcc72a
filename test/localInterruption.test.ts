import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scheduler } from "effect"
import { TestClock } from "effect/testing"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"
import { start } from "./support/fibers.ts"
import { interruptedAfter, sweep, unusedTokensComeBack } from "./support/interruption.ts"
import { seeded } from "./support/random.ts"

describe("an interruption at any point", () => {
  it.effect("of work behind a semaphore brings its permit back", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "run", capacity: 2 })
      let completed = 0
      yield* sweep((operations, turns) =>
        Effect.gen(function* () {
          const work = limiter.withPermit(
            Effect.andThen(
              Effect.yieldNow,
              Effect.sync(() => completed++)
            )
          )
          yield* interruptedAfter(work, operations, turns)
          assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 }, `${operations} ${turns}`)
        })
      )
      assert.isAbove(completed, 0)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a wait for a semaphore leaves the queue to those behind", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "wait", capacity: 1 })
      yield* sweep((operations, turns) =>
        Effect.gen(function* () {
          const holder = yield* start(limiter.withPermit(Effect.andThen(Effect.yieldNow, Effect.yieldNow)))
          const leaving = yield* start(interruptedAfter(limiter.withPermit(Effect.void), operations, turns))
          const behind = yield* start(limiter.withPermit(Effect.succeed("served")))
          yield* Fiber.join(leaving)
          assert.strictEqual(yield* Fiber.join(behind), "served")
          yield* Fiber.join(holder)
          assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 }, `${operations} ${turns}`)
        })
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a scope that acquires brings the permit back", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "acquire", capacity: 1 })
      yield* sweep((operations, turns) =>
        Effect.gen(function* () {
          const work = Effect.scoped(Effect.andThen(limiter.acquire(), Effect.yieldNow))
          yield* interruptedAfter(work, operations, turns)
          assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 }, `${operations} ${turns}`)
        })
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a request for tokens gives back what no work used", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "tokens", capacity: 4, refillFrequency: "1 hour" })
      yield* unusedTokensComeBack(limiter)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a wait for tokens lets those behind it move up", () =>
    Effect.gen(function* () {
      yield* sweep((operations, turns) =>
        Effect.gen(function* () {
          const limiter = yield* TokenBucket.make({ name: `${operations} ${turns}`, capacity: 1, initialTokens: 0 })
          const leaving = yield* start(interruptedAfter(limiter.withPermit(Effect.void), operations, turns))
          const behind = yield* start(limiter.withPermit(Effect.void))
          yield* Fiber.join(leaving)
          yield* TestClock.adjust("1 second")
          for (let turn = 0; turn < 5; turn++) yield* Effect.yieldNow
          assert.isDefined(behind.pollUnsafe(), `${operations} ${turns}`)
          assert.strictEqual((yield* limiter.state).tokens, 0)
        })
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a wait that a pause makes longer lets those behind it move up", () =>
    Effect.gen(function* () {
      yield* sweep((operations, turns) =>
        Effect.gen(function* () {
          const limiter = yield* TokenBucket.make({ name: `${operations} ${turns}`, capacity: 1, initialTokens: 0 })
          const slowly = Effect.provideService(Scheduler.MaxOpsBeforeYield, operations)
          const leaving = yield* start(slowly(limiter.withPermit(Effect.void)))
          const behind = yield* start(limiter.withPermit(Effect.void))
          for (let turn = 0; turn < 40; turn++) yield* Effect.yieldNow
          const pausing = yield* start(slowly(limiter.pause("1500 millis")))
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* Fiber.interrupt(leaving)
          yield* Fiber.await(pausing)
          yield* TestClock.adjust("1499 millis")
          assert.isUndefined(behind.pollUnsafe(), `${operations} ${turns}`)
          yield* TestClock.adjust("1 millis")
          for (let turn = 0; turn < 5; turn++) yield* Effect.yieldNow
          assert.isDefined(behind.pollUnsafe(), `${operations} ${turns}`)
          assert.strictEqual((yield* limiter.state).tokens, 0)
        })
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of whoever is ahead wakes those who are on their way to sleep", () =>
    Effect.gen(function* () {
      const passTurns = (turns: number) => Effect.repeat(Effect.yieldNow, { times: turns })
      yield* sweep((operations, turns) =>
        Effect.gen(function* () {
          const where = `${operations} ${turns}`
          const slowly = Effect.provideService(Scheduler.MaxOpsBeforeYield, operations)
          const bucket = yield* TokenBucket.make({ name: where, capacity: 1, initialTokens: 0 })
          const semaphore = yield* Semaphore.make({ name: where, capacity: 1 })
          const full = yield* Semaphore.make({ name: `full ${where}`, capacity: 1, maxSleep: "1 second" })
          const holder = yield* start(full.withPermit(Effect.never))
          const ahead = [
            yield* start(bucket.withPermit(Effect.void)),
            yield* start(semaphore.withPermit(Effect.never)),
            yield* start(full.withPermit(Effect.void))
          ]
          const behind = [
            yield* start(slowly(bucket.withPermit(Effect.void))),
            yield* start(slowly(semaphore.withPermit(Effect.void))),
            yield* start(slowly(semaphore.withPermit(Effect.void))),
            yield* start(slowly(Effect.flip(full.withPermit(Effect.void))))
          ]
          yield* passTurns(turns)
          yield* Fiber.interruptAll(ahead)
          yield* passTurns(100)
          yield* TestClock.adjust("1 second")
          yield* passTurns(100)
          for (const [index, fiber] of behind.entries()) {
            assert.strictEqual(fiber.pollUnsafe()?._tag, "Success", `${where}: ${index}`)
          }
          yield* Fiber.interrupt(holder)
        })
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("loses and invents nothing in twenty thousand random rounds", () =>
    Effect.gen(function* () {
      const random = seeded(1)
      const limiter = yield* Semaphore.make({ name: "random", capacity: 3 })
      let inside = 0
      let peak = 0
      let interrupted = 0
      const section = (permits: number) =>
        limiter.withPermits(permits)(
          Effect.gen(function* () {
            inside += permits
            peak = Math.max(peak, inside)
            for (let i = random.integer(0, 3); i > 0; i--) yield* Effect.yieldNow
          }).pipe(
            Effect.ensuring(
              Effect.sync(() => {
                inside -= permits
              })
            )
          )
        )
      for (let round = 0; round < 2000; round++) {
        const fibers = yield* Effect.forEach(Array.from({ length: 10 }), () =>
          start(interruptedAfter(section(random.integer(1, 3)), random.integer(3, 64), random.integer(0, 12)))
        )
        for (const fiber of fibers) if (Exit.isFailure(yield* Fiber.join(fiber))) interrupted++
      }
      assert.strictEqual(inside, 0)
      assert.strictEqual(peak, 3)
      assert.isAbove(interrupted, 2000)
      assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
    }).pipe(Effect.provide(LocalLive))
  )
})
