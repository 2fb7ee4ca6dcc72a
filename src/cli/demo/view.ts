/**
 * All that the display knows of a scenario.
 */
import type { Run } from "./run.ts"
import type { Timeline } from "./timeline.ts"

/** What stays the same while a scenario runs. */
export interface Scene {
  readonly title: string
  readonly about: string
  /** "calls", "queries". */
  readonly work: string
  /** What a good end of a piece of work is called, and a bad one. */
  readonly good: string
  readonly bad: string
  readonly plot: {
    readonly timeline: Timeline
    /** Seconds that a bar stands for at least, so that it is smooth. */
    readonly finestSlot: number
    /** The value at which the dashed line runs: what the API grants, what the database bears. */
    readonly mark: number
    readonly legend: { readonly title: string; readonly good: string; readonly bad: string; readonly mark: string }
  }
  /** Seconds that the longer run should take. */
  readonly expected: number
}

/** What a limiter has left or in use. */
export interface Gauge {
  readonly label: string
  readonly value: number
  readonly capacity: number
}

export interface View {
  readonly scene: Scene
  readonly without: Run
  readonly limited: Run
  readonly gauge: Gauge
}
