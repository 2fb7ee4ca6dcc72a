/**
 * A run as bars over time.
 */
import type { Bar } from "./render/plot.ts"
import type { Run } from "./run.ts"

/** What the bars of a scenario show. */
export type Timeline = (run: Run, slot: number) => ReadonlyArray<Bar>

const slotsSoFar = (run: Run, slot: number): number => (run.phase === "next" ? 0 : Math.floor(run.elapsed / slot) + 1)

/** Admissions a second in slots of `slot` seconds. What is under way counts as good until it is known to be bad. */
export const admissionsPerSecond: Timeline = (run, slot) => {
  const bars = Array.from({ length: slotsSoFar(run, slot) }, () => ({ good: 0, bad: 0 }))
  for (const { at, outcome } of run.admissions) {
    const bar = bars[Math.floor(at / slot)]
    if (bar !== undefined) bar[outcome ?? "good"] += 1 / slot
  }
  return bars
}

/** The most that was in flight at once in each slot; bad is what exceeds the limit. */
export const mostInFlight =
  (limit: number): Timeline =>
  (run, slot) => {
    const most = Array.from({ length: slotsSoFar(run, slot) }, () => 0)
    let current = 0
    let next = 0
    for (const slotIndex of most.keys()) {
      let highest = current
      for (; next < run.levels.length; next++) {
        const level = run.levels[next]
        if (level === undefined || level.at >= (slotIndex + 1) * slot) break
        current = level.inFlight
        highest = Math.max(highest, current)
      }
      most[slotIndex] = highest
    }
    return most.map((level) => ({ good: Math.min(level, limit), bad: Math.max(0, level - limit) }))
  }
