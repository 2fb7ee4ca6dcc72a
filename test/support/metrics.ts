/**
 * What metrics say.
 */
import { Effect, Metric } from "effect"

/** What tells series of a metric apart, without what describes all of them. */
type Labels = Readonly<Record<string, string>>

/** The states of all series of a metric that have these labels, and maybe more. */
export const seriesOf = (name: string, labels: Labels = {}): Effect.Effect<ReadonlyArray<Metric.Metric.Snapshot>> =>
  Effect.map(Metric.snapshot, (snapshots) =>
    snapshots.filter(
      ({ id, attributes = {} }) =>
        id === name && Object.entries(labels).every(([label, value]) => attributes[label] === value)
    )
  )

const numberOf = ({ type, state }: Metric.Metric.Snapshot): number => {
  if (type === "Counter") return Number(state.count)
  if (type === "Gauge") return Number(state.value)
  if (type === "Histogram") return state.count
  return Number.NaN
}

/** A counter's or gauge's value, or how many values a histogram has: added up over its series; NaN if there is none. */
export const reading = (name: string, labels: Labels = {}): Effect.Effect<number> =>
  Effect.map(seriesOf(name, labels), (series) =>
    series.length === 0 ? Number.NaN : series.reduce((sum, one) => sum + numberOf(one), 0)
  )

/** The sum of a histogram's values. */
export const sumOf = (name: string, labels: Labels = {}): Effect.Effect<number> =>
  Effect.map(seriesOf(name, labels), (series) =>
    series.reduce((sum, { type, state }) => sum + (type === "Histogram" ? state.sum : Number.NaN), 0)
  )

/** With metrics of its own. */
export const isolated = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())
