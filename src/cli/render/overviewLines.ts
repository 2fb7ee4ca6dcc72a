/**
 * The table of all limiters, as wide as there is room.
 */
import type { Row } from "../overview.ts"
import { amount, duration, perSecond, printable } from "./quantities.ts"
import { sparkLine } from "./sparkLine.ts"
import { type Column, gap, tableLines } from "./table.ts"
import { bad, cut, faint, good, type Line, plain, type Span, strong, width } from "./text.ts"

const nothing = faint("–")

const counted = (value: number | null): Span => (value === null ? nothing : plain(amount(value)))

/** A limiter without anything to spare is seen at once. */
const use = ({ inUse, capacity }: Row): Span => {
  if (inUse === null) return nothing
  return (capacity !== null && inUse >= capacity ? bad : good)(String(inUse))
}

const tokens = ({ tokens }: Row): Span =>
  tokens === null ? nothing : (tokens < 1 ? bad : good)(`${tokens < 0 ? "-" : ""}${amount(Math.abs(tokens))}`)

const waiting = ({ kind, waiting, waitMs }: Row): Span => {
  if (kind === "semaphore") return waiting === 0 ? nothing : bad(String(waiting))
  return waitMs === 0 ? nothing : bad(waitMs === null ? "for ever" : duration(waitMs))
}

const rate = ({ kind, ratePerSecond }: Row): Span => {
  if (ratePerSecond === null) return nothing
  return plain(`${kind === "semaphore" && ratePerSecond > 0 ? "≥ " : ""}${perSecond(ratePerSecond)}`)
}

const nameColumn = (most: number): Column<Row> => ({
  head: "name",
  most,
  cell: ({ name, problem }) => (problem === null ? strong : bad)(printable(name))
})

/** From the left; what is asked for last gives way first in a narrow terminal. */
const columns: ReadonlyArray<{ readonly column: Column<Row>; readonly rank: number }> = [
  { rank: 6, column: { head: "kind", cell: ({ kind }) => faint(kind === "semaphore" ? "semaphore" : "bucket") } },
  { rank: 4, column: { head: "capacity", align: "right", cell: ({ capacity }) => counted(capacity) } },
  { rank: 1, column: { head: "in use", align: "right", cell: use } },
  { rank: 2, column: { head: "waiting", align: "right", cell: waiting } },
  { rank: 1, column: { head: "tokens", align: "right", cell: tokens } },
  {
    rank: 5,
    column: {
      head: "next refill",
      align: "right",
      cell: ({ nextRefillMs }) => (nextRefillMs === null ? nothing : plain(duration(nextRefillMs)))
    }
  },
  { rank: 3, column: { head: "rate", align: "right", cell: rate } }
]

/** In the place of what nobody knows. */
const withProblem = (line: Line, problem: string | null | undefined): Line => {
  const [name] = line
  return name === undefined || problem === null || problem === undefined
    ? line
    : [name, plain(gap), bad(printable(problem))]
}

const longestName = 40
const shortestName = 12
const longestSpark = 30
const shortestSpark = 5

/** Heads and rows, cut to a width; spark lines where there is room for them. */
export const overviewLines = (
  rows: ReadonlyArray<Row>,
  options: { readonly columns: number; readonly ratesOf?: (row: Row) => ReadonlyArray<number> }
): ReadonlyArray<Line> => {
  const { ratesOf } = options
  const table = (rank: number, name: number) =>
    tableLines([nameColumn(name), ...columns.filter((one) => one.rank <= rank).map(({ column }) => column)], rows)
  let lines = table(6, longestName)
  for (let rank = 6; rank > 0 && width(lines[0] ?? []) > options.columns; rank--) lines = table(rank, shortestName)
  lines = lines.map((line, index) => withProblem(line, rows[index - 1]?.problem))
  const room = options.columns - width(lines[0] ?? []) - gap.length
  if (ratesOf === undefined || room < shortestSpark) return lines.map((line) => cut(line, options.columns))
  const spark = Math.min(longestSpark, room)
  return lines.map((line, index) => {
    const row = rows[index - 1]
    if (row !== undefined && row.problem !== null) return cut(line, options.columns)
    return [
      ...line,
      plain(gap),
      row === undefined ? faint("rate over time".slice(0, spark).padEnd(spark)) : plain(sparkLine(ratesOf(row), spark))
    ]
  })
}
