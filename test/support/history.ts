/**
 * What several processes did with one semaphore, written down as it happened, and what must be true of it.
 */
import { readFileSync } from "node:fs"

/**
 * One line of a process's history, or of the test's about a process. Moments are microseconds of the monotonic clock
 * that all processes of a machine share.
 */
export type Line = { readonly t: number; readonly pid: number } & (
  | {
      readonly event: "in"
      readonly id: string
      /** Which fiber of the process. */
      readonly worker: number
      readonly permits: number
      /** 0: the section was not told. */
      readonly fencingToken: number
      /** When it began to wait. */
      readonly asked: number
    }
  | { readonly event: "out"; readonly id: string }
  /** The section ended because its permit was lost; it wrote `out` before. */
  | { readonly event: "lost"; readonly id: string; readonly fencingToken: number }
  /** Nothing runs in the process until it is continued. */
  | { readonly event: "stopped" | "continued" | "killed" }
)

export interface Section {
  readonly id: string
  readonly pid: number
  readonly worker: number
  readonly permits: number
  readonly asked: number
  readonly start: number
  /** Infinity: it still runs. */
  readonly end: number
  readonly fencingToken: number
  readonly isLost: boolean
}

export interface Findings {
  readonly admissions: number
  /** The most permits whose sections ran at any moment. */
  readonly peak: number
  /** The longest time, in milliseconds, for which more permits were in use than there are. */
  readonly longestOverlap: number
  readonly lost: number
  readonly repeatedTokens: number
  /** Sections that asked after another had begun, and yet had the smaller fencing token. */
  readonly tokensOutOfOrder: number
  /** The longest time, in milliseconds, in which no section began. */
  readonly longestStall: number
  readonly unended: number
}

export const micros = (): number => Number(process.hrtime.bigint() / BigInt(1000))

export const readHistory = (file: string): ReadonlyArray<Line> =>
  readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line)

/** In order of their beginning. A section of a process that was killed ended then. */
export const sectionsOf = (lines: ReadonlyArray<Line>): ReadonlyArray<Section> => {
  const ends = new Map<string, number>()
  const deaths = new Map<number, number>()
  const lost = new Map<string, number>()
  for (const line of lines) {
    if (line.event === "out") ends.set(line.id, line.t)
    else if (line.event === "lost") lost.set(line.id, line.fencingToken)
    else if (line.event === "killed") deaths.set(line.pid, line.t)
  }
  return lines
    .flatMap((line): ReadonlyArray<Section> => {
      if (line.event !== "in") return []
      const { id, pid, worker, permits, asked, t: start } = line
      const death = deaths.get(pid)
      const end = ends.get(id) ?? (death === undefined ? Number.POSITIVE_INFINITY : Math.max(start, death))
      const fencingToken = line.fencingToken || (lost.get(id) ?? 0)
      return [{ id, pid, worker, permits, asked, start, end, fencingToken, isLost: lost.has(id) }]
    })
    .sort((a, b) => a.start - b.start)
}

/** When each process was stopped: from, to. */
const pausesOf = (lines: ReadonlyArray<Line>): ReadonlyMap<number, ReadonlyArray<readonly [number, number]>> => {
  const pauses = new Map<number, Array<readonly [number, number]>>()
  const since = new Map<number, number>()
  for (const { pid, event, t } of [...lines].sort((a, b) => a.t - b.t)) {
    if (event === "stopped") since.set(pid, t)
    if (event !== "continued") continue
    const from = since.get(pid)
    if (from !== undefined) pauses.set(pid, [...(pauses.get(pid) ?? []), [from, t]])
  }
  return pauses
}

/** Changes of the number of permits whose sections run: those of a stopped process don't. */
const changesOf = (lines: ReadonlyArray<Line>, sections: ReadonlyArray<Section>) => {
  const pauses = pausesOf(lines)
  const changes: Array<{ readonly t: number; readonly permits: number }> = []
  for (const { pid, start, end, permits } of sections) {
    let from = start
    const run = (to: number) => {
      if (to > from) changes.push({ t: from, permits }, { t: to, permits: -permits })
    }
    for (const [stopped, continued] of pauses.get(pid) ?? []) {
      if (continued <= from || stopped >= end) continue
      run(stopped)
      from = continued
    }
    run(end)
  }
  // Of two changes in one microsecond nobody knows the order.
  return changes.sort((a, b) => a.t - b.t || a.permits - b.permits)
}

const usage = (changes: ReturnType<typeof changesOf>, capacity: number) => {
  let inUse = 0
  let peak = 0
  let overSince: number | undefined
  let longestOverlap = 0
  for (const { t, permits } of changes) {
    inUse += permits
    peak = Math.max(peak, inUse)
    if (inUse > capacity) overSince ??= t
    else if (overSince !== undefined) {
      longestOverlap = Math.max(longestOverlap, (t - overSince) / 1000)
      overSince = undefined
    }
  }
  return { peak, longestOverlap }
}

const countOutOfOrder = (sections: ReadonlyArray<Section>): number => {
  const byAsked = [...sections].sort((a, b) => a.asked - b.asked)
  let begun = 0
  let greatest = 0
  let count = 0
  for (const { asked, fencingToken } of byAsked) {
    for (let next = sections[begun]; next !== undefined && next.start < asked; next = sections[++begun]) {
      greatest = Math.max(greatest, next.fencingToken)
    }
    if (fencingToken <= greatest) count++
  }
  return count
}

export const examine = (lines: ReadonlyArray<Line>, capacity: number): Findings => {
  const sections = sectionsOf(lines)
  const starts = sections.map(({ start }) => start)
  const stalls = starts.slice(1).map((start, index) => start - (starts[index] ?? start))
  const fenced = sections.filter(({ fencingToken }) => fencingToken > 0)
  return {
    admissions: sections.length,
    ...usage(changesOf(lines, sections), capacity),
    lost: sections.filter(({ isLost }) => isLost).length,
    repeatedTokens: fenced.length - new Set(fenced.map(({ fencingToken }) => fencingToken)).size,
    tokensOutOfOrder: countOutOfOrder(fenced),
    longestStall: Math.max(0, ...stalls) / 1000,
    unended: sections.filter(({ end }) => end === Number.POSITIVE_INFINITY).length
  }
}

/** Jain's index of fairness: 1 if all have the same, 1 / n if one of n has all. */
export const fairness = (shares: ReadonlyArray<number>): number => {
  const sum = shares.reduce((a, b) => a + b, 0)
  return sum ** 2 / (shares.length * shares.reduce((a, b) => a + b ** 2, 0))
}
