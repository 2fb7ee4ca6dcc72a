/**
 * The whole screen of a terminal, borrowed: what stood there before comes back, with the cursor, whatever happens.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Terminal } from "effect/Terminal"
import { type Line, toText } from "./text.ts"

const csi = "\u001B["

const enter = `${csi}?1049h${csi}?25l`
const leave = `${csi}?25h${csi}?1049l`

/** Terminals that know it show what comes between the two at once. */
const beginUpdate = `${csi}?2026h${csi}H`
const endUpdate = `${csi}J${csi}?2026l`

/** Gives what draws a picture in the place of the last. A line that is wider than the screen must have been cut. */
export const borrowScreen = (
  terminal: Terminal,
  colour: boolean
): Effect.Effect<(lines: ReadonlyArray<Line>) => Effect.Effect<void>, never, Scope.Scope> => {
  const write = (text: string) => Effect.ignore(terminal.display(text))
  return Effect.as(
    Effect.acquireRelease(write(enter), () => write(leave)),
    (lines) => write(`${beginUpdate}${lines.map((line) => `${toText(line, colour)}${csi}K`).join("\n")}${endUpdate}`)
  )
}
