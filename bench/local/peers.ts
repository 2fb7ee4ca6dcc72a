/**
 * Semaphores, ours and those of peers, each as a user of Effect would put work behind it.
 */
import { Sema } from "async-sema"
import { Effect, Semaphore as EffectSemaphore } from "effect"
import pLimit from "p-limit"
import { type InvalidOptions, Semaphore } from "steindamm"

export interface Guard {
  readonly label: string
  readonly guard: (work: Effect.Effect<void>) => Effect.Effect<unknown, unknown>
  /** The part of a crowd that is enough for it. Default: all. */
  readonly share?: number
}

export const semaphores = (
  name: string,
  capacity: number
): Effect.Effect<ReadonlyArray<Guard>, InvalidOptions, Semaphore> =>
  Effect.gen(function* () {
    const semaphore = yield* Semaphore.make({ name, capacity })
    const effectSemaphore = EffectSemaphore.makeUnsafe(capacity)
    const limit = pLimit(capacity)
    const sema = new Sema(capacity)
    return [
      { label: "steindamm Semaphore", guard: semaphore.withPermit },
      // Quadratic in those who wait: a whole crowd would take it a hundred times as long.
      { label: "effect Semaphore", guard: effectSemaphore.withPermit, share: 0.1 },
      { label: "p-limit", guard: (work) => Effect.promise(() => limit(() => Effect.runPromise(work))) },
      {
        label: "async-sema",
        guard: (work) =>
          Effect.acquireUseRelease(
            Effect.promise(() => sema.acquire()),
            () => work,
            () => Effect.sync(() => sema.release())
          )
      }
    ]
  })
