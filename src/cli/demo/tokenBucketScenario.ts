/**
 * Calls to an API that grants so many a second. They come in waves, and the API refuses what exceeds its quota.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InvalidOptions } from "../../Errors.ts"
import { TokenBucket, type TokenBucketError, type TokenBucketLimiter } from "../../TokenBucket.ts"
import { type Comparison, compare, type Job } from "./comparison.ts"
import { type Quota, QuotaApi } from "./quotaApi.ts"
import { both, failures, ofLimiter, type Summary } from "./render/summary.ts"
import { number, percent, seconds } from "./render/units.ts"
import { lastAdmission, type Run } from "./run.ts"
import type { Settings } from "./settings.ts"
import { admissionsPerSecond } from "./timeline.ts"
import type { Scene } from "./view.ts"
import { arrival, type Waves, wavesFor } from "./waves.ts"

/** The limiter that the calls go through: as many a second as the API grants. */
export const makeCallLimiter = (
  name: string,
  { rate, capacity }: Settings
): Effect.Effect<TokenBucketLimiter, InvalidOptions, TokenBucket> =>
  TokenBucket.make({
    name: `${name}/calls`,
    capacity,
    refillAmount: 1,
    refillFrequency: Duration.millis(1000 / rate),
    maxSleep: Duration.infinity
  })

/** Calls that leave evenly may arrive bunched; the API allows for half a second of that. */
const quotaFor = ({ rate, capacity }: Settings): Quota => ({ rate, burst: capacity + rate / 2 })

/** A wave brings far more than the API takes at once. */
const wavesOfCalls = (settings: Settings): Waves => wavesFor(Math.ceil(3 * quotaFor(settings).burst), settings.rate)

const sceneFor = (settings: Settings, lastArrival: number): Scene => ({
  title: "token bucket",
  about: `${settings.calls} calls in waves to an API that grants ${number(settings.rate)} a second`,
  work: "calls",
  good: "answered",
  bad: "refused",
  plot: {
    timeline: admissionsPerSecond,
    finestSlot: 0.2,
    mark: settings.rate,
    legend: { title: "calls a second", good: "answered", bad: "refused", mark: "granted" }
  },
  expected: Math.max(lastArrival, (settings.calls - settings.capacity) / settings.rate)
})

export const tokenBucketScenario = Effect.fnUntraced(
  function* (settings: Settings, limiter: TokenBucketLimiter) {
    const api = yield* QuotaApi
    const waves = wavesOfCalls(settings)

    const jobs = (apiKey: string): ReadonlyArray<Job<TokenBucketError>> =>
      Array.from({ length: settings.calls }, (_, index) => ({
        at: arrival(waves, index),
        weight: 1,
        work: Effect.map(api.call(apiKey), (status) => (status === 429 ? "bad" : "good")),
        limited: limiter.withPermit
      }))

    const comparison = yield* compare({
      scene: sceneFor(settings, arrival(waves, settings.calls - 1)),
      gauge: Effect.map(limiter.state, ({ tokens, capacity }) => ({ label: "tokens left", value: tokens, capacity })),
      withoutLimiter: jobs("without limiter"),
      withLimiter: jobs("with limiter")
    })
    return summary(settings, comparison)
  },
  (scenario, settings) => Effect.provide(scenario, QuotaApi.layer(quotaFor(settings)))
)

/** Calls a second after the first burst, up to the last admission. A limiter can't do better than its rate. */
const rateAfterBurst = (run: Run, { capacity }: Settings): number => (run.good - capacity) / lastAdmission(run)

const summary = (settings: Settings, comparison: Comparison): Summary => {
  const { limited } = comparison
  const rate = rateAfterBurst(limited, settings)
  const nominal = number(settings.rate)
  return {
    title: "token bucket",
    rows: [
      both(comparison, "calls", (run) => String(run.total)),
      both(comparison, "answered", (run) => String(run.good)),
      failures(comparison, "refused (429)"),
      ofLimiter("rate after the burst", rate > 0 ? `${rate.toFixed(1)} /s` : "–"),
      ofLimiter(`of the nominal ${nominal} /s`, rate > 0 ? percent(rate / settings.rate) : "–"),
      ofLimiter("longest wait", seconds(limited.longestWait)),
      both(comparison, "peak in flight", (run) => String(run.peakInFlight)),
      both(comparison, "took", (run) => seconds(run.elapsed))
    ]
  }
}
