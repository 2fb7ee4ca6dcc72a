/**
 * All limiters at a glance, as `top` shows and `--json` prints them: durations are milliseconds, and null is what a kind
 * of limiter doesn't have or nobody knows.
 */
import type { KindName, LimiterReport } from "./report.ts"

export interface Row {
  readonly kind: KindName
  readonly name: string
  readonly tag: string | null
  readonly capacity: number | null
  /** Permits. */
  readonly inUse: number | null
  /** Requests for permits. */
  readonly waiting: number | null
  /** In the bucket, less those that are owed to who waits: below zero while anyone does. */
  readonly tokens: number | null
  /** How long a request for one token would wait; null for ever, and for a semaphore. */
  readonly waitMs: number | null
  readonly nextRefillMs: number | null
  /**
   * Tokens taken a second over the last seconds. Of permits, those that were granted and are still held when they are
   * looked at: at least so many were.
   */
  readonly ratePerSecond: number | null
  /** Why nothing is known of it; otherwise null. */
  readonly problem: string | null
}

export interface Overview {
  readonly rows: ReadonlyArray<Row>
  /** There may be more limiters: the search ended at its bounds. */
  readonly isCut: boolean
}

export const rowOf = (report: LimiterReport, ratePerSecond: number | null): Row => {
  const { kind, name, tag, capacity } = report
  const known = { kind, name, tag, capacity, ratePerSecond, problem: null }
  return report.kind === "semaphore"
    ? { ...known, inUse: report.inUse, waiting: report.waiting, tokens: null, waitMs: null, nextRefillMs: null }
    : {
        ...known,
        inUse: null,
        waiting: null,
        tokens: report.tokens - report.owed,
        waitMs: report.waitMs,
        nextRefillMs: report.nextRefillMs
      }
}

export const unreadableRow = (identity: Pick<Row, "kind" | "name" | "tag">, problem: string): Row => ({
  ...identity,
  capacity: null,
  inUse: null,
  waiting: null,
  tokens: null,
  waitMs: null,
  nextRefillMs: null,
  ratePerSecond: null,
  problem
})
