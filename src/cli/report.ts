/**
 * What there is to tell about a limiter, as `--json` prints it. Names are stable; durations are milliseconds, tokens are
 * numbers, and null is what nobody knows or what never comes.
 */
import type { LimiterKind } from "../Errors.ts"

export type KindName = "token-bucket" | "semaphore"

export const kindNameOf: Record<LimiterKind, KindName> = { TokenBucket: "token-bucket", Semaphore: "semaphore" }

interface Identity {
  readonly name: string
  /** Shared with the limiters that are decided about together; null if the limiter stands alone. */
  readonly tag: string | null
}

export interface BucketReport extends Identity {
  readonly kind: "token-bucket"
  readonly capacity: number
  /** Free this instant. */
  readonly tokens: number
  /** Owed to requests that wait, or that cost more in the end than they had reserved. */
  readonly owed: number
  /** How long a request for one token would wait; null: for ever. */
  readonly waitMs: number | null
  /** Until tokens arrive; null: it is full, or never refills. */
  readonly nextRefillMs: number | null
  /** All tokens that were taken since the bucket was made or reset. */
  readonly taken: number
  /** As the program that used it last sees them. */
  readonly options: {
    readonly refillAmount: number
    /** A bucket that refills continuously shows its finest step. */
    readonly refillFrequencyMs: number
    readonly initialTokens: number
    readonly expiryMs: number
    /** In ISO 8601. */
    readonly windowStartTime: string | null
  }
}

export interface HolderReport {
  readonly id: string
  readonly permits: number
  readonly fencingToken: number
  /** Since when it holds. */
  readonly heldMs: number
  /** It is dropped then, unless its process renews the lease. */
  readonly leaseLeftMs: number
}

export interface WaiterReport {
  readonly id: string
  readonly permits: number
  readonly waitingMs: number
  /** It is forgotten then, unless its process renews the lease. */
  readonly leaseLeftMs: number
}

export interface SemaphoreReport extends Identity {
  readonly kind: "semaphore"
  /** Null if nobody holds or waits: then no program says it. */
  readonly capacity: number | null
  /** Whether `resize` set the capacity, whatever the programs say. */
  readonly resized: boolean
  /** Different capacities that programs ask with. More than one: they disagree, and each request counts by its own. */
  readonly ownCapacities: ReadonlyArray<number>
  readonly inUse: number
  readonly waiting: number
  /** In order of their grants. */
  readonly holders: ReadonlyArray<HolderReport>
  /** In order of the queue. */
  readonly waiters: ReadonlyArray<WaiterReport>
}

export type LimiterReport = BucketReport | SemaphoreReport
