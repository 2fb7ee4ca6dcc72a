/**
 * A small picture of how something went: one character for each value, the highest of which fills it.
 */
const heights = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]

/** The last values, as many as there are columns; what is nothing is left out. */
export const sparkLine = (values: ReadonlyArray<number>, columns: number): string => {
  const shown = columns > 0 ? values.slice(-columns) : []
  const highest = Math.max(...shown, 0)
  return shown
    .map((value) => (value > 0 ? (heights[Math.ceil((value / highest) * heights.length) - 1] ?? "█") : " "))
    .join("")
    .padStart(columns)
}
