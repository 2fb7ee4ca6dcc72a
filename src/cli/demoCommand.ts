/**
 * `steindamm demo`: shows at work what a limiter does.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { flags } from "./demo/settings.ts"
import { misuse, Problem, problem } from "./problem.ts"
import { steindamm } from "./steindamm.ts"

export const demoCommand = Command.make(
  "demo",
  flags,
  Effect.fnUntraced(function* (settings) {
    const { json } = yield* steindamm
    if (json) return yield* misuse("demo draws what happens, and has no JSON document")
    // The other commands start sooner without an HTTP server and client.
    const { demo } = yield* Effect.promise(() => import("./demo/demo.ts"))
    yield* Effect.mapError(demo(settings), (error) => (error instanceof Problem ? error : problem(error.message)))
  })
).pipe(
  Command.withDescription(
    "Does the same work without a limiter and with one, and draws what happens. The limiters live in memory, or in Redis if --redis is given."
  ),
  Command.withShortDescription("See what a limiter does")
)
