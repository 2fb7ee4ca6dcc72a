import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { type NoGrant, SemaphoreStandIn, StandInGrant } from "../src/internal/semaphoreStandIn.ts"
import { WaitingLine } from "../src/internal/waitingLine.ts"
import { start } from "./support/fibers.ts"

describe("what gives permits while Redis is away", () => {
  it.effect("has those back that went to somebody who left when Redis had just been told of them", () =>
    Effect.gen(function* () {
      const standIn = new SemaphoreStandIn(1, [])
      const line = new WaitingLine()
      const givenBack: Array<StandInGrant> = []
      let grants = 0
      const grantOf = () => new StandInGrant(String(++grants), 1, 0)
      const release = (grant: StandInGrant | NoGrant) => {
        if (grant instanceof StandInGrant) standIn.release(grant)
      }
      const first = standIn.takeNow(1, grantOf)
      // So many hand the permit on that the last of them only goes on with the next turn.
      const waiting = yield* Effect.forEach(Array.from({ length: 20 }), () =>
        start(
          Effect.uninterruptibleMask((restore) =>
            Effect.map(
              standIn.take(1, Number.POSITIVE_INFINITY, grantOf, line, restore, (grant) => givenBack.push(grant)),
              release
            )
          )
        )
      )
      if (first !== undefined) standIn.release(first)
      const { grants: handedOver } = standIn.end()
      assert.strictEqual(handedOver.length, 1)
      yield* Fiber.interruptAll(waiting)
      assert.deepStrictEqual(givenBack, handedOver)
    })
  )
})
