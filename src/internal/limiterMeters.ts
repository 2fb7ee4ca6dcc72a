/**
 * The numbers of one limiter, or of all limiters of one keyed definition.
 */
import type { LimiterKind } from "../Errors.ts"
import { type Meter, metrics, type Reading } from "./metrics.ts"
import type { Backend } from "./observer.ts"

/** By what metrics of limiters are told apart. */
export interface LimiterLabels {
  readonly limiter: string
  readonly kind: LimiterKind
  readonly backend: Backend
  /** Only if keys are to be told apart as well. */
  readonly key?: string
}

/** Why a request was given nothing: the error's tag, or that it wouldn't wait, or that its caller has gone. */
export type RefusalReason =
  | "MaxSleepExceeded"
  | "NoTokensAvailable"
  | "BackendError"
  | "InvalidOptions"
  | "Unavailable"
  | "Interrupted"

/** These are there with a count of zero before the first refusal, so that it shows as a rise. */
const usualReasons: Record<LimiterKind, ReadonlyArray<RefusalReason>> = {
  TokenBucket: ["MaxSleepExceeded", "NoTokensAvailable", "BackendError", "Unavailable", "Interrupted"],
  Semaphore: ["MaxSleepExceeded", "BackendError", "Unavailable", "Interrupted"]
}

/** Permits that come back. */
export interface Held {
  readonly permits: number
  /** Read only by those who count it: it takes a look at the clock. */
  readonly heldSeconds: number
}

/** Told what becomes of requests; times are in seconds. */
export interface RequestMeters {
  readonly asked: () => void
  readonly granted: (permits: number, waited: number) => void
  /** They were given without the backend. */
  readonly grantedAway: (permits: number) => void
  /** `by`: the name of the limiter, where an error tells it. */
  readonly refused: (reason: RefusalReason, by: string | undefined) => void
  /** Somebody else refused. */
  readonly withdrawn: () => void
  /** The work is done. */
  readonly released: (held: Held) => void
}

export class LimiterMeters implements RequestMeters {
  readonly labels: LimiterLabels
  protected readonly meter: Meter
  private readonly requestsWaiting: Reading
  private readonly permitsGranted: Reading
  private permitsGrantedAway: Reading | undefined
  private readonly recordWait: (seconds: number) => void

  constructor(meter: Meter, labels: LimiterLabels) {
    this.labels = labels
    this.meter = meter
    this.requestsWaiting = meter.reading(metrics.requestsWaiting, { ...labels })
    this.permitsGranted = meter.reading(metrics.permitsGranted, { ...labels })
    this.recordWait = meter.histogram(metrics.wait, { ...labels })
    for (const reason of usualReasons[labels.kind]) this.requestsRefused(reason)
  }

  private requestsRefused(reason: RefusalReason): Reading {
    return this.meter.reading(metrics.requestsRefused, { ...this.labels, reason })
  }

  asked(): void {
    this.requestsWaiting.value++
  }

  granted(permits: number, waited: number): void {
    this.requestsWaiting.value--
    this.permitsGranted.value += permits
    this.recordWait(waited)
  }

  grantedAway(permits: number): void {
    this.showAway().value += permits
  }

  /** To be called for limiters that can go on without their backend: only they have such a counter. */
  showAway(): Reading {
    this.permitsGrantedAway ??= this.meter.reading(metrics.permitsGrantedAway, { ...this.labels })
    return this.permitsGrantedAway
  }

  refused(reason: RefusalReason): void {
    this.requestsWaiting.value--
    this.requestsRefused(reason).value++
  }

  withdrawn(): void {
    this.requestsWaiting.value--
  }

  released(_held: Held): void {}
}

export class BucketMeters extends LimiterMeters {
  private tokensAvailable: Reading | undefined
  private readonly onUse: () => void

  constructor(meter: Meter, labels: LimiterLabels, onUse: () => void) {
    super(meter, labels)
    this.onUse = onUse
  }

  override granted(permits: number, waited: number): void {
    super.granted(permits, waited)
    this.onUse()
  }

  /** Someone looked. */
  counted(tokens: number): void {
    this.tokensAvailable ??= this.meter.reading(metrics.tokensAvailable, { ...this.labels })
    this.tokensAvailable.value = tokens
  }
}

export class SemaphoreMeters extends LimiterMeters {
  private readonly permitsInUse: Reading
  private readonly recordHold: (seconds: number) => void

  constructor(meter: Meter, labels: LimiterLabels) {
    super(meter, labels)
    this.permitsInUse = meter.reading(metrics.permitsInUse, { ...labels })
    this.recordHold = meter.histogram(metrics.hold, { ...labels })
  }

  override granted(permits: number, waited: number): void {
    super.granted(permits, waited)
    this.permitsInUse.value += permits
  }

  override released({ permits, heldSeconds }: Held): void {
    this.permitsInUse.value -= permits
    this.recordHold(heldSeconds)
  }
}
