/**
 * A language model that allows so many tokens a minute: estimate before the call, settle after it.
 *
 * Nobody knows beforehand how many tokens an answer takes. Each call takes an estimate from the budget, and once its
 * answer is there, returns what it didn't use or is charged with what it used beyond.
 *
 *     npx node --conditions steindamm-source examples/llm-token-budget.ts
 */
import { Clock, Console, Effect } from "effect"
import { LocalLive, TokenBucket } from "steindamm"

/** The model, which isn't one. What it uses is known only afterwards. */
const complete = (prompt: string) =>
  Effect.as(Effect.sleep("50 millis"), { answer: prompt.toUpperCase(), usedTokens: prompt.length * 20 })

const estimate = (prompt: string): number => 400 + prompt.length

const program = Effect.gen(function* () {
  // A thousand tokens every two seconds, lest the example take minutes.
  const budget = yield* TokenBucket.make({
    name: "model",
    capacity: 1000,
    refillAmount: 1000,
    refillFrequency: "2 seconds",
    refill: "continuous"
  })
  const begun = yield* Clock.currentTimeMillis

  const ask = (prompt: string) =>
    Effect.scoped(
      Effect.gen(function* () {
        const permit = yield* budget.acquire(estimate(prompt))
        const { answer, usedTokens } = yield* complete(prompt)
        yield* permit.settle(usedTokens)
        const elapsed = (yield* Clock.currentTimeMillis) - begun
        const { tokens } = yield* budget.state
        yield* Console.log(
          `${(elapsed / 1000).toFixed(1)} s  ${answer}: estimated ${permit.tokens}, used ${usedTokens}, ${Math.floor(tokens)} left`
        )
      })
    )

  yield* Effect.forEach(
    ["hi", "how are you", "what is a token bucket, and who invented it", "thanks", "bye"],
    (prompt) => ask(prompt),
    { concurrency: "unbounded" }
  )
})

await Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
