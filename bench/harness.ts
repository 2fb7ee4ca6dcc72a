/**
 * Compares contestants at the same task, in interleaved rounds, so that whatever else the machine does hits all alike.
 */
import { Effect } from "effect"

export interface Contestant {
  readonly label: string
  /** Does the task `count` times. */
  readonly run: (count: number) => Effect.Effect<unknown, unknown>
  /** The part of `count` that a slow contestant is given, so as not to hold up the others. Default: all. */
  readonly share?: number
}

export interface Row {
  readonly label: string
  /** Operations a second, the best of all rounds. */
  readonly rate: number
}

const now = () => Number(process.hrtime.bigint()) / 1e9

/** Best rates of contestants that take turns, and that are warmed up by a turn which doesn't count. */
export const race = (
  contestants: ReadonlyArray<Contestant>,
  { count, rounds }: { readonly count: number; readonly rounds: number }
): Effect.Effect<ReadonlyArray<Row>, unknown> =>
  Effect.gen(function* () {
    const best = new Map<string, number>()
    for (let round = 0; round <= rounds; round++) {
      for (const { label, run, share = 1 } of contestants) {
        const start = now()
        yield* run(count * share)
        const rate = (count * share) / (now() - start)
        if (round > 0) best.set(label, Math.max(best.get(label) ?? 0, rate))
      }
    }
    return contestants.map(({ label }) => ({ label, rate: best.get(label) ?? 0 }))
  })

/** Prints rates, and what each is as a multiple of the first row's. */
export const report = (title: string, rows: ReadonlyArray<Row>): void => {
  const [first] = rows
  console.log(`\n${title}`)
  for (const { label, rate } of rows) {
    const ratio = first === undefined ? 1 : rate / first.rate
    console.log(
      `  ${label.padEnd(34)} ${Math.round(rate).toLocaleString("en").padStart(12)} /s  ${ratio.toFixed(2).padStart(7)}`
    )
  }
}

/** Bytes of heap that are in use once the garbage is gone. Needs --expose-gc. */
export const heapUsed = (): number => {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}
