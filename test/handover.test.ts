import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Result, Scope } from "effect"
import { LocalLive, Semaphore } from "steindamm"
import { LocalSemaphores } from "../src/internal/localSemaphores.ts"
import { semaphoreConfig } from "../src/internal/options.ts"
import { makeSemaphoreLimiter } from "../src/internal/semaphoreLimiter.ts"
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

  for (const verb of ["withPermit", "acquire"] as const) {
    it.effect(`are known to be lost by whoever has them by ${verb}, though that was before the work could begin`, () =>
      Effect.gen(function* () {
        let lost = 0
        const config = Result.getOrThrow(semaphoreConfig({ name: "lost", capacity: 1 }))
        const limiter = makeSemaphoreLimiter(config, new LocalSemaphores().store(config), () => lost++)
        let begun = 0
        let isReset = false
        const work = Effect.suspend(() => {
          begun++
          return isReset ? Effect.never : Effect.void
        })
        const request = {
          withPermit: limiter.withPermit(work),
          acquire: Effect.scoped(Effect.flatMap(limiter.acquire(), ({ lost }) => Effect.raceFirst(work, lost)))
        }
        const holder = yield* Scope.make()
        yield* Scope.provide(limiter.acquire(), holder)
        const fibers = yield* inOrder(Array.from({ length: 40 }, () => request[verb]))
        yield* Scope.close(holder, Exit.void)
        // The next has its permit already, and goes on with the next turn of the scheduler.
        const next = fibers[begun]
        assert.isDefined(next)
        isReset = true
        yield* limiter.reset
        assert.strictEqual((yield* Effect.flip(Fiber.join(next)))._tag, "PermitLost")
        assert.strictEqual(lost, 1)
        yield* Fiber.interruptAll(fibers)
      })
    )
  }
})
