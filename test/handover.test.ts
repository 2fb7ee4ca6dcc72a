import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { LocalLive, Semaphore } from "steindamm"
import { inOrder } from "./support/fibers.ts"

describe("permits that are handed over at once, each within the work that gives it back", () => {
  it.effect("are overtaken by none that somebody else gives back meanwhile", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "handed over", capacity: 2 })
      const holders = [yield* Scope.make(), yield* Scope.make()]
      for (const holder of holders) yield* Scope.provide(limiter.acquire(), holder)
      const waiters = Array.from({ length: 40 }, (_, index) => index)
      const order: Array<number> = []
      const fibers = yield* inOrder(waiters.map((index) => limiter.withPermit(Effect.sync(() => order.push(index)))))
      for (const holder of holders) yield* Scope.close(holder, Exit.void)
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(order, waiters)
    }).pipe(Effect.provide(LocalLive))
  )
})
