/**
 * When work comes in: in waves, as work does. On the average a little more than can be done, for a moment far more.
 */

export interface Waves {
  /** How many come in one wave. */
  readonly size: number
  /** Seconds from the start of one wave to the start of the next. */
  readonly period: number
}

/** The share of its period in which a wave comes in; the rest is calm. */
const breadth = 0.5

/** How much more comes in than can be done in the same time. */
const overload = 1.5

/** Waves of `size` to something that can do `rate` a second. */
export const wavesFor = (size: number, rate: number): Waves => ({ size, period: size / (overload * rate) })

/** Seconds from the start at which the work with this index comes in. */
export const arrival = ({ size, period }: Waves, index: number): number =>
  (Math.floor(index / size) + ((index % size) / size) * breadth) * period
