/**
 * Small horizontal meters: how much of the work is done, how many tokens are left or permits in use.
 */
import { accent, faint, type Line } from "../../render/text.ts"

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]

/** A bar that grows by eighths of a column. */
export const progressBar = (share: number, columns: number): Line => {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * columns * 8)
  const done = "█".repeat(Math.floor(filled / 8)) + eighths[filled % 8]
  return [accent(done), faint("·".repeat(columns - [...done].length))]
}

const mostPips = 10

/** One pip for each unit; for each few units where there are many. */
export const pips = (value: number, capacity: number): Line => {
  const count = Math.max(1, Math.min(mostPips, Math.ceil(capacity)))
  const filled = Math.min(count, Math.floor((Math.max(0, value) / capacity) * count))
  return [accent("▰".repeat(filled)), faint("▱".repeat(count - filled))]
}
