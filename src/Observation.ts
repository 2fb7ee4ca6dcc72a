/**
 * Metrics, spans and log lines of limiters, for those who run them.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidOptions } from "./Errors.ts"
import { makeObserver } from "./internal/makeObserver.ts"
import { CurrentObserver } from "./internal/observer.ts"
import { observationConfig } from "./internal/options.ts"

/**
 * What is observed, and how closely.
 */
export interface ObservationOptions {
  /**
   * Tells the keys of keyed limiters apart by a label `key`. Every key is then a time series of its own, for ever: for a
   * few hosts, and not for all users. Default: `false`, where they count together under the name of their definition.
   */
  readonly byKey?: boolean | undefined
  /** How often to look how many tokens are left in buckets that are in use: at least a millisecond. Default: 10 seconds. */
  readonly lookEvery?: Duration.Input | undefined
  /**
   * Makes a span `steindamm.acquire` of every request, from when it asks until it is given permits or refused, if there
   * is a tracer to see it. Default: `false`.
   */
  readonly spans?: boolean | undefined
  /** Annotates the log lines of guarded work with the limiter and how long it was waited for. Default: `false`. */
  readonly logs?: boolean | undefined
}

const layer = (options: ObservationOptions = {}): Layer.Layer<never, InvalidOptions> =>
  Layer.effect(CurrentObserver, Effect.map(Effect.fromResult(observationConfig(options)), makeObserver))

/**
 * Watches limiters. Nobody does by default, and limiters that are not watched cost nothing for it.
 *
 * `Observation.layer` is provided to the layer of the limiters, or around everything: it is looked for once, when that
 * layer is built. From then on the limiters count what they do in Effect's `Metric`s, where exporters find it; spans and
 * log lines are there for the asking. `docs/observability.md` tells all names.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { PrometheusMetrics } from "effect/observability"
 * import { LocalLive, Observation, Semaphore } from "steindamm"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* Semaphore.make({ name: "database", capacity: 2 })
 *   yield* Effect.forEach([1, 2, 3, 4], (n) => limiter.withPermit(Effect.log(`query ${n}`)), {
 *     concurrency: "unbounded"
 *   })
 *   console.log(yield* PrometheusMetrics.format())
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalLive.pipe(Layer.provide(Observation.layer())))))
 * ```
 */
export const Observation: {
  /** Observes the limiters of the layers that it is provided to. Fails with `InvalidOptions` if the options are wrong. */
  readonly layer: (options?: ObservationOptions) => Layer.Layer<never, InvalidOptions>
} = { layer }
