/**
 * Rows under their heads, in columns as wide as what they hold.
 */
import { fitted } from "./quantities.ts"
import { columnsOf, faint, type Line, plain, type Span } from "./text.ts"

export interface Column<in Row> {
  readonly head: string
  readonly align?: "left" | "right"
  /** Longer cells are cut. */
  readonly most?: number
  readonly cell: (row: Row) => Span
}

export const gap = "  "

export const tableLines = <Row>(columns: ReadonlyArray<Column<Row>>, rows: ReadonlyArray<Row>): Array<Line> => {
  const cells = rows.map((row) => columns.map(({ cell }) => cell(row)))
  const widths = columns.map(({ head, most = Number.POSITIVE_INFINITY }, index) =>
    Math.max(columnsOf(head), Math.min(most, Math.max(0, ...cells.map((row) => columnsOf(row[index]?.text ?? "")))))
  )
  const inColumn = (text: string, index: number) => fitted(text, widths[index] ?? 0, columns[index]?.align)
  const spaced = (line: Line): Line => line.flatMap((span, index) => (index === 0 ? [span] : [plain(gap), span]))
  return [
    spaced(columns.map(({ head }, index) => faint(inColumn(head, index)))),
    ...cells.map((row) => spaced(row.map(({ text, style }, index) => ({ text: inColumn(text, index), style }))))
  ]
}
