/**
 * A token bucket as a child would build it: tokens in a jar, which are counted one refill after the other.
 */
import type { Rules } from "../../src/internal/bucket.ts"

/** Something that happened to the jar: tokens taken (positive) or put back (negative). */
export interface Event {
  readonly time: number
  readonly amount: number
  /** Whoever waited for a refill takes from it before the jar overflows. */
  readonly waited: boolean
}

const firstRefill = ({ origin, interval }: Rules, start: number): number => {
  if (origin < 0) return start + interval
  let refill = origin
  while (refill <= start) refill += interval
  return refill
}

/**
 * The lowest level of the jar over a history that began at `start`. A jar that is never asked for more than it holds
 * doesn't go below zero.
 */
export const lowestLevel = (rules: Rules, start: number, history: ReadonlyArray<Event>): number => {
  const events = [...history].sort((a, b) => a.time - b.time || Number(b.waited) - Number(a.waited))
  let level = rules.initial
  let lowest = level
  let refill = rules.amount > 0 ? firstRefill(rules, start) : Number.POSITIVE_INFINITY
  for (const { time, amount, waited } of events) {
    for (; refill <= time; refill += rules.interval) {
      level = Math.min(rules.capacity, level) + rules.amount
    }
    if (!waited) level = Math.min(rules.capacity, level)
    level -= amount
    lowest = Math.min(lowest, level)
  }
  return lowest
}

/**
 * When `amount` could first be taken from the jar after all of `history`, in order of arrival: step by step. At a moment
 * that `overflown` names the jar has overflown before anybody takes from it.
 */
export const earliest = (
  rules: Rules,
  start: number,
  history: ReadonlyArray<Event>,
  now: number,
  amount: number,
  overflown: ReadonlySet<number> = new Set()
): number | undefined => {
  let time = history.reduce((latest, event) => Math.max(latest, event.time), now)
  let refill = rules.amount > 0 ? firstRefill(rules, start) : Number.POSITIVE_INFINITY
  while (refill <= time) refill += rules.interval
  for (;;) {
    const waited = time > now && !overflown.has(time)
    if (lowestLevel(rules, start, [...history, { time, amount, waited }]) >= 0) return time
    if (refill === Number.POSITIVE_INFINITY) return undefined
    time = refill
    refill += rules.interval
  }
}

/** What was let out at a moment. */
export interface Admitted {
  readonly time: number
  readonly amount: number
}

/**
 * By how much the window that is worst in this respect let out more than `capacity` and what refilled in it, both ends
 * included. Every window that begins and ends with an admission is looked at.
 */
export const worstWindow = (
  capacity: number,
  refilledIn: (from: number, to: number) => number,
  history: ReadonlyArray<Admitted>
): number => {
  const sorted = [...history].sort((a, b) => a.time - b.time)
  let worst = Number.NEGATIVE_INFINITY
  for (let first = 0; first < sorted.length; first++) {
    let admitted = 0
    for (let last = first; last < sorted.length; last++) {
      const [from, to] = [sorted[first], sorted[last]]
      if (from === undefined || to === undefined) continue
      admitted += to.amount
      worst = Math.max(worst, admitted - capacity - refilledIn(from.time, to.time))
    }
  }
  return worst
}

/** What refills from one moment to another, both included, counted refill by refill. */
export const refilledIn =
  (rules: Rules, start: number) =>
  (from: number, to: number): number => {
    if (rules.amount === 0) return 0
    let refilled = 0
    for (let refill = firstRefill(rules, start); refill <= to; refill += rules.interval) {
      if (refill >= from) refilled += rules.amount
    }
    return refilled
  }
