/**
 * A connection to Redis whose calls are counted.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { BackendErrorReason, LimiterKind } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import { type Meter, metrics, type Reading } from "./metrics.ts"
import type { Backend } from "./observer.ts"
import { monotonicMicros } from "./time.ts"

export interface CallLabels {
  readonly kind: LimiterKind
  readonly backend: Backend
}

/** These are there with a count of zero before the first error, so that it shows as a rise. */
const usualReasons: ReadonlyArray<BackendErrorReason> = ["Unreachable", "TimedOut"]

/** The numbers of the calls to a backend: a call carries requests to several limiters of a kind. */
export class CallMeters {
  private readonly meter: Meter
  private readonly labels: CallLabels
  private readonly roundTrips: Reading
  private readonly recordRoundTrip: (seconds: number) => void
  private readonly recordBatchSize: (requests: number) => void

  constructor(meter: Meter, labels: CallLabels) {
    this.meter = meter
    this.labels = labels
    this.roundTrips = meter.reading(metrics.roundTrips, { ...labels })
    this.recordRoundTrip = meter.histogram(metrics.roundTrip, { ...labels })
    this.recordBatchSize = meter.histogram(metrics.batchSize, { ...labels })
    for (const reason of usualReasons) this.backendErrors(reason)
  }

  private backendErrors(reason: BackendErrorReason): Reading {
    return this.meter.reading(metrics.backendErrors, { ...this.labels, reason })
  }

  answered(requests: number, micros: number): void {
    this.roundTrips.value++
    this.recordRoundTrip(micros / 1_000_000)
    this.recordBatchSize(requests)
  }

  failed(reason: BackendErrorReason): void {
    this.backendErrors(reason).value++
  }
}

export const observedRedisClient = (
  client: RedisClient["Service"],
  meters: CallMeters,
  clock: Clock.Clock
): RedisClient["Service"] => {
  // A process that has just started waits for its connection: that is no error unless it comes to nothing.
  let hasAnswered = false
  const run: RedisClient["Service"]["run"] = (script, keys, args, options) =>
    Effect.suspend(() => {
      const sent = monotonicMicros(clock)
      const ran = client.run(script, keys, args, {
        ...options,
        onRetry: (failure) => {
          if (hasAnswered || failure.reason !== "Unreachable") meters.failed(failure.reason)
          options.onRetry?.(failure)
        }
      })
      return Effect.matchEffect(ran, {
        onFailure: (error) => {
          meters.failed(error.reason)
          return Effect.fail(error)
        },
        onSuccess: (reply) => {
          hasAnswered = true
          meters.answered(options.requests ?? 1, monotonicMicros(clock) - sent)
          return Effect.succeed(reply)
        }
      })
    })
  return { ...client, run }
}
