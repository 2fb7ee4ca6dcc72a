/**
 * The table at the end of a scenario, in which the two runs stand beside each other.
 */

import { bad, faint, good, type Line, plain, type Span, strong } from "../../render/text.ts"
import type { Comparison } from "../comparison.ts"
import type { Run } from "../run.ts"

export interface Row {
  readonly name: string
  readonly without: Span
  readonly limited: Span
}

export interface Summary {
  readonly title: string
  readonly rows: ReadonlyArray<Row>
}

/** What both runs have. */
export const both = ({ without, limited }: Comparison, name: string, cell: (run: Run) => string): Row => ({
  name,
  without: plain(cell(without)),
  limited: plain(cell(limited))
})

/** What should be zero. */
export const failures = ({ without, limited }: Comparison, name: string): Row => {
  const cell = (run: Run) => (run.bad > 0 ? bad : good)(String(run.bad))
  return { name, without: cell(without), limited: cell(limited) }
}

/** What only a limiter has. */
export const ofLimiter = (name: string, cell: string): Row => ({ name, without: faint("–"), limited: plain(cell) })

const heads = ["without limiter", "with limiter"] as const

const right = (text: string, head: string) => `   ${text.padStart(head.length)}`

export const summaryLines = ({ title, rows }: Summary): Array<Line> => {
  const nameColumns = Math.max(title.length, ...rows.map(({ name }) => name.length))
  const [first, second] = heads
  const columns = nameColumns + right("", first).length + right("", second).length
  const aligned = ({ text, style }: Span, head: string): Span => ({ text: right(text, head), style })
  return [
    [plain(" "), strong(title.padEnd(nameColumns)), ...heads.map((head) => faint(right(head, head)))],
    [faint(` ${"─".repeat(columns)}`)],
    ...rows.map(({ name, without, limited }) => [
      plain(` ${name.padEnd(nameColumns)}`),
      aligned(without, first),
      aligned(limited, second)
    ])
  ]
}
