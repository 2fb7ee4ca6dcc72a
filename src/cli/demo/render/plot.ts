/**
 * A bar chart over time in characters: what went well stands below, what went wrong is stacked on top of it.
 */
import { bad, faint, good, type Line, plain, type Span } from "../../render/text.ts"

export interface Bar {
  readonly good: number
  readonly bad: number
}

export interface Plot {
  /** From the left, as far as time has come. */
  readonly bars: ReadonlyArray<Bar>
  /** How many bars the whole width stands for. */
  readonly slots: number
  /** The value at the upper edge. */
  readonly top: number
  /** The value at which a dashed line runs: what is allowed. */
  readonly mark: number
  readonly columns: number
  readonly rows: number
}

/** Columns that the numbers on the left take, their tick included. */
export const marginColumns = 6

const eighths = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇"]

/**
 * The upper edge: a few times the mark, so that the mark is a whole part of the height. What sticks out only a little
 * is cut off rather than that the scale moves.
 */
export const topFor = (mark: number, highest: number): number => mark * Math.max(3, Math.ceil(highest / mark - 0.5))

/** How high a bar is, in eighths of a row. What went wrong shows in whole rows, of another texture, at least one. */
const heights = ({ good, bad }: Bar, { top, rows }: Plot): { readonly good: number; readonly bad: number } => {
  const scaled = (value: number) => (Math.min(value, top) / top) * rows
  if (bad <= 0) {
    const height = Math.round(scaled(good) * 8)
    return { good: good > 0 ? Math.max(1, height) : 0, bad: 0 }
  }
  const below = Math.min(rows - 1, Math.round(scaled(good)))
  const whole = Math.min(rows, Math.max(below + 1, Math.round(scaled(good + bad))))
  return { good: below * 8, bad: (whole - below) * 8 }
}

const markRow = ({ mark, top, rows }: Plot): number => Math.max(0, Math.ceil((mark / top) * rows) - 1)

const margin = (label: string, tick: string): Span => faint(`${label.padStart(marginColumns - 2)} ${tick}`)

const cell = (plot: Plot, bar: Bar | undefined, row: number): Span => {
  const height = bar === undefined ? { good: 0, bad: 0 } : heights(bar, plot)
  const filled = height.good - row * 8
  if (filled >= 8) return good("█")
  if (filled > 0) return good(eighths[filled] ?? "")
  if (height.good + height.bad - row * 8 > 0) return bad("▒")
  return row === markRow(plot) ? faint("╌") : plain(" ")
}

/** Joins neighbours of one style. */
const joined = (cells: ReadonlyArray<Span>): Line =>
  cells.reduce<Array<Span>>((line, { text, style }) => {
    const last = line.at(-1)
    if (last === undefined || last.style !== style) line.push({ text, style })
    else line[line.length - 1] = { text: last.text + text, style }
    return line
  }, [])

/** The area of the chart from top to bottom, with numbers on the left. */
export const plotLines = (plot: Plot): Array<Line> => {
  const lines: Array<Line> = []
  for (let row = plot.rows - 1; row >= 0; row--) {
    const label = row === plot.rows - 1 ? plot.top : row === markRow(plot) ? plot.mark : undefined
    const cells = Array.from({ length: plot.columns }, (_, column) =>
      cell(plot, plot.bars[Math.floor((column * plot.slots) / plot.columns)], row)
    )
    lines.push([label === undefined ? margin("", "│") : margin(String(Math.round(label)), "┤"), ...joined(cells)])
  }
  return lines
}

export const axisLine = (columns: number): Line => [margin("0", "└"), faint("─".repeat(columns))]

const niceSteps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600]

/** The smallest handsome step that is not below `least`. */
export const niceStep = (least: number): number =>
  niceSteps.find((step) => step >= least) ?? 600 * Math.ceil(least / 600)

/** Seconds under the axis, far enough apart to be read. */
export const timeLine = (horizon: number, columns: number): Line => {
  const step = niceStep(Math.max(1, (horizon * 9) / columns))
  let text = ""
  for (let second = 0; second <= horizon; second += step) {
    const label = second === 0 ? "0 s" : String(second)
    const column = Math.min(Math.round((second / horizon) * columns), columns - label.length)
    text = text.padEnd(column) + label
  }
  return [plain(" ".repeat(marginColumns)), faint(text)]
}
