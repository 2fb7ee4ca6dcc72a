import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { LocalLive, TokenBucket } from "steindamm"
import { nothing } from "../src/internal/bucketLimiter.ts"
import { BucketWaiters } from "../src/internal/bucketWaiters.ts"
import { start } from "./support/fibers.ts"

describe("those who wait for a bucket", () => {
  it.effect("go on when each was promised, though one is late to tell that its promise came first", () =>
    Effect.gen(function* () {
      const waiters = new BucketWaiters()
      const served: Array<readonly [promised: number, now: number]> = []
      const wait = (millis: number) =>
        Effect.withFiber((fiber) => {
          const promised = { due: millis * 1000, giveBack: () => {}, reservationIn: () => nothing }
          const { served: isServed } = waiters.enter(fiber, ["bucket"], 1, promised)
          return Effect.andThen(
            isServed,
            Effect.map(Clock.currentTimeMillis, (now) => void served.push([millis, now]))
          )
        })
      for (const millis of [20, 40, 10, 30]) yield* start(wait(millis))
      for (let millis = 0; millis < 40; millis++) yield* TestClock.adjust(1)
      assert.deepStrictEqual(served, [
        [10, 10],
        [20, 20],
        [30, 30],
        [40, 40]
      ])
    })
  )

  it.effect("give up when a pause makes them wait for longer than maxSleep in all", () =>
    Effect.gen(function* () {
      const options = { name: "paused", capacity: 1, initialTokens: 0, refillFrequency: "9 seconds" } as const
      const limiter = yield* TokenBucket.make({ ...options, maxSleep: "10 seconds" })
      const waiting = yield* start(Effect.flip(limiter.withPermit(Effect.void)))
      yield* TestClock.adjust("8 seconds")
      yield* limiter.pause("3 seconds")
      const error = yield* Fiber.join(waiting)
      assert.deepInclude(error, { _tag: "MaxSleepExceeded", requiredSleep: Duration.seconds(3) })
    }).pipe(Effect.provide(LocalLive))
  )
})
