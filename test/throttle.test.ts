import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Exit, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Limiter, LocalLive, mapWithPermit, Semaphore, TokenBucket, throttle } from "steindamm"
import { driven } from "./support/driven.ts"
import { start } from "./support/fibers.ts"

/** Elements as they come out, each with the time. */
const timeline = <A, E, R>(stream: Stream.Stream<A, E, R>) =>
  Stream.runCollect(Stream.mapEffect(stream, (a) => Effect.map(Clock.currentTimeMillis, (now) => [a, now] as const)))

describe("throttle", () => {
  it.effect("lets elements through at the bucket's rate, each by itself", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "stream", capacity: 2, refillFrequency: 100 })
      const seen = yield* driven(timeline(Stream.range(1, 5).pipe(throttle(limiter))))
      assert.deepStrictEqual(seen, [
        [1, 0],
        [2, 0],
        [3, 100],
        [4, 200],
        [5, 300]
      ])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("takes what each element costs", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "stream", capacity: 3, refillFrequency: 100 })
      const words = Stream.make("aaa", "b", "cc")
      const seen = yield* driven(timeline(throttle(words, limiter, { cost: (word) => word.length })))
      assert.deepStrictEqual(seen, [
        ["aaa", 0],
        ["b", 100],
        ["cc", 300]
      ])
      const error = yield* words.pipe(throttle(limiter, { cost: () => 4 }), Stream.runDrain, Effect.flip)
      assert.deepInclude(error, { _tag: "InvalidOptions", field: "permits" })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("asks its source for an element only when the one before it is through", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "stream", capacity: 1, refillFrequency: 100 })
      let produced = 0
      const source = Stream.fromEffectRepeat(Effect.sync(() => ++produced))
      const fiber = yield* Effect.forkChild(source.pipe(throttle(limiter), Stream.take(10), Stream.runDrain))
      yield* TestClock.adjust(250)
      // Three are through, and the fourth waits.
      assert.strictEqual(produced, 4)
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* limiter.state).tokens, 1)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("takes no tokens for elements that nobody takes", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "stream", capacity: 10 })
      yield* Stream.range(1, 10).pipe(throttle(limiter), Stream.take(3), Stream.runDrain)
      assert.strictEqual((yield* limiter.state).tokens, 7)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("shares the bucket between streams, and fails when one would wait too long", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "stream", capacity: 1, refillFrequency: 100, maxSleep: 250 })
      const stream = Stream.range(1, 3).pipe(throttle(limiter), Stream.runCount)
      const [one, other] = yield* driven(Effect.all([stream, stream], { concurrency: 2 }))
      assert.strictEqual(one + other, 6)
      yield* limiter.pause(400)
      assert.strictEqual((yield* Effect.flip(stream))._tag, "MaxSleepExceeded")
    }).pipe(Effect.provide(LocalLive))
  )
})

