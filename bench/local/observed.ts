/**
 * What it costs to be observed: the same calls unobserved, counted, and traced.
 */
import { Effect, Layer, Tracer } from "effect"
import { LocalLive, Observation, Semaphore, TokenBucket } from "steindamm"
import { type Contestant, race, repeat, report } from "../harness.ts"

const plenty = 1e9

/** Its spans are forgotten, as those of an exporter are once they are sent. */
const tracer = Tracer.make({ span: (options) => new Tracer.NativeSpan(options) })

const limiters = Effect.gen(function* () {
  const bucket = yield* TokenBucket.make({ name: "bucket", capacity: plenty, refillAmount: plenty })
  const keyed = yield* TokenBucket.makeKeyed({ name: "keyed", capacity: plenty, refillAmount: plenty })
  const semaphore = yield* Semaphore.make({ name: "semaphore" })
  return [bucket.withPermit, keyed.withPermit("key"), semaphore.withPermit] as const
})

/** The limiters of a layer of their own, which stays open as long as the scope. */
const over = (layer: typeof LocalLive) =>
  Effect.flatMap(Layer.build(Layer.fresh(layer)), (context) => Effect.provideContext(limiters, context))

const layers = Effect.gen(function* () {
  const observedBy = (options?: Parameters<typeof Observation.layer>[0]) =>
    LocalLive.pipe(Layer.provide(Layer.orDie(Observation.layer(options))))
  const counted = yield* over(observedBy())
  const traced = yield* over(observedBy({ spans: true }))
  return [
    ["not observed", yield* over(LocalLive), undefined],
    ["counted", counted, undefined],
    ["counted, log lines annotated", yield* over(observedBy({ logs: true })), undefined],
    ["counted and traced, without a tracer", traced, undefined],
    ["counted and traced, with a tracer", traced, tracer]
  ] as const
})

export const observed = (rounds: number) =>
  Effect.gen(function* () {
    const work = Effect.sync(() => {})
    const contestants = yield* layers
    for (const [index, what] of ["token bucket", "token bucket by key", "semaphore"].entries()) {
      const rows = contestants.map(([label, guards, tracer]): Contestant => {
        const guarded: Effect.Effect<void, unknown> = guards[index]?.(work) ?? Effect.die("no such limiter")
        return { label, run: repeat(tracer === undefined ? guarded : Effect.withTracer(guarded, tracer)) }
      })
      report(`${what}, observed`, yield* race(rows, { count: 20_000, rounds }))
    }
  }).pipe(Effect.scoped)
