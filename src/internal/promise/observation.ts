/**
 * What limiters for plain promises count, if they are to: the same as observed limiters of Effect programs.
 */
import * as Context from "effect/Context"
import type { LimiterKind } from "../../Errors.ts"
import type { WhenAway } from "../../WhenAway.ts"
import { BucketMeters, type LimiterLabels, SemaphoreMeters } from "../limiterMeters.ts"
import { Meter, metrics } from "../metrics.ts"
import type { Watch } from "../observedRequest.ts"

/** Of one limiter, with all of its keys. */
export interface Observation {
  /** `isAway`: whether permits are given without the backend. */
  readonly watch: (isAway: () => boolean) => Watch
  /** A lease could not be kept. */
  readonly onLost: () => void
  /** A request found a bucket used with other options. */
  readonly onDisagreed: () => void
}

interface Observable {
  readonly name: string
  readonly whenAway: WhenAway | undefined
}

const nothing = (): void => {}

export const observationOf = (
  kind: LimiterKind,
  { name, whenAway = "fail" }: Observable,
  { observe = false, redis }: { readonly observe?: boolean | undefined; readonly redis?: unknown }
): Observation | undefined => {
  if (!observe) return undefined
  const meter = new Meter(Context.empty())
  const labels: LimiterLabels = { limiter: name, kind, backend: redis === undefined ? "local" : "redis" }
  const meters = kind === "Semaphore" ? new SemaphoreMeters(meter, labels) : new BucketMeters(meter, labels, nothing)
  if (labels.backend === "redis" && whenAway !== "fail") meters.showAway()
  const counter = meter.reading(kind === "Semaphore" ? metrics.leasesLost : metrics.optionsDisagreed, { ...labels })
  const count = () => {
    counter.value++
  }
  return {
    watch: (isAway) => ({ meters, isAway, spans: undefined, logs: undefined }),
    onLost: count,
    onDisagreed: count
  }
}