describe("mapWithPermit", () => {
  it.effect("works with several limiters as with one", () =>
    Effect.gen(function* () {
      const bucket = yield* TokenBucket.make({ name: "bucket", capacity: 4, refillFrequency: "1 day" })
      const limiter = Limiter.all([yield* Semaphore.make({ name: "semaphore", capacity: 2 }), bucket])
      const doubled = mapWithPermit(Stream.range(1, 3), limiter, (n) => Effect.as(Effect.sleep(10), 2 * n))
      const [elapsed, values] = yield* driven(Effect.timed(Stream.runCollect(doubled)))
      assert.deepStrictEqual(values, [2, 4, 6])
      assert.strictEqual(Duration.toMillis(elapsed), 20)
      assert.strictEqual((yield* bucket.state).tokens, 1)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("works on as many elements as the semaphore has permits, and keeps their order", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "stream", capacity: 2 })
      let inside = 0
      let peak = 0
      const work = (n: number) =>
        Effect.gen(function* () {
          peak = Math.max(peak, ++inside)
          yield* Effect.sleep(n === 1 ? 300 : 100)
          inside--
          return n * 10
        })
      const stream = Stream.range(1, 5)
      const seen = yield* driven(timeline(stream.pipe(mapWithPermit(limiter, work))))
      assert.deepStrictEqual(seen, [
        [10, 300],
        [20, 300],
        [30, 300],
        [40, 300],
        [50, 400]
      ])
      assert.strictEqual(peak, 2)
      const unordered = yield* driven(Stream.runCollect(mapWithPermit(stream, limiter, work, { unordered: true })))
      assert.deepStrictEqual(unordered, [20, 30, 10, 40, 50])
      assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("begins work at the rate of a token bucket, however long it takes", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "stream", capacity: 1, refillFrequency: 100 })
      const work = () => Effect.delay(Clock.currentTimeMillis, 500)
      const ends = yield* driven(Stream.runCollect(Stream.range(1, 4).pipe(mapWithPermit(limiter, work))))
      assert.deepStrictEqual(ends, [500, 600, 700, 800])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("takes what each element costs", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "stream", capacity: 3 })
      const held = Effect.delay(
        Effect.map(limiter.state, (state) => state.held),
        100
      )
      const seen = yield* driven(
        Stream.make(1, 2, 3).pipe(
          mapWithPermit(limiter, () => held, { cost: (n) => n }),
          Stream.runCollect
        )
      )
      assert.deepStrictEqual(seen, [3, 2, 3])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("lets one element at a time wait for the limiter, so that none of them waits for long", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "stream", capacity: 1, maxSleep: 150 })
      const seen = yield* driven(
        Stream.range(1, 10).pipe(
          mapWithPermit(limiter, (n) =>
            Effect.delay(
              Effect.map(limiter.state, ({ waiting }) => [n, waiting]),
              100
            )
          ),
          Stream.runCollect
        )
      )
      assert.deepStrictEqual(
        seen,
        Array.from({ length: 10 }, (_, i) => [i + 1, i < 9 ? 1 : 0])
      )
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("takes no more elements from its source than it may have under way", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "stream", capacity: 100 })
      const end = yield* Deferred.make<void>()
      let produced = 0
      const source = Stream.fromEffectRepeat(Effect.sync(() => ++produced))
      const fiber = yield* source.pipe(
        mapWithPermit(limiter, () => Deferred.await(end), { concurrency: 4 }),
        Stream.runDrain,
        Effect.forkChild
      )
      for (let turn = 0; turn < 100; turn++) yield* Effect.yieldNow
      assert.strictEqual(produced, 4)
      assert.strictEqual((yield* limiter.state).held, 4)
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("brings permits back when the work fails or the stream is left, and ends the others", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "stream", capacity: 3 })
      let interrupted = 0
      const work = (n: number) =>
        n < 3
          ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
          : Effect.delay(Effect.fail("failure" as const), 10)
      const exit = yield* driven(Effect.exit(Stream.range(1, 9).pipe(mapWithPermit(limiter, work), Stream.runDrain)))
      assert.deepStrictEqual(exit, Exit.fail("failure"))
      assert.strictEqual(interrupted, 2)
      assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
      const first = yield* Stream.range(1, 9).pipe(
        mapWithPermit(limiter, Effect.succeed),
        Stream.take(1),
        Stream.runHead
      )
      assert.strictEqual(first._tag, "Some")
      assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("fails when a permit is lost, and when one can't be had in time", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "stream", capacity: 1, maxSleep: 100 })
      const stream = Stream.make(1).pipe(
        mapWithPermit(limiter, () => Effect.never),
        Stream.runDrain
      )
      const losing = yield* start(Effect.flip(stream))
      yield* TestClock.adjust(10)
      yield* limiter.reset
      assert.strictEqual((yield* Fiber.join(losing))._tag, "PermitLost")
      const late = yield* limiter.withPermit(driven(Effect.flip(stream)))
      assert.strictEqual(late._tag, "MaxSleepExceeded")
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("begins no work before it has its permit", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "stream", capacity: 1 })
      const begun: Array<number> = []
      const stream = Stream.range(1, 3).pipe(
        mapWithPermit(limiter, (n) => {
          begun.push(n)
          return Effect.sleep(100)
        }),
        Stream.runDrain
      )
      const fiber = yield* Effect.forkChild(stream)
      yield* TestClock.adjust(150)
      assert.deepStrictEqual(begun, [1, 2])
      yield* TestClock.adjust(150)
      yield* Fiber.join(fiber)
    }).pipe(Effect.provide(LocalLive))
  )
})
