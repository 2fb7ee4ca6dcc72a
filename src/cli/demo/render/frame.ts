/**
 * The picture of a running scenario: both runs above each other on the same scales, and below them the limiter.
 */

import { accent, bad, cut, emptyLine, faint, good, type Line, plain, strong, width } from "../../render/text.ts"
import { done, type Run } from "../run.ts"
import type { View } from "../view.ts"
import { pips, progressBar } from "./meters.ts"
import { axisLine, type Bar, marginColumns, niceStep, plotLines, timeLine, topFor } from "./plot.ts"
import { number, seconds } from "./units.ts"

export interface Size {
  readonly columns: number
  readonly rows: number
}

const mostColumns = 110
const mostPlotRows = 9
const fewestPlotRows = 3

/** Lines of a frame besides the rows of its two plots. */
const linesBesidesPlots = 11

/** Rows of each plot so that the frame and the line below it fit; 0 leaves the plots out. */
const plotRowsFor = (rows: number): number => {
  const possible = Math.floor((rows - 1 - linesBesidesPlots) / 2)
  return possible < fewestPlotRows ? 0 : Math.min(mostPlotRows, possible)
}

const titleLine = ({ scene }: View): Line => [plain(" "), strong(scene.title), plain("   "), plain(scene.about)]

const legendLine = ({ scene }: View): Line => {
  const { title, good: well, bad: badly, mark } = scene.plot.legend
  return [faint(` ${title}   `), good("█"), faint(` ${well}   `), bad("▒"), faint(` ${badly}   ╌ ${mark}`)]
}

/** In a narrow terminal the bar and the time give way to the numbers. */
const runLine = (name: string, run: Run, { scene }: View, columns: number): Line => {
  const digits = String(run.total).length
  const count = (value: number) => String(value).padStart(digits)
  const counts: Line = [
    plain(`  ${count(done(run))}/${run.total}  `),
    good(count(run.good)),
    faint(` ${scene.good}  `),
    (run.bad > 0 ? bad : plain)(count(run.bad)),
    faint(` ${scene.bad}`)
  ]
  const time = faint((run.phase === "next" ? "" : seconds(run.elapsed)).padStart(8))
  const title = ` ${columns < 70 ? name.padEnd(8) : `${name} limiter`.padEnd(16)}`
  const bar = columns - title.length - width([...counts, time])
  return [
    (run.phase === "running" ? strong : plain)(title),
    ...(bar >= 4 ? progressBar(done(run) / run.total, bar) : []),
    ...counts,
    ...(bar >= 0 ? [time] : [])
  ]
}

const plots = (
  view: View,
  columns: number,
  rows: number
): { readonly upper: Array<Line>; readonly lower: Array<Line> } => {
  const { scene, without, limited } = view
  const plotColumns = columns - marginColumns
  const horizon = Math.ceil(Math.max(scene.expected, without.elapsed, limited.elapsed))
  const slot = niceStep(Math.max(scene.plot.finestSlot, horizon / plotColumns))
  const highest = (bars: ReadonlyArray<Bar>) => bars.reduce((most, bar) => Math.max(most, bar.good + bar.bad), 0)
  const upper = scene.plot.timeline(without, slot)
  const lower = scene.plot.timeline(limited, slot)
  const top = topFor(scene.plot.mark, Math.max(highest(upper), highest(lower)))
  const lines = (bars: ReadonlyArray<Bar>) => [
    ...plotLines({ bars, slots: horizon / slot, top, mark: scene.plot.mark, columns: plotColumns, rows }),
    axisLine(plotColumns)
  ]
  return { upper: lines(upper), lower: [...lines(lower), timeLine(horizon, plotColumns)] }
}

const gaugeLine = ({ gauge, without, limited }: View): Line => {
  const inFlight = (run: Run): Line => [plain("  in flight "), accent(String(run.inFlight))]
  if (limited.phase === "next") return [faint(" no limiter"), ...inFlight(without)]
  return [
    plain(` ${gauge.label} `),
    ...pips(gauge.value, gauge.capacity),
    plain(` ${number(gauge.value)}/${gauge.capacity}`),
    plain("  waiting "),
    accent(String(limited.waiting)),
    plain("  longest wait "),
    accent(seconds(limited.longestWait)),
    ...inFlight(limited)
  ]
}

/** A frame that fits the terminal, with one line and one column to spare for the cursor. */
export const frame = (view: View, size: Size): Array<Line> => {
  const columns = Math.max(0, Math.min(mostColumns, size.columns - 1))
  const rows = columns - marginColumns < 10 ? 0 : plotRowsFor(size.rows)
  const without = runLine("without", view.without, view, columns)
  const limited = runLine("with", view.limited, view, columns)
  const lines = (): Array<Line> => {
    if (rows === 0) return [titleLine(view), without, limited, gaugeLine(view)]
    const { upper, lower } = plots(view, columns, rows)
    return [
      titleLine(view),
      legendLine(view),
      emptyLine,
      without,
      ...upper,
      emptyLine,
      limited,
      ...lower,
      emptyLine,
      gaugeLine(view)
    ]
  }
  return lines()
    .slice(0, Math.max(1, size.rows - 1))
    .map((line) => cut(line, columns))
}
