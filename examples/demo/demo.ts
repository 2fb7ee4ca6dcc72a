/**
 * The demo: makes its limiters, plays the scenarios, sums up.
 */
import { Effect } from "effect"
import type { SemaphoreLimiter, TokenBucketLimiter } from "steindamm"
import { emptyLine, plain } from "../../src/cli/render/text.ts"
import { Display } from "./display.ts"
import { summaryLines } from "./render/summary.ts"
import { number } from "./render/units.ts"
import { makeQueryLimiter, semaphoreScenario } from "./semaphoreScenario.ts"
import type { Settings } from "./settings.ts"
import { makeCallLimiter, tokenBucketScenario } from "./tokenBucketScenario.ts"

export const demo = Effect.fnUntraced(function* (settings: Settings) {
  const display = yield* Display
  const calls = yield* makeCallLimiter(settings)
  const queries = yield* makeQueryLimiter(settings)

  const chosen = [
    ...(settings.scenario === "semaphore" ? [] : [tokenBucketScenario(settings, calls)]),
    ...(settings.scenario === "token-bucket" ? [] : [semaphoreScenario(settings, queries)])
  ]
  const play = Effect.gen(function* () {
    const summaries = yield* Effect.all(chosen)
    for (const summary of summaries) yield* display.print([...summaryLines(summary), emptyLine])
  })
  yield* Effect.onInterrupt(play, () => Effect.ignore(sayWhatIsLeft(calls, queries)))
})

/** By then every scope has closed: the server is down, and whoever held or waited has let go. */
const sayWhatIsLeft = Effect.fnUntraced(function* (calls: TokenBucketLimiter, queries: SemaphoreLimiter) {
  const display = yield* Display
  const { tokens, capacity } = yield* calls.state
  const { held, waiting, capacity: permits } = yield* queries.state
  yield* display.print([
    [
      plain(
        `Interrupted: ${permits - held} of ${permits} permits free, ${waiting} waiting, ${number(tokens)} of ${capacity} tokens, server closed.`
      )
    ]
  ])
})
