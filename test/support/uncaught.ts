import { Deferred, Effect, type Scope } from "effect"

/** While the scope is open, uncaught exceptions of this process are nobody's but this test's; gives the first. */
export const firstUncaught: Effect.Effect<Effect.Effect<unknown>, never, Scope.Scope> = Effect.gen(function* () {
  const uncaught = yield* Deferred.make<unknown>()
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const others = process.rawListeners("uncaughtException") as Array<(error: unknown) => void>
      process.removeAllListeners("uncaughtException")
      process.on("uncaughtException", (error) => Deferred.doneUnsafe(uncaught, Effect.succeed(error)))
      return others
    }),
    (others) =>
      Effect.sync(() => {
        process.removeAllListeners("uncaughtException")
        for (const listener of others) process.on("uncaughtException", listener)
      })
  )
  return Deferred.await(uncaught)
})
