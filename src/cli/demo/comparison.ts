/**
 * Does the same work twice, without a limiter and with one, and shows it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import { Display } from "./display.ts"
import { type Guard, Recorder } from "./recorder.ts"
import type { Outcome, Run } from "./run.ts"
import type { Gauge, Scene } from "./view.ts"

/** A piece of work, and how it goes through the limiter. */
export interface Job<E> {
  /** Seconds from the start of the run at which it comes in. */
  readonly at: number
  /** How much it counts for while it is in flight. */
  readonly weight: number
  readonly work: Effect.Effect<Outcome>
  readonly limited: Guard<E>
}

export interface Comparison {
  readonly without: Run
  readonly limited: Run
}

const unlimited: Guard<never> = identity

/** Between the runs, so that the eye can follow. */
const pause = Effect.sleep("300 millis")

export const compare = Effect.fnUntraced(function* <E, E1>(options: {
  readonly scene: Scene
  readonly gauge: Effect.Effect<Gauge, E1>
  readonly withoutLimiter: ReadonlyArray<Job<E>>
  readonly withLimiter: ReadonlyArray<Job<E>>
}): Effect.fn.Return<Comparison, E | E1, Display> {
  const { scene, gauge, withoutLimiter, withLimiter } = options
  const display = yield* Display
  const without = new Recorder(withoutLimiter.length)
  const limited = new Recorder(withLimiter.length)

  const run = (recorder: Recorder, jobs: ReadonlyArray<Job<E>>, guardOf: (job: Job<E>) => Guard<E>) =>
    recorder.during(
      Effect.forEach(
        jobs,
        (job) =>
          Effect.delay(
            recorder.follow(job.work, { guard: guardOf(job), weight: job.weight }),
            Duration.seconds(job.at)
          ),
        { concurrency: "unbounded", discard: true }
      )
    )

  const bothRuns = Effect.gen(function* () {
    yield* run(without, withoutLimiter, () => unlimited)
    yield* pause
    yield* run(limited, withLimiter, (job) => job.limited)
  })

  const runs = Effect.all({ without: without.view, limited: limited.view })
  yield* display.during(
    bothRuns,
    Effect.map(Effect.all({ runs, gauge }), ({ runs, gauge }) => ({ scene, ...runs, gauge }))
  )
  return yield* runs
})
