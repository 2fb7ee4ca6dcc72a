/**
 * Styled text, one line at a time. Every character that the demo draws is one column wide.
 */

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

const columnsOf = (text: string): number => [...text].length

export const width = (line: Line): number => line.reduce((sum, { text }) => sum + columnsOf(text), 0)

/** Cuts a line that is too wide, and says so by an ellipsis. */
export const cut = (line: Line, columns: number): Line => {
  if (width(line) <= columns) return line
  const kept: Array<Span> = []
  let left = columns - 1
  for (const { text, style } of line) {
    const characters = [...text].slice(0, Math.max(0, left))
    left -= characters.length
    if (characters.length > 0) kept.push({ text: characters.join(""), style })
  }
  return columns > 0 ? [...kept, faint("…")] : []
}

const codes: Record<Style, string> = { plain: "", strong: "1", faint: "2", good: "32", bad: "31", accent: "36" }

const ink = ({ text, style }: Span): string => (codes[style] === "" ? text : `\u001B[${codes[style]}m${text}\u001B[0m`)

export const toText = (line: Line, colour: boolean): string =>
  line.map((span) => (colour ? ink(span) : span.text)).join("")
