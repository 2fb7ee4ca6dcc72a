/**
 * Random numbers from a seed, so that a failing program can be run again (T. Ettinger's mulberry32).
 */
export interface Random {
  /** A number from 0 up to 1. */
  readonly next: () => number
  /** An integer from `low` to `high`, both included. */
  readonly integer: (low: number, high: number) => number
  readonly pick: <A>(choices: ReadonlyArray<A>) => A
  readonly chance: (probability: number) => boolean
}

export const seeded = (seed: number): Random => {
  let state = seed | 0
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
  const integer = (low: number, high: number) => low + Math.floor(next() * (high - low + 1))
  return {
    next,
    integer,
    pick: (choices) => choices[integer(0, choices.length - 1)] as never,
    chance: (probability) => next() < probability
  }
}
