import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { Asked, Lane } from "../src/internal/lane.ts"

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

/** A lane, and how many requests are in each of its calls, of which the first takes until it is let go. */
const makeLane = Effect.map(Clock.Clock, (clock) => {
  const calls: Array<ReadonlyArray<Asked<number>>> = []
  let letGo = () => {}
  const lane = new Lane<Asked<number>>({
    clock,
    fork: Effect.runFork,
    call: (requests) =>
      Effect.callback((resume) => {
        const answer = () => resume(Effect.succeed(() => []))
        if (calls.push(requests) === 1) letGo = answer
        else answer()
      }),
    onIdle: () => {},
    maxRequests: 1000
  })
  return { lane, calls, letGo: () => letGo() }
})

const ask = (lane: Lane<Asked<number>>) => {
  const request = new Asked<number>(Number.POSITIVE_INFINITY)
  lane.add(request)
  return request
}

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

describe("requests that share round trips", () => {
  it.effect("take no memory any more when nobody waits for them, however long the call before them takes", () =>
    Effect.gen(function* () {
      const { lane, calls, letGo } = yield* makeLane
      ask(lane)
      yield* turn
      const abandoned: Array<WeakRef<Asked<number>>> = []
      const waiting: Array<Asked<number>> = []
      for (let i = 0; i < 20_000; i++) {
        if (i % 10 === 0) waiting.push(ask(lane))
        else {
          const request = ask(lane)
          request.abandon()
          abandoned.push(new WeakRef(request))
        }
      }
      yield* turn
      collectGarbage()
      const kept = abandoned.filter((one) => one.deref() !== undefined)
      assert.isBelow(kept.length, 5000)
      letGo()
      yield* turn
      assert.isTrue(
        calls
          .slice(1)
          .flat()
          .every((request, index) => request === waiting[index])
      )
      assert.strictEqual(calls.slice(1).flat().length, waiting.length)
    })
  )
})
