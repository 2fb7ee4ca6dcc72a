/**
 * The metrics of limiters: what they are called, what they tell, and how their numbers are kept.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"

/** Called as Prometheus expects it. */
export interface MetricDefinition {
  readonly name: string
  readonly type: "counter" | "gauge" | "histogram"
  /** As OpenTelemetry writes it. */
  readonly unit: string
  readonly description: string
  /** The upper bounds of a histogram's buckets. */
  readonly boundaries?: ReadonlyArray<number>
}

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

export const metrics = {
  permitsGranted: {
    name: "steindamm_permits_granted_total",
    type: "counter",
    unit: "{permit}",
    description: "Permits or tokens that work was given."
  },
  permitsGrantedAway: {
    name: "steindamm_permits_granted_away_total",
    type: "counter",
    unit: "{permit}",
    description: "Those of them that were given without the backend, while it was away."
  },
  requestsRefused: {
    name: "steindamm_requests_refused_total",
    type: "counter",
    unit: "{request}",
    description: "Requests that were given nothing, by reason."
  },
  requestsWaiting: {
    name: "steindamm_requests_waiting",
    type: "gauge",
    unit: "{request}",
    description: "Requests of this process that have been given nothing yet."
  },
  wait: {
    name: "steindamm_wait_seconds",
    type: "histogram",
    unit: "s",
    description: "How long those waited who were given permits or tokens.",
    boundaries: seconds
  },
  permitsInUse: {
    name: "steindamm_permits_in_use",
    type: "gauge",
    unit: "{permit}",
    description: "Permits of a semaphore that this process holds."
  },
  hold: {
    name: "steindamm_hold_seconds",
    type: "histogram",
    unit: "s",
    description: "How long permits of a semaphore were held.",
    boundaries: [...seconds, 300, 1800]
  },
  leasesLost: {
    name: "steindamm_leases_lost_total",
    type: "counter",
    unit: "{lease}",
    description: "Permits of a semaphore whose lease could not be kept."
  },
  tokensAvailable: {
    name: "steindamm_tokens_available",
    type: "gauge",
    unit: "{token}",
    description: "Tokens in a bucket, at the latest look."
  },
  optionsDisagreed: {
    name: "steindamm_options_disagreed_total",
    type: "counter",
    unit: "{request}",
    description: "Requests that found a token bucket used with other options."
  },
  roundTrips: {
    name: "steindamm_round_trips_total",
    type: "counter",
    unit: "{call}",
    description: "Calls to the backend that it answered."
  },
  roundTrip: {
    name: "steindamm_round_trip_seconds",
    type: "histogram",
    unit: "s",
    description: "How long a call to the backend took, repetitions included.",
    boundaries: [0.0001, 0.00025, 0.0005, ...seconds.slice(0, 12)]
  },
  batchSize: {
    name: "steindamm_batch_size",
    type: "histogram",
    unit: "{request}",
    description: "How many requests shared a call to the backend.",
    boundaries: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
  },
  backendErrors: {
    name: "steindamm_backend_errors_total",
    type: "counter",
    unit: "{call}",
    description: "Calls to the backend that failed, repeated or not, by reason."
  }
} as const satisfies Record<string, MetricDefinition>

type Labels = Readonly<Record<string, string>>

/** A number that changes as cheaply as any other field, and is read when somebody asks for the metrics. */
export interface Reading {
  value: number
}

/** Shared by all who count the same. */
const readings = new WeakMap<Metric.MetricRegistry, Map<string, Reading>>()

/** Where the numbers of a layer's limiters go. */
export class Meter {
  private readonly context: Context.Context<never>
  private readonly readings: Map<string, Reading>

  constructor(context: Context.Context<never>) {
    const registry = Context.get(context, Metric.MetricRegistry)
    this.context = context
    this.readings = readings.get(registry) ?? new Map()
    readings.set(registry, this.readings)
  }

  /** The reading of a counter or gauge, which is there from now on. */
  reading(definition: MetricDefinition & { readonly type: "counter" | "gauge" }, labels: Labels): Reading {
    const { name, type, description, unit } = definition
    const key = JSON.stringify([name, labels, Context.get(this.context, Metric.CurrentMetricAttributes)])
    let reading = this.readings.get(key)
    if (reading === undefined) {
      reading = { value: 0 }
      this.readings.set(key, reading)
      this.show(type, name, { description, attributes: { ...labels, unit } }, reading)
    }
    return reading
  }

  private show(
    type: "counter" | "gauge",
    name: string,
    options: { readonly description: string; readonly attributes: Labels },
    reading: Reading
  ): void {
    const unused = { update: () => {}, modify: () => {} }
    if (type === "gauge") {
      const get = () => ({ value: reading.value })
      Metric.registerUnsafe(Metric.gauge(name, options), this.context, { get, ...unused })
    } else {
      const get = () => ({ count: reading.value, incremental: true })
      Metric.registerUnsafe(Metric.counter(name, { ...options, incremental: true }), this.context, { get, ...unused })
    }
  }

  /** Records values of a histogram, which is there from now on. */
  histogram(
    definition: MetricDefinition & { readonly type: "histogram"; readonly boundaries: ReadonlyArray<number> },
    labels: Labels
  ): (value: number) => void {
    const { name, description, boundaries, unit } = definition
    const metric = Metric.histogram(name, { description, boundaries, attributes: { ...labels, unit } })
    metric.valueUnsafe(this.context)
    return (value) => metric.updateUnsafe(value, this.context)
  }
}
