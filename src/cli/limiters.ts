/**
 * The limiters that a Redis knows, as the commands see them.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { LimiterAddress } from "../internal/limiterKeys.ts"
import type { Problem } from "./problem.ts"
import type { LimiterReport } from "./report.ts"

export interface Found {
  /** In order of their names. */
  readonly limiters: ReadonlyArray<LimiterAddress>
  /** There may be more: the search ended at its bounds. */
  readonly isCut: boolean
}

export interface Search {
  readonly accepts: (limiter: LimiterAddress) => boolean
  /** Enough of them. */
  readonly most: number
}

export class Limiters extends Context.Service<
  Limiters,
  {
    /** Without credentials. */
    readonly redis: string
    readonly prefix: string
    /** Looks through the keys of every primary, a bounded number of them in a bounded number of steps. */
    readonly find: (search: Search) => Effect.Effect<Found, Problem>
    /** Undefined if Redis remembers nothing of it. */
    readonly report: (limiter: LimiterAddress) => Effect.Effect<LimiterReport | undefined, Problem>
    /** Takes the permits of a holder away, tells its process, and wakes who is next; false if nobody holds by that id. */
    readonly revoke: (limiter: LimiterAddress, id: string) => Effect.Effect<boolean, Problem>
    /** Sets the capacity of a semaphore for everyone; 0: what each program says. */
    readonly resize: (limiter: LimiterAddress, capacity: number) => Effect.Effect<void, Problem>
    /** False if Redis remembers nothing of it. */
    readonly reset: (limiter: LimiterAddress) => Effect.Effect<boolean, Problem>
  }
>()("steindamm/cli/Limiters") {}
