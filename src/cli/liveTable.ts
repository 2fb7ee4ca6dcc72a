/**
 * The table of `top` in a terminal, as it changes, until somebody has seen enough.
 */
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Terminal from "effect/Terminal"
import { Limiters } from "./limiters.ts"
import type { LimiterWatch } from "./limiterWatch.ts"
import { quoted } from "./named.ts"
import { type Order, orders, sorted } from "./order.ts"
import type { Overview } from "./overview.ts"
import { overviewLines } from "./render/overviewLines.ts"
import { counted, printable } from "./render/quantities.ts"
import { borrowScreen } from "./render/screen.ts"
import { bad, cut, emptyLine, faint, type Line, plain, strong } from "./render/text.ts"

/** Lines besides the rows: the title, the heads, and what stands below. */
const linesAround = 5

interface Options {
  readonly watch: LimiterWatch
  readonly order: Order
  /** How often it looks. */
  readonly every: Effect.Effect<void>
}

/** What is on the screen, and what keys change of it. */
interface Table {
  overview: Overview | undefined
  /** Why there is nothing newer. */
  trouble: string | undefined
  order: Order
  firstRow: number
}

export const liveTable = Effect.fnUntraced(function* ({ watch, order, every }: Options) {
  const { redis, prefix } = yield* Limiters
  const terminal = yield* Terminal.Terminal
  const { canColor, canPrompt } = yield* TerminalCapabilities
  const draw = yield* borrowScreen(terminal, canColor)
  const table: Table = { overview: undefined, trouble: undefined, order, firstRow: 0 }

  const redraw = Effect.gen(function* () {
    const [columns, rows] = yield* Effect.all([terminal.columns, terminal.rows])
    const title = [strong("steindamm top"), plain(`  ${redis}  `), faint(quoted(prefix))]
    yield* draw(picture(table, watch, title, { columns, rows }).map((line) => cut(line, columns)))
  })

  const looking = Effect.gen(function* () {
    const looked = yield* Effect.result(watch.look)
    if (looked._tag === "Success") {
      table.overview = looked.success
      table.trouble = undefined
    } else table.trouble = printable(looked.failure.message)
    yield* redraw
    yield* every
  })

  const resizing = Effect.flatMap(terminal.size, (sizes) =>
    Effect.forever(Effect.andThen(Queue.take(sizes), redraw)).pipe(Effect.catch(() => Effect.never))
  )

  /** Ends with `q`, Escape, or whatever ends the input, as Ctrl-C does. */
  const following = Effect.flatMap(terminal.readInput, (inputs) => {
    const next: Effect.Effect<void, unknown> = Effect.flatMap(Queue.take(inputs), ({ key }) => {
      if (key.name === "q" || key.name === "escape") return Effect.void
      return Effect.flatMap(terminal.rows, (rows) => {
        press(table, key.name, pageOf(rows))
        return Effect.andThen(redraw, next)
      })
    })
    return Effect.ignore(next)
  })

  yield* Effect.raceAllFirst([Effect.forever(looking), resizing, canPrompt ? following : Effect.never])
}, Effect.scoped)

/** Rows of the table that there is room for. */
const pageOf = (rows: number): number => Math.max(1, rows - linesAround)

const press = (table: Table, key: string, page: number): void => {
  const steps: Record<string, number> = {
    up: -1,
    k: -1,
    down: 1,
    j: 1,
    pageup: -page,
    pagedown: page,
    space: page,
    home: Number.NEGATIVE_INFINITY,
    end: Number.POSITIVE_INFINITY
  }
  table.firstRow += steps[key] ?? 0
  if (key === "s") {
    table.order = orders[(orders.indexOf(table.order) + 1) % orders.length] ?? "name"
    table.firstRow = 0
  }
}

const picture = (table: Table, watch: LimiterWatch, title: Line, size: Terminal.Size): ReadonlyArray<Line> => {
  const { overview, trouble, order } = table
  if (overview === undefined) return [title, emptyLine, trouble === undefined ? [faint("Looking …")] : [bad(trouble)]]
  const rows = sorted(overview.rows, order)
  const page = pageOf(size.rows)
  table.firstRow = Math.max(0, Math.min(table.firstRow, rows.length - page))
  // Heads and widths are those of all rows, so that nothing moves when the table is scrolled.
  const [heads = emptyLine, ...lines] = overviewLines(rows, {
    columns: size.columns,
    ratesOf: (row) => watch.ratesOf(row)
  })
  const shown = lines.slice(table.firstRow, table.firstRow + page)
  return [
    title,
    emptyLine,
    ...(rows.length === 0 ? [[faint("No limiter is in use.")]] : [heads, ...shown]),
    emptyLine,
    trouble === undefined ? footer(overview, order, table.firstRow, shown.length) : [bad(trouble)]
  ]
}

const footer = ({ rows, isCut }: Overview, order: Order, firstRow: number, shown: number): Line => {
  const part =
    shown < rows.length
      ? `${firstRow + 1}–${firstRow + shown} of ${counted(rows.length, "limiter")}`
      : counted(rows.length, "limiter")
  return [
    plain(part),
    ...(isCut ? [bad("  there may be more, see --limit and --name")] : []),
    faint(`  sorted by ${order}   q quits  s sorts${shown < rows.length ? "  ↑ ↓ scroll" : ""}`)
  ]
}
