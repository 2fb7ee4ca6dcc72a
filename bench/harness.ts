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
  /** Operations a second in each round. */
  readonly rates: ReadonlyArray<number>
}

export interface Effort {
  readonly count: number
  readonly rounds: number
}

/** A call again and again, in Effect's cheapest loop, so that what is compared are the calls. */
export const repeat = (call: Effect.Effect<unknown, unknown>) => (count: number) =>
  Effect.suspend(() => {
    let done = 0
    return Effect.whileLoop({
      while: () => done < count,
      body: () => call,
      step: () => {
        done++
      }
    })
  })

const now = () => Number(process.hrtime.bigint()) / 1e9

/** Rates of contestants that take turns, and that are warmed up by a turn which doesn't count. */
export const race = (
  contestants: ReadonlyArray<Contestant>,
  { count, rounds }: Effort
): Effect.Effect<ReadonlyArray<Row>, unknown> =>
  Effect.gen(function* () {
    const rates = contestants.map((): Array<number> => [])
    for (let round = 0; round <= rounds; round++) {
      for (const [index, { run, share = 1 }] of contestants.entries()) {
        const times = Math.ceil(count * share)
        const start = now()
        yield* run(times)
        if (round > 0) rates[index]?.push(times / (now() - start))
      }
    }
    return contestants.map(({ label }, index) => ({ label, rates: rates[index] ?? [] }))
  })

const best = (rates: ReadonlyArray<number>): number => Math.max(...rates)

const median = (rates: ReadonlyArray<number>): number => {
  const sorted = rates.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

const whole = (n: number): string => Math.round(n).toLocaleString("en").padStart(12)

/** Prints best and median rates, and the best as a multiple of the first row's. */
export const report = (title: string, rows: ReadonlyArray<Row>): void => {
  console.log(`\n${title.padEnd(48)}${"best /s".padStart(12)}${"median /s".padStart(12)}   of the first`)
  for (const { label, rates } of rows) {
    const ofFirst = best(rates) / best(rows[0]?.rates ?? rates)
    console.log(`  ${label.padEnd(46)}${whole(best(rates))}${whole(median(rates))}${ofFirst.toFixed(3).padStart(15)}`)
  }
}

/** Prints bytes, in as many columns as there are headings. */
export const reportBytes = (
  title: string,
  headings: ReadonlyArray<string>,
  rows: ReadonlyArray<readonly [label: string, ...bytes: ReadonlyArray<number>]>
): void => {
  console.log(`\n${title.padEnd(48)}${headings.map((heading) => heading.padStart(12)).join("")}`)
  for (const [label, ...bytes] of rows) console.log(`  ${label.padEnd(46)}${bytes.map(whole).join("")}`)
}

/** Bytes of heap that are in use once the garbage is gone. Needs --expose-gc. */
export const heapUsed: Effect.Effect<number> = Effect.gen(function* () {
  // What finalizers and finished callbacks hold goes in a later turn.
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    yield* Effect.yieldNow
  }
  return process.memoryUsage().heapUsed
})
