import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { LocalLive, TokenBucket } from "steindamm"

/** A clock that somebody can set. What it tells of elapsed time stays as it was. */
const settable = Effect.map(Clock.Clock, (clock) => {
  let ahead = 0
  const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + ahead
  const wall = { currentTimeMillisUnsafe, currentTimeMillis: Effect.sync(currentTimeMillisUnsafe) }
  return {
    clock: Object.assign<Clock.Clock, typeof wall>(Object.create(clock), wall),
    setForward: (millis: number) => {
      ahead += millis
    }
  }
})

const hour = 3_600_000

describe("in memory, when somebody sets the clock", () => {
  it.effect("buckets refill as if nothing had happened, and only windows turn", () =>
    Effect.gen(function* () {
      const { clock, setForward } = yield* settable
      yield* Effect.gen(function* () {
        const plain = yield* TokenBucket.make({ name: "plain", capacity: 1, refillFrequency: hour })
        const hourly = yield* TokenBucket.make({
          name: "hourly",
          capacity: 1,
          refillFrequency: hour,
          windowStartTime: 0
        })
        for (const limiter of [plain, hourly]) yield* limiter.withPermit(Effect.void)
        setForward(hour)
        assert.strictEqual((yield* plain.state).tokens, 0)
        assert.strictEqual((yield* hourly.state).tokens, 1)
      }).pipe(Effect.provide(LocalLive), Effect.provideService(Clock.Clock, clock))
    })
  )
})
