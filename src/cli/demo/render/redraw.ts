/**
 * Puts one picture in the place of another: the cursor goes up to where the last one began, and each line erases only
 * what is left behind it. So nothing flickers, and what stood above stays.
 */
import { type Line, toText, width } from "../../render/text.ts"

const csi = "\u001B["

export const hideCursor = `${csi}?25l`
export const showCursor = `${csi}?25h`

/** Terminals that know it show what comes between the two at once. */
const beginUpdate = `${csi}?2026h`
const endUpdate = `${csi}?2026l`
const eraseToEndOfLine = `${csi}K`
const eraseBelow = `${csi}J`

/** How many rows lines take in a terminal that wraps them, because it has become narrower. */
export const rowsTaken = (lines: ReadonlyArray<Line>, columns: number): number =>
  lines.reduce((rows, line) => rows + Math.max(1, Math.ceil(width(line) / Math.max(1, columns))), 0)

export const redraw = (
  last: ReadonlyArray<Line>,
  next: ReadonlyArray<Line>,
  options: { readonly columns: number; readonly colour: boolean }
): string => {
  const rows = rowsTaken(last, options.columns)
  const up = rows === 0 ? "" : `${csi}${rows}A`
  const lines = next.map((line) => `${toText(line, options.colour)}${eraseToEndOfLine}\n`)
  return `${beginUpdate}\r${up}${lines.join("")}${eraseBelow}${endUpdate}`
}
