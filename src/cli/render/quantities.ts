/**
 * Durations, amounts and names as people read them in a terminal.
 */
import { beginning, columnsOf } from "./text.ts"

const steps = [
  { unit: "d", of: 86_400_000, smaller: "h", smallerOf: 3_600_000 },
  { unit: "h", of: 3_600_000, smaller: "min", smallerOf: 60_000 },
  { unit: "min", of: 60_000, smaller: "s", smallerOf: 1_000 }
] as const

/** `340 ms`, `1.04 s`, `2 s`, `12.3 s`, `2 min 5 s`, `3 h`, `4 d 2 h`. */
export const duration = (ms: number): string => {
  if (ms < 999.5) return `${Math.round(ms)} ms`
  if (ms < 59_950 && ms % 1000 === 0) return `${ms / 1000} s`
  if (ms < 59_950) return `${(ms / 1000).toFixed(ms < 9_995 ? 2 : 1)} s`
  const step = steps.find(({ of, smallerOf }) => ms >= of - smallerOf / 2) ?? steps[2]
  const { unit, of, smaller, smallerOf } = step
  const whole = Math.round(ms / smallerOf) * smallerOf
  const rest = Math.round((whole % of) / smallerOf)
  return `${Math.floor(whole / of)} ${unit}${rest === 0 ? "" : ` ${rest} ${smaller}`}`
}

/** `5`, `0.25`, `1234567`: three decimals at most, and no rounding up to what is not there. */
export const amount = (value: number): string => String(Math.floor(value * 1000 + 1e-6) / 1000)

/** `0`, `0.2 /s`, `12.5 /s`, `1320 /s`. */
export const perSecond = (rate: number): string =>
  rate === 0
    ? "0"
    : `${rate < 0.095 ? rate.toPrecision(1) : rate < 99.5 ? String(Math.round(rate * 10) / 10) : Math.round(rate)} /s`

/** `1 waiter`, `3 waiters`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`

/** A name may hold anything, also what would move the cursor or change the terminal's mode. */
export const printable = (name: string): string =>
  name.replace(/[\p{Cc}\p{Cf}\p{Surrogate}\u2028\u2029]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0
    return `\\u{${code.toString(16)}}`
  })

/** Cut to so many columns, and filled up to them. */
export const fitted = (text: string, columns: number, align: "left" | "right" = "left"): string => {
  const shown = columnsOf(text) <= columns ? text : `${beginning(text, columns - 1)}…`
  const padding = " ".repeat(Math.max(0, columns - columnsOf(shown)))
  return align === "left" ? shown + padding : padding + shown
}
