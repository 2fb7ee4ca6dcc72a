/**
 * The demo: makes its limiters, plays the scenarios, sums up.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type { SemaphoreLimiter } from "../../Semaphore.ts"
import type { TokenBucketLimiter } from "../../TokenBucket.ts"
import { emptyLine, plain } from "../render/text.ts"
import { backend } from "./backend.ts"
import { Display } from "./display.ts"
import { summaryLines } from "./render/summary.ts"
import { number } from "./render/units.ts"
import { makeQueryLimiter, semaphoreScenario } from "./semaphoreScenario.ts"
import type { Settings } from "./settings.ts"
import { makeCallLimiter, tokenBucketScenario } from "./tokenBucketScenario.ts"

/** Every run has limiters of its own, which start full, wherever they live. */
const freshName = Effect.map(Random.nextIntBetween(36 ** 3, 36 ** 4), (number) => `demo/${number.toString(36)}`)

const play = Effect.fnUntraced(function* (settings: Settings) {
  const display = yield* Display
  const name = yield* freshName
  const calls = yield* makeCallLimiter(name, settings)
  const queries = yield* makeQueryLimiter(name, settings)

  const chosen = [
    ...(settings.scenario === "semaphore" ? [] : [tokenBucketScenario(settings, calls)]),
    ...(settings.scenario === "token-bucket" ? [] : [semaphoreScenario(settings, queries)])
  ]
  const scenarios = Effect.gen(function* () {
    const summaries = yield* Effect.all(chosen)
    for (const summary of summaries) yield* display.print([...summaryLines(summary), emptyLine])
  })
  yield* Effect.onInterrupt(scenarios, () => Effect.ignore(sayWhatIsLeft(calls, queries)))
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

export const demo = (settings: Settings) => Effect.provide(play(settings), Layer.merge(backend, Display.layer))
