/**
 * How much a limiter lets through, from one look at it to the next.
 */
import type { LimiterReport } from "./report.ts"

/** The rate is told over so many seconds. */
const window = 5

/** So many looks are remembered. */
const remembered = 120

interface Step {
  /** Seconds since the look before. */
  readonly seconds: number
  readonly passed: number
}

/** Of a bucket all that was ever taken; of a semaphore the newest grant that is still held. */
const mark = (report: LimiterReport): number =>
  report.kind === "token-bucket" ? report.taken : Math.max(0, ...report.holders.map(({ fencingToken }) => fencingToken))

const passedSince = (before: number, report: LimiterReport): number => {
  if (report.kind === "semaphore") {
    return report.holders.reduce((sum, { fencingToken, permits }) => sum + (fencingToken > before ? permits : 0), 0)
  }
  // Less than before: it was reset, or something was given back.
  return Math.max(0, report.taken - before)
}

export class RateHistory {
  private at = 0
  private mark: number | undefined
  private steps: ReadonlyArray<Step> = []

  /** `at` in seconds. */
  observe(at: number, report: LimiterReport): void {
    if (this.mark !== undefined && at > this.at) {
      const step = { seconds: at - this.at, passed: passedSince(this.mark, report) }
      this.steps = [...this.steps.slice(1 - remembered), step]
    }
    this.at = at
    // Grants are numbered in their order, and a semaphore with fewer holders has seen no fewer grants.
    this.mark = report.kind === "semaphore" ? Math.max(this.mark ?? 0, mark(report)) : mark(report)
  }

  /** Over the last seconds; null after the first look. */
  get rate(): number | null {
    let seconds = 0
    let passed = 0
    for (const step of this.steps.toReversed()) {
      if (seconds + step.seconds > window && seconds > 0) break
      seconds += step.seconds
      passed += step.passed
    }
    return seconds > 0 ? passed / seconds : null
  }

  /** From one look to the next, the latest last. */
  get rates(): ReadonlyArray<number> {
    return this.steps.map(({ seconds, passed }) => passed / seconds)
  }
}
