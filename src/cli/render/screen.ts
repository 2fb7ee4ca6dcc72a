/**
 * The whole screen of a terminal, borrowed: what stood there before comes back, with the cursor, whatever happens.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Terminal } from "effect/Terminal"
import {
  beginUpdate,
  endUpdate,
  enterScreen,
  eraseBelow,
  eraseToEndOfLine,
  goHome,
  hideCursor,
  leaveScreen,
  showCursor
} from "./escapes.ts"
import { type Line, toText } from "./text.ts"

/** Gives what draws a picture in the place of the last. A line that is wider than the screen must have been cut. */
export const borrowScreen = (
  terminal: Terminal,
  colour: boolean
): Effect.Effect<(lines: ReadonlyArray<Line>) => Effect.Effect<void>, never, Scope.Scope> => {
  const write = (text: string) => Effect.ignore(terminal.display(text))
  return Effect.as(
    Effect.acquireRelease(write(enterScreen + hideCursor), () => write(showCursor + leaveScreen)),
    (lines) => {
      const drawn = lines.map((line) => toText(line, colour) + eraseToEndOfLine).join("\n")
      return write(beginUpdate + goHome + drawn + eraseBelow + endUpdate)
    }
  )
}
