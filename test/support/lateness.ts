/**
 * What a busy machine adds to every time that a test measures.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { Effect, type Scope } from "effect"

/** Tells, until the scope closes, by how many milliseconds the timers of this process have been late at worst. */
export const lateness: Effect.Effect<() => number, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const delay = monitorEventLoopDelay({ resolution: 1 })
      delay.enable()
      return delay
    }),
    (delay) => Effect.sync(() => void delay.disable())
  ),
  (delay) => () => delay.max / 1e6
)
