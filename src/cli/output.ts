/**
 * What a command prints when it is done: lines for a person, or one document for a program.
 */

import * as Console from "effect/Console"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import { type Line, toText } from "./render/text.ts"
import { steindamm } from "./steindamm.ts"

const printLines = Effect.fnUntraced(function* (lines: ReadonlyArray<Line>) {
  const { canColor } = yield* TerminalCapabilities
  yield* Console.log(lines.map((line) => toText(line, canColor).trimEnd()).join("\n"))
})

/** As the option `--json` says. */
export const print = Effect.fnUntraced(function* (document: unknown, lines: ReadonlyArray<Line>) {
  const { json } = yield* steindamm
  yield* json ? Console.log(JSON.stringify(document, undefined, 2)) : printLines(lines)
})
