/**
 * Styled text, one line at a time.
 */
import { displayWidth } from "effect/cli/CliOutput"
import { inked } from "./escapes.ts"

export type Style = "plain" | "strong" | "faint" | "good" | "bad" | "accent"

export interface Span {
  readonly text: string
  readonly style: Style
}

export type Line = ReadonlyArray<Span>

const styled =
  (style: Style) =>
  (text: string): Span => ({ text, style })

export const plain = styled("plain")
export const strong = styled("strong")
export const faint = styled("faint")
export const good = styled("good")
export const bad = styled("bad")
export const accent = styled("accent")

export const emptyLine: Line = []

/** Characters that are known to be one column wide, and stand alone. */
const simple = /^[ -\u02FF\u2010-\u2027\u2190-\u2193\u2260-\u2265\u2500-\u25B1]*$/

/** How many columns a text takes in a terminal. */
export const columnsOf = (text: string): number => (simple.test(text) ? text.length : displayWidth(text))

const graphemes = new Intl.Segmenter()

/** As much of the beginning as fits. */
export const beginning = (text: string, columns: number): string => {
  if (columnsOf(text) <= columns) return text
  let kept = ""
  let left = columns
  for (const { segment } of graphemes.segment(text)) {
    left -= columnsOf(segment)
    if (left < 0) break
    kept += segment
  }
  return kept
}

export const width = (line: Line): number => line.reduce((sum, { text }) => sum + columnsOf(text), 0)

/** Cuts a line that is too wide, and says so by an ellipsis. */
export const cut = (line: Line, columns: number): Line => {
  if (width(line) <= columns) return line
  const kept: Array<Span> = []
  let left = columns - 1
  for (const { text, style } of line) {
    const shown = beginning(text, Math.max(0, left))
    if (shown !== "") kept.push({ text: shown, style })
    if (shown !== text) break
    left -= columnsOf(shown)
  }
  return columns > 0 ? [...kept, faint("…")] : []
}

const codes: Record<Style, string> = { plain: "", strong: "1", faint: "2", good: "32", bad: "31", accent: "36" }

export const toText = (line: Line, colour: boolean): string =>
  line.map(({ text, style }) => (colour ? inked(text, codes[style]) : text)).join("")
