/**
 * Draws charts over time as SVG, once for light pages and once for dark ones.
 */

/** What a mark means; each theme has a colour for it. */
export type Ink = "text" | "muted" | "grid" | "level" | "start" | "wait" | "refused"

type Theme = Readonly<Record<Ink, string>>

/** By the suffix of the file. */
export const themes: Readonly<Record<"" | "-dark", Theme>> = {
  "": {
    text: "#1f2328",
    muted: "#59636e",
    grid: "#d1d9e0",
    level: "#0969da",
    start: "#1a7f37",
    wait: "#afb8c1",
    refused: "#cf222e"
  },
  "-dark": {
    text: "#f0f6fc",
    muted: "#9198a1",
    grid: "#3d444d",
    level: "#4493f8",
    start: "#3fb950",
    wait: "#656c76",
    refused: "#f85149"
  }
}

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

const rounded = (n: number): string => String(Math.round(n * 10) / 10)

/** A picture's marks, in colours that are chosen later. */
export class Drawing {
  readonly width = 760
  readonly height: number
  private readonly title: string
  private readonly marks: Array<string> = []

  constructor(title: string, height: number) {
    this.title = title
    this.height = height
  }

  text(
    x: number,
    y: number,
    words: string,
    {
      ink = "text",
      anchor = "start",
      bold = false
    }: { ink?: Ink; anchor?: "start" | "middle" | "end"; bold?: boolean } = {}
  ): void {
    const weight = bold ? ' font-weight="600"' : ""
    this.marks.push(
      `<text class="${ink}" x="${rounded(x)}" y="${rounded(y)}" text-anchor="${anchor}"${weight}>${escaped(words)}</text>`
    )
  }

  line(points: ReadonlyArray<readonly [x: number, y: number]>, ink: Ink, { width = 1, dashed = false } = {}): void {
    const path = points.map(([x, y], index) => `${index === 0 ? "M" : "L"}${rounded(x)} ${rounded(y)}`).join("")
    const dashes = dashed ? ' stroke-dasharray="4 4"' : ""
    this.marks.push(`<path class="${ink}-line" d="${path}" stroke-width="${width}"${dashes}/>`)
  }

  dot(x: number, y: number, ink: Ink, { hollow = false } = {}): void {
    const look = hollow ? `class="${ink}-line" stroke-width="1.5"` : `class="${ink}"`
    this.marks.push(`<circle ${look} cx="${rounded(x)}" cy="${rounded(y)}" r="${hollow ? 4 : 5}"/>`)
  }

  cross(x: number, y: number, ink: Ink): void {
    this.line(
      [
        [x - 4, y - 4],
        [x + 4, y + 4]
      ],
      ink,
      { width: 2 }
    )
    this.line(
      [
        [x - 4, y + 4],
        [x + 4, y - 4]
      ],
      ink,
      { width: 2 }
    )
  }

  area(x: number, y: number, width: number, height: number, ink: Ink): void {
    const [left, top, wide, high] = [x, y, width, height].map(rounded)
    this.marks.push(`<rect class="${ink}" opacity="0.3" x="${left}" y="${top}" width="${wide}" height="${high}"/>`)
  }

  toSvg(theme: Theme): string {
    const styles = Object.entries(theme).map(
      ([ink, colour]) => `.${ink}{fill:${colour}}.${ink}-line{stroke:${colour};fill:none;stroke-linejoin:round}`
    )
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${this.width} ${this.height}" width="${this.width}" height="${this.height}" font-family="-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif" font-size="13">`,
      `<title>${escaped(this.title)}</title>`,
      `<style>${styles.join("")}</style>`,
      ...this.marks,
      "</svg>\n"
    ].join("\n")
  }
}

/** A stretch of time, from left to right. */
export interface TimeAxis {
  readonly until: number
  readonly every: number
  readonly label: (time: number) => string
}

const left = 92
const right = 24

/** Where a moment is. */
export const across =
  ({ width }: Drawing, { until }: TimeAxis) =>
  (time: number): number =>
    left + (time / until) * (width - left - right)

const moments = ({ until, every }: TimeAxis): ReadonlyArray<number> =>
  Array.from({ length: Math.floor(until / every) + 1 }, (_, index) => index * every)

/** Marks moments from `top` to `bottom`. */
export const timeGrid = (drawing: Drawing, axis: TimeAxis, top: number, bottom: number): void => {
  const x = across(drawing, axis)
  for (const time of moments(axis))
    drawing.line(
      [
        [x(time), top],
        [x(time), bottom]
      ],
      "grid"
    )
}

/** The same, with labels below. */
export const timeAxis = (drawing: Drawing, axis: TimeAxis, top: number, bottom: number): void => {
  const x = across(drawing, axis)
  timeGrid(drawing, axis, top, bottom)
  for (const time of moments(axis)) {
    drawing.text(x(time), bottom + 18, axis.label(time), { ink: "muted", anchor: "middle" })
  }
}

/** Says, left of a row, what it is. */
export const rowLabel = (drawing: Drawing, y: number, words: string): void =>
  drawing.text(left - 14, y + 4.5, words, { ink: "muted", anchor: "end" })

/** A quantity from bottom to top. */
export interface LevelAxis {
  readonly least: number
  readonly most: number
  readonly marked: ReadonlyArray<number>
}

/** Draws a quantity over time as a line, with its axis between `top` and `bottom`; gives where a level is. */
export const levelChart = (
  drawing: Drawing,
  time: TimeAxis,
  { least, most, marked }: LevelAxis,
  top: number,
  bottom: number,
  history: ReadonlyArray<readonly [time: number, level: number]>
): ((level: number) => number) => {
  const x = across(drawing, time)
  const y = (level: number) => bottom - ((level - least) / (most - least)) * (bottom - top)
  for (const level of marked) {
    const ends: ReadonlyArray<readonly [number, number]> = [
      [x(0), y(level)],
      [x(time.until), y(level)]
    ]
    drawing.line(ends, level === 0 ? "muted" : "grid")
    rowLabel(drawing, y(level), String(level).replace("-", "−"))
  }
  drawing.line(
    history.map(([time, level]) => [x(time), y(level)]),
    "level",
    { width: 2 }
  )
  return y
}
