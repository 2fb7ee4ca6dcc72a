import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import { TokenLooks } from "../src/internal/tokenLooks.ts"
import { start } from "./support/fibers.ts"

/** A bucket that holds one token more each time that somebody looks. */
const watched = (fillTime: Duration.Duration) => {
  const seen: Array<number> = []
  const state = Effect.sync(() => ({
    tokens: seen.length,
    capacity: 3,
    wait: Duration.zero,
    nextToken: Duration.zero,
    fillTime
  }))
  return { seen, limiter: { state }, onTokens: (tokens: number) => void seen.push(tokens) }
}

describe("looks at token buckets", () => {
  it.effect("go on until a bucket is full, and end at once if it never refills, until it is used again", () =>
    Effect.gen(function* () {
      const looks = new TokenLooks()
      yield* start(looks.every(Duration.seconds(1)))
      const [bucket, quota] = [watched(Duration.seconds(3)), watched(Duration.infinity)]
      for (let use = 0; use < 2; use++) {
        for (const one of [bucket, quota]) looks.add(one)
        yield* TestClock.adjust("10 seconds")
      }
      assert.deepStrictEqual(bucket.seen, [0, 1, 2, 3, 4])
      assert.deepStrictEqual(quota.seen, [0, 1])
    })
  )
})
