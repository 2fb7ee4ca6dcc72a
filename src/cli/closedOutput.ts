/**
 * Whoever read the output has seen enough, as in `steindamm top | head`: then there is nothing left to do, and nothing
 * to complain about.
 */
import * as Effect from "effect/Effect"

/** Settles when nobody reads standard output any more. */
const outputClosed: Effect.Effect<void> = Effect.callback((resume) => {
  const onError = (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") resume(Effect.void)
    else resume(Effect.die(error))
  }
  process.stdout.on("error", onError)
})

/** Ends well, and cleans up, when nobody reads standard output any more. */
export const whileOutputIsRead = <E, R>(work: Effect.Effect<void, E, R>): Effect.Effect<void, E, R> =>
  Effect.raceFirst(work, outputClosed)
