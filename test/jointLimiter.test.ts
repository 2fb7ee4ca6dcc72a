import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, Scheduler } from "effect"
import { TestClock } from "effect/testing"
import { Limiter, LocalLive, Semaphore, TokenBucket } from "steindamm"
import { start } from "./support/fibers.ts"
import { interruptedWork, sweep } from "./support/interruption.ts"
import { seeded } from "./support/random.ts"

/** A bucket of another layer, about which no step decides together with those of the test's own. */
const elsewhere = (options: Parameters<typeof TokenBucket.make>[0]) =>
  Effect.flatMap(Layer.build(Layer.fresh(LocalLive)), (context) => Context.get(context, TokenBucket).make(options))

describe("several limiters in memory", () => {
  it.effect("give everything back that no work used, at whatever point they are interrupted", () =>
    Effect.gen(function* () {
      const buckets = [
        yield* TokenBucket.make({ name: "one", capacity: 4, refillFrequency: "1 hour" }),
        yield* TokenBucket.make({ name: "other", capacity: 4000, refillFrequency: "1 hour" }),
        yield* elsewhere({ name: "elsewhere", capacity: 4, refillFrequency: "1 hour" })
      ] as const
      const semaphores = [yield* Semaphore.make({ name: "one" }), yield* Semaphore.make({ name: "other" })] as const
      const [one, other, third] = buckets
      const joint = [
        Limiter.all([one, { limiter: other, permits: 1000 }, ...semaphores]),
        Limiter.all([...semaphores, one, third, { limiter: other, permits: 1000 }]),
        Limiter.all([one, third, { limiter: other, permits: 1000 }])
      ]
      let completed = 0
      // Between the moment when work is begun and its first step there may be one yield, in which nobody can tell.
      const begun = new Map<string, number>()
      for (const limiter of joint) {
        yield* sweep((operations, turns) =>
          Effect.gen(function* () {
            yield* limiter.reset
            const { exit, steps } = yield* interruptedWork(limiter.withPermit, operations, turns)
            if (Exit.isSuccess(exit)) completed++
            const where = `${limiter.isAtomic} ${operations} ${turns}`
            const tokens = (yield* one.state).tokens
            const how = `${limiter.name} ${operations}`
            if (steps === 0 && tokens === 3) begun.set(how, (begun.get(how) ?? 0) + 1)
            else assert.strictEqual(tokens, 4 - steps, where)
            assert.strictEqual((yield* other.state).tokens, 1000 * tokens, where)
            if (!limiter.isAtomic) assert.strictEqual((yield* third.state).tokens, tokens, where)
            for (const semaphore of semaphores) {
              assert.deepInclude(yield* semaphore.state, { held: 0, waiting: 0 }, where)
            }
          })
        )
      }
      assert.isAbove(completed, 0)
      for (const [how, times] of begun) assert.isAtMost(times, 2, how)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("let those behind move up, at whatever point somebody's wait is interrupted", () =>
    Effect.gen(function* () {
      yield* sweep((operations, turns) =>
        Effect.gen(function* () {
          const name = `${operations} ${turns}`
          const fast = yield* TokenBucket.make({ name, capacity: 5 })
          const slow = yield* TokenBucket.make({ name: `${name} slow`, capacity: 1, initialTokens: 0 })
          const joint = () => Limiter.all([fast, slow])
          const slowly = Effect.provideService(Scheduler.MaxOpsBeforeYield, operations)
          const leaving = yield* start(slowly(joint().withPermit(Effect.void)))
          const behind = yield* start(slowly(joint().withPermit(Effect.void)))
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* Fiber.interrupt(leaving)
          for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
          yield* TestClock.adjust("1 second")
          for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
          assert.strictEqual(behind.pollUnsafe()?._tag, "Success", name)
          assert.strictEqual((yield* fast.state).tokens, 4, name)
        })
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("get what they asked for, though somebody leaves before them who had asked for more", () =>
    Effect.gen(function* () {
      const slow = yield* TokenBucket.make({ name: "slow", capacity: 4, initialTokens: 0 })
      const joint = Limiter.all([slow, yield* TokenBucket.make({ name: "fast" })])
      const leaving = yield* start(joint.withPermits(3)(Effect.void))
      const behind = yield* start(Effect.scoped(joint.acquire(1)))
      yield* Fiber.interrupt(leaving)
      yield* TestClock.adjust("4 seconds")
      const { permits } = yield* Fiber.join(behind)
      assert.deepStrictEqual(
        permits.map(({ tokens }) => tokens),
        [1, 1]
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("wait longer, in their order, when one of them is paused", () =>
    Effect.gen(function* () {
      const fast = yield* TokenBucket.make({ name: "fast", capacity: 5 })
      const slow = yield* TokenBucket.make({ name: "slow", capacity: 1, initialTokens: 0 })
      const order: Array<string> = []
      const push = (name: string) => Effect.sync(() => order.push(name))
      const joint = Limiter.all([fast, slow])
      yield* start(joint.withPermit(push("first")))
      yield* start(fast.withPermit(push("alone")))
      yield* start(joint.withPermit(push("second")))
      yield* fast.pause("2500 millis")
      yield* TestClock.adjust("2499 millis")
      assert.deepStrictEqual(order, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(order, ["first", "alone"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(order, ["first", "alone", "second"])
      const impatient = yield* TokenBucket.make({ name: "fast", capacity: 5, maxSleep: "1 second" })
      const waiting = yield* start(Effect.flip(Limiter.all([impatient, slow]).withPermit(Effect.void)))
      yield* slow.pause("1 minute")
      for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
      const error = yield* Fiber.join(waiting)
      assert.deepInclude(error, { _tag: "MaxSleepExceeded", name: "slow", maxSleep: Duration.seconds(1) })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("hold nobody off in a bucket that would be ready sooner once the last of many gives up", () =>
    Effect.gen(function* () {
      const random = seeded(1)
      for (let round = 0; round < 200; round++) {
        const fast = yield* TokenBucket.make({ name: `fast ${round}`, capacity: 5, maxSleep: 0 })
        const slow = yield* TokenBucket.make({
          name: `slow ${round}`,
          capacity: 1,
          refillFrequency: "1 hour",
          maxSleep: 0
        })
        const joint = Limiter.all([fast, slow])
        yield* joint.withPermit(Effect.void)
        const waiting = yield* Effect.forEach(Array.from({ length: 10 }), () => start(joint.withPermit(Effect.void)))
        while (waiting.length > 0) {
          const [leaving] = waiting.splice(random.integer(0, waiting.length - 1), 1)
          if (leaving !== undefined) yield* Fiber.interrupt(leaving)
        }
        assert.strictEqual((yield* fast.state).tokens, 4)
        assert.strictEqual(Duration.toMillis((yield* slow.state).wait), 3_600_000)
      }
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("are remembered as if each were asked alone, though one of them refuses", () =>
    Effect.gen(function* () {
      const empty = { capacity: 1, initialTokens: 0, refillFrequency: "1 minute", maxSleep: "20 seconds" } as const
      const slow = yield* TokenBucket.make({ name: "slow", ...empty })
      const quota = yield* TokenBucket.make({ name: "quota", capacity: 2, refillAmount: 0, refillFrequency: 0 })
      yield* quota.withPermit(Effect.void)
      const joint = Limiter.all([slow, quota])
      for (const left of [60, 30]) {
        const error = yield* Effect.flip(joint.withPermit(Effect.void))
        assert.deepInclude(error, { _tag: "MaxSleepExceeded", name: "slow", requiredSleep: Duration.seconds(left) })
        yield* TestClock.adjust("30 seconds")
      }
      // More than its expiry after the only token was taken from the quota, and less than that after it was asked for.
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual((yield* quota.state).tokens, 1)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("that don't live together promise one moment, and take nothing if one refuses", () =>
    Effect.gen(function* () {
      const here = yield* TokenBucket.make({ name: "here", capacity: 10, refillFrequency: "10 seconds" })
      const there = yield* elsewhere({ name: "there", capacity: 2, refillFrequency: "1 second", maxSleep: "3 seconds" })
      const joint = Limiter.all([here, there])
      assert.isFalse(joint.isAtomic)
      let ran = 0
      const fibers = yield* Effect.forEach(Array.from({ length: 6 }), () =>
        start(Effect.exit(joint.withPermit(Effect.sync(() => ran++))))
      )
      const refused = fibers.filter((fiber) => fiber.pollUnsafe() !== undefined)
      assert.deepStrictEqual([ran, refused.length], [2, 3])
      // The tokens of those who wait, and those in front of whom they don't overtake.
      assert.strictEqual((yield* here.state).tokens, 0)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(ran, 5)
      assert.strictEqual((yield* here.state).tokens, 5)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("that don't live together wait for the slowest, whichever is asked first", () =>
    Effect.gen(function* () {
      const slow = yield* elsewhere({ name: "slow", capacity: 1, refillFrequency: "10 seconds" })
      const used = yield* TokenBucket.make({
        name: "used",
        capacity: 5,
        initialTokens: 0,
        refillFrequency: "3 seconds"
      })
      const joint = Limiter.all([slow, used])
      const times: Array<number> = []
      const run = Effect.clockWith((clock) => Effect.sync(() => times.push(clock.currentTimeMillisUnsafe())))
      yield* start(joint.withPermit(run))
      yield* start(slow.withPermit(run))
      yield* TestClock.adjust("20 seconds")
      // The slow one counts its token as taken when the work runs, and not when it was asked.
      assert.deepStrictEqual(times, [3000, 10_000])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect(
    "that don't live together wait with one that is not to be waited for itself, for as long as for others",
    () =>
      Effect.gen(function* () {
        const own = yield* elsewhere({ name: "own", capacity: 1, initialTokens: 0, refillFrequency: "3 seconds" })
        const common = yield* TokenBucket.make({
          name: "common",
          capacity: 1,
          initialTokens: 0,
          refillFrequency: "2 seconds"
        })
        const joint = Limiter.all([{ limiter: own, wait: false }, common])
        // It refills from its first request on, and so is ready a second before the other one.
        yield* own.withPermitsIfAvailable(1)(Effect.void)
        yield* TestClock.adjust("2 seconds")
        const working = yield* start(joint.withPermit(Effect.succeed("ran")))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* Fiber.join(working), "ran")
      }).pipe(Effect.provide(LocalLive))
  )

  it.effect("are refused if one of them is named twice or was not made by a layer", () =>
    Effect.gen(function* () {
      const bucket = yield* TokenBucket.make({ name: "name" })
      const same = yield* TokenBucket.make({ name: "name", capacity: 7 })
      const semaphore = yield* Semaphore.make({ name: "name" })
      assert.throws(() => Limiter.all([bucket, semaphore, same]), /limiters.*"name".*named only once/)
      const { withPermit, ...rest } = bucket
      const copy = { ...rest, withPermit }
      assert.isTrue(Limiter.all([copy, semaphore]).isAtomic)
      assert.throws(() => Limiter.all([Object.fromEntries(Object.entries(bucket)) as never]), /made by a layer/)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("are told apart by name and tag", () =>
    Effect.gen(function* () {
      const make = (name: string, tag?: string) =>
        TokenBucket.make({ name, capacity: 2, refillFrequency: "1 hour", ...(tag === undefined ? {} : { tag }) })
      const limiters = [
        yield* make("a"),
        yield* make("a", "b"),
        yield* make("a", "c"),
        yield* make("{b}:token-bucket:a"),
        yield* make("{a")
      ] as const
      yield* Limiter.all(limiters).withPermit(Effect.void)
      for (const limiter of limiters) assert.strictEqual((yield* limiter.state).tokens, 1, limiter.name)
      assert.strictEqual((yield* (yield* make("a", "a")).state).tokens, 1)
      assert.strictEqual((yield* (yield* make("a", "b")).state).tokens, 1)
      const invalid = yield* Effect.flip(make("a", ""))
      assert.deepInclude(invalid, { field: "tag", value: "" })
    }).pipe(Effect.provide(LocalLive))
  )
})
