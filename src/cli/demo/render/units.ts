/**
 * Numbers as people read them.
 */

/** `340 ms`, `1.04 s`, `12.3 s`. */
export const seconds = (value: number): string => {
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`
  return `${value.toFixed(value < 9.995 ? 2 : 1)} s`
}

/** At most one decimal. */
export const number = (value: number): string => String(Math.round(value * 10) / 10)

export const percent = (share: number): string => `${number(share * 100)} %`
