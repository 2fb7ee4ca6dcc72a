/**
 * `steindamm reset NAME`: has a limiter start anew, once that is confirmed.
 */

import * as Console from "effect/Console"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import { Limiters } from "./limiters.ts"
import { kindFlag, limiterNamed, nameInput, nounOf, quoted } from "./named.ts"
import { print } from "./output.ts"
import { misuse, problem } from "./problem.ts"
import { amount, counted } from "./render/quantities.ts"
import { plain } from "./render/text.ts"
import type { LimiterReport } from "./report.ts"
import { limitersOfOptions, steindamm, switchFlag } from "./steindamm.ts"

export const reset = Command.make(
  "reset",
  { ...nameInput, kind: kindFlag, yes: switchFlag("yes", "Don't ask first").pipe(Flag.withAlias("y")) },
  Effect.fnUntraced(function* ({ yes, ...names }) {
    const limiters = yield* Limiters
    const { redis, prefix } = limiters
    const { limiter, report } = yield* limiterNamed(names)
    if (!yes) yield* confirmed(report)
    yield* limiters.reset(limiter)
    const { kind, name, tag } = report
    yield* print({ redis, prefix, kind, name, tag, reset: true }, [
      [plain(`Reset: ${nounOf[kind]} ${quoted(name)} starts anew.`)]
    ])
  })
).pipe(
  Command.withDescription(
    "Have a limiter start anew: a token bucket with its initial tokens, a semaphore with nobody holding or waiting and the capacity that its programs say. Who held a permit is interrupted with PermitLost, who waited asks again."
  ),
  Command.withShortDescription("Have a limiter start anew; asks first"),
  Command.provide(limitersOfOptions)
)

/** What is lost by it. */
const consequence = (report: LimiterReport): string => {
  if (report.kind === "token-bucket") {
    const { options, tokens, owed } = report
    return `It holds ${amount(tokens - owed)} tokens now, and will hold ${amount(options.initialTokens)}.`
  }
  const { inUse, waiting } = report
  return `${counted(inUse, "permit")} in use will be lost, and ${counted(waiting, "waiter")} will have to ask again.`
}

const confirmed = Effect.fnUntraced(function* (report: LimiterReport) {
  const { canPrompt } = yield* TerminalCapabilities
  const { json } = yield* steindamm
  if (json || !canPrompt) return yield* misuse("reset asks first, and here nobody can be asked: say --yes")
  const question = `${consequence(report)} Reset ${nounOf[report.kind]} ${quoted(report.name)}?`
  // Who answers with Ctrl-C has ended the command.
  const isSure = yield* Effect.catchTag(Prompt.run(Prompt.Confirm({ message: question })), "QuitError", () =>
    Effect.andThen(Console.error(""), Effect.interrupt)
  )
  if (!isSure) return yield* problem("Nothing was reset")
})
