/**
 * Queries to a database that bears so many at a time. They come in waves, and some are reports that need more than one
 * connection.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InvalidOptions, PermitLost } from "../../Errors.ts"
import { Semaphore, type SemaphoreError, type SemaphoreLimiter } from "../../Semaphore.ts"
import { type Comparison, compare, type Job } from "./comparison.ts"
import { FragileDatabase, queryTime } from "./fragileDatabase.ts"
import { both, failures, ofLimiter, type Summary } from "./render/summary.ts"
import { seconds } from "./render/units.ts"
import type { Settings } from "./settings.ts"
import { mostInFlight } from "./timeline.ts"
import type { Scene } from "./view.ts"
import { arrival, type Waves, wavesFor } from "./waves.ts"

/** The limiter that the queries go through: as many connections as the database bears. */
export const makeQueryLimiter = (
  name: string,
  { permits }: Settings
): Effect.Effect<SemaphoreLimiter, InvalidOptions, Semaphore> =>
  Semaphore.make({ name: `${name}/queries`, capacity: permits, maxSleep: Duration.infinity })

/** Every tenth query is a report. */
const connectionsFor = (index: number, { permits }: Settings): number => (index % 10 === 9 ? Math.min(3, permits) : 1)

const averageConnections = 1.2

/** Queries a second that the database can do when it is not overloaded. */
const nominalRate = ({ permits }: Settings): number => permits / queryTime / averageConnections

/** A wave brings several times what the database bears at once. */
const wavesOfQueries = (settings: Settings): Waves => wavesFor(6 * settings.permits, nominalRate(settings))

const sceneFor = (settings: Settings, lastArrival: number): Scene => ({
  title: "semaphore",
  about: `${settings.queries} queries in waves to a database that bears ${settings.permits} connections`,
  work: "queries",
  good: "done",
  bad: "failed",
  plot: {
    timeline: mostInFlight(settings.permits),
    finestSlot: 0.05,
    mark: settings.permits,
    legend: { title: "connections in use", good: "bearable", bad: "too many", mark: "limit" }
  },
  expected: Math.max(lastArrival, settings.queries / nominalRate(settings))
})

export const semaphoreScenario = Effect.fnUntraced(
  function* (settings: Settings, limiter: SemaphoreLimiter) {
    const database = yield* FragileDatabase
    const waves = wavesOfQueries(settings)

    const jobs: ReadonlyArray<Job<SemaphoreError | PermitLost | InvalidOptions>> = Array.from(
      { length: settings.queries },
      (_, index) => {
        const connections = connectionsFor(index, settings)
        return {
          at: arrival(waves, index),
          weight: connections,
          work: Effect.map(database.query(connections), (answered) => (answered ? "good" : "bad")),
          limited: limiter.withPermits(connections)
        }
      }
    )

    const comparison = yield* compare({
      scene: sceneFor(settings, arrival(waves, settings.queries - 1)),
      gauge: Effect.map(limiter.state, ({ held, capacity }) => ({ label: "permits in use", value: held, capacity })),
      withoutLimiter: jobs,
      withLimiter: jobs
    })
    return summary(comparison)
  },
  (scenario, settings) => Effect.provide(scenario, FragileDatabase.layer(settings.permits))
)

const summary = (comparison: Comparison): Summary => ({
  title: "semaphore",
  rows: [
    both(comparison, "queries", (run) => String(run.total)),
    both(comparison, "done", (run) => String(run.good)),
    failures(comparison, "failed"),
    both(comparison, "done a second", (run) => `${(run.good / run.elapsed).toFixed(1)} /s`),
    both(comparison, "slowest query", (run) => seconds(run.slowest)),
    ofLimiter("longest wait", seconds(comparison.limited.longestWait)),
    both(comparison, "peak connections", (run) => String(run.peakInFlight)),
    both(comparison, "took", (run) => seconds(run.elapsed))
  ]
})
