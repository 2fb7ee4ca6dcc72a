/**
 * `steindamm release NAME ID`: takes the permits of a holder away.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Limiters } from "./limiters.ts"
import { nameInput, quoted, semaphoreNamed } from "./named.ts"
import { print } from "./output.ts"
import { type Problem, problem } from "./problem.ts"
import { plain } from "./render/text.ts"
import type { LimiterReport } from "./report.ts"
import { limitersOfOptions } from "./steindamm.ts"

export const release = Command.make(
  "release",
  {
    ...nameInput,
    id: Argument.String("id").pipe(Argument.withDescription("The holder's id, as inspect shows it"))
  },
  Effect.fnUntraced(function* ({ id, ...names }) {
    const { redis, prefix, revoke } = yield* Limiters
    const { limiter, report } = yield* semaphoreNamed(names)
    if (!(yield* revoke(limiter, id))) return yield* holdsNothing(report, id)
    const { kind, name, tag } = report
    yield* print({ redis, prefix, kind, name, tag, id, released: true }, [
      [plain(`Released: ${quoted(id)} holds nothing of semaphore ${quoted(name)} any more. Its process is told.`)]
    ])
  })
).pipe(
  Command.withDescription(
    "Take the permits of a holder away, and give them to who waits. The holder's work is interrupted with PermitLost: at once if its process has ever waited for this semaphore, otherwise when it next renews its lease."
  ),
  Command.withShortDescription("Take the permits of a holder away"),
  Command.provide(limitersOfOptions)
)

const holdsNothing = (report: LimiterReport, id: string): Effect.Effect<never, Problem> => {
  const waits = report.kind === "semaphore" && report.waiters.some((waiter) => waiter.id === id)
  const what = waits ? `${quoted(id)} waits, and holds nothing` : `Nobody holds by the id ${quoted(id)}`
  return Effect.fail(problem(`${what}: steindamm inspect shows who holds permits of semaphore ${quoted(report.name)}`))
}
