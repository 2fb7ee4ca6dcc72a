/**
 * Looks at all limiters again and again, and costs Redis little: for new ones it searches only now and then.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { LimiterAddress } from "../internal/limiterKeys.ts"
import { type Found, Limiters, type Search } from "./limiters.ts"
import { monotonicSeconds } from "./monotonic.ts"
import { type Overview, type Row, rowOf, unreadableRow } from "./overview.ts"
import type { Problem } from "./problem.ts"
import { RateHistory } from "./rateHistory.ts"
import { kindNameOf } from "./report.ts"

/** Seconds from one search to the next: at least these, and so many times as long as a search takes. */
const searchPause = 3
const pauseFactor = 20

/** Limiters that are asked about at a time. */
const concurrency = 32

const identityOf = ({ kind, name, tag }: LimiterAddress) => ({ kind: kindNameOf[kind], name, tag: tag ?? null })

const keyOf = ({ kind, name, tag }: Pick<Row, "kind" | "name" | "tag">): string => JSON.stringify([kind, name, tag])

export class LimiterWatch {
  private readonly limiters: Limiters["Service"]
  private readonly search: Search
  private found: Found = { limiters: [], isCut: false }
  private searchAt = 0
  private histories = new Map<string, RateHistory>()

  constructor(limiters: Limiters["Service"], search: Search) {
    this.limiters = limiters
    this.search = search
  }

  /** How a limiter's rate came about, the latest last. */
  ratesOf(row: Row): ReadonlyArray<number> {
    return this.histories.get(keyOf(row))?.rates ?? []
  }

  readonly look: Effect.Effect<Overview, Problem> = Effect.gen({ self: this }, function* () {
    yield* this.searchIfDue
    const histories = new Map<string, RateHistory>()
    const rows = yield* Effect.forEach(
      this.found.limiters,
      (limiter) =>
        Effect.gen({ self: this }, function* () {
          const identity = identityOf(limiter)
          const result = yield* Effect.result(this.limiters.report(limiter))
          if (Result.isFailure(result)) {
            if (!result.failure.isLocal) return yield* result.failure
            return [unreadableRow(identity, result.failure.message)]
          }
          const report = result.success
          if (report === undefined) return []
          const history = this.histories.get(keyOf(identity)) ?? new RateHistory()
          history.observe(yield* monotonicSeconds, report)
          histories.set(keyOf(identity), history)
          return [rowOf(report, history.rate)]
        }),
      { concurrency }
    )
    this.histories = histories
    return { rows: rows.flat(), isCut: this.found.isCut }
  })

  private readonly searchIfDue = Effect.gen({ self: this }, function* () {
    const begun = yield* monotonicSeconds
    if (begun < this.searchAt) return
    this.found = yield* this.limiters.find(this.search)
    const ended = yield* monotonicSeconds
    this.searchAt = ended + Math.max(searchPause, pauseFactor * (ended - begun))
  })
}

export const makeLimiterWatch = (search: Search): Effect.Effect<LimiterWatch, never, Limiters> =>
  Effect.map(Limiters, (limiters) => new LimiterWatch(limiters, search))
