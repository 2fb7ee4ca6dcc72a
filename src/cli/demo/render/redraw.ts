/**
 * Puts one picture in the place of another: the cursor goes up to where the last one began, and each line erases only
 * what is left behind it. So nothing flickers, and what stood above stays.
 */
import { beginUpdate, endUpdate, eraseBelow, eraseToEndOfLine, goUp } from "../../render/escapes.ts"
import { type Line, toText, width } from "../../render/text.ts"

/** How many rows lines take in a terminal that wraps them, because it has become narrower. */
export const rowsTaken = (lines: ReadonlyArray<Line>, columns: number): number =>
  lines.reduce((rows, line) => rows + Math.max(1, Math.ceil(width(line) / Math.max(1, columns))), 0)

export const redraw = (
  last: ReadonlyArray<Line>,
  next: ReadonlyArray<Line>,
  options: { readonly columns: number; readonly colour: boolean }
): string => {
  const up = goUp(rowsTaken(last, options.columns))
  const lines = next.map((line) => `${toText(line, options.colour)}${eraseToEndOfLine}\n`)
  return `${beginUpdate}\r${up}${lines.join("")}${eraseBelow}${endUpdate}`
}
