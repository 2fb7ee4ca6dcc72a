/**
 * In which order limiters are listed.
 */
import type { Row } from "./overview.ts"

export const orders = ["name", "waiting", "rate"] as const

export type Order = (typeof orders)[number]

/** A queue of permits and a wait for tokens can't be compared: each request that waits counts, and each token owed. */
const queue = ({ waiting, tokens }: Row): number => waiting ?? Math.max(0, -(tokens ?? 0))

const measure: Record<Exclude<Order, "name">, (row: Row) => number> = {
  waiting: queue,
  rate: ({ ratePerSecond }) => ratePerSecond ?? 0
}

/** From the highest; rows come in the order of their names, and equal ones stay so. */
export const sorted = (rows: ReadonlyArray<Row>, order: Order): ReadonlyArray<Row> =>
  order === "name" ? rows : rows.toSorted((a, b) => measure[order](b) - measure[order](a))
