/**
 * One run through the work, as far as it has come. Moments are seconds since the run began.
 */

/** How a piece of work ended. */
export type Outcome = "good" | "bad"

/** A piece of work that its limiter let through. */
export interface Admission {
  readonly at: number
  readonly outcome: Outcome | undefined
}

/** How much work was under way from a moment on. */
export interface Level {
  readonly at: number
  readonly inFlight: number
}

export interface Run {
  readonly phase: "next" | "running" | "over"
  readonly total: number
  /** Up to now, or to the end. */
  readonly elapsed: number
  readonly good: number
  readonly bad: number
  readonly waiting: number
  readonly inFlight: number
  readonly peakInFlight: number
  readonly longestWait: number
  /** The longest that a piece of work took once it was let through. */
  readonly slowest: number
  readonly admissions: ReadonlyArray<Admission>
  readonly levels: ReadonlyArray<Level>
}

export const done = (run: Run): number => run.good + run.bad

export const lastAdmission = (run: Run): number => run.admissions.at(-1)?.at ?? 0
