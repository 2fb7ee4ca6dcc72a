/**
 * A process whose fibers want permits: told by its argument what to do, and by lines on standard input when. It writes
 * what happens to its history at once, so that it can be killed at any moment and nothing is lost.
 */
import { openSync, writeSync } from "node:fs"
import { createInterface } from "node:readline"
import { Effect, Layer, Random, References } from "effect"
import { Semaphore, type SemaphoreLimiter, type SemaphoreOptions } from "steindamm"
import { RedisClient, RedisSemaphoreLive } from "steindamm/redis"
import { type Line, micros } from "./history.ts"

export interface Work {
  readonly url: string
  readonly keyPrefix: string
  readonly semaphore: SemaphoreOptions
  /** The file that the history goes to. */
  readonly history: string
  /** So many begin with each order to go. */
  readonly fibers: number
  /** For each section. */
  readonly permits: number
  /** How long a section runs, in milliseconds: from, to; without it, until the order to stop. */
  readonly hold?: readonly [number, number]
  /** How many sections each fiber runs; without it, until the order to stop. */
  readonly rounds?: number
  /** Runs sections by `withPermits`, which does not tell their fencing tokens, instead of `acquire`. */
  readonly isGuarded?: boolean
}

/** What the process can be told; `block` keeps its event loop busy for so many milliseconds. */
export type Order = "go" | "stop" | `block ${number}`

const work: Work = JSON.parse(process.argv[2] ?? "")
const { pid } = process
const file = openSync(work.history, "a")

type Entry = Line extends infer One ? (One extends Line ? Omit<One, "t" | "pid"> : never) : never

const write = (entry: Entry) => writeSync(file, `${JSON.stringify({ t: micros(), pid, ...entry })}\n`)

const stop = new AbortController()
const stopped = Effect.callback<void>((resume) => {
  const end = () => resume(Effect.void)
  if (stop.signal.aborted) return end()
  stop.signal.addEventListener("abort", end)
  return Effect.sync(() => stop.signal.removeEventListener("abort", end))
})

const held = Effect.suspend(() => {
  if (work.hold === undefined) return stopped
  return Effect.raceFirst(Effect.flatMap(Random.nextBetween(...work.hold), Effect.sleep), stopped)
})

const section = (id: string, worker: number, asked: number, fencingToken: number) => {
  const { permits } = work
  const begin = Effect.sync(() => write({ event: "in", id, worker, permits, fencingToken, asked }))
  return <E>(effect: Effect.Effect<void, E>): Effect.Effect<void, E> =>
    Effect.andThen(
      begin,
      Effect.ensuring(
        effect,
        Effect.sync(() => write({ event: "out", id }))
      )
    )
}

const acquired = (limiter: SemaphoreLimiter, worker: number) =>
  Effect.suspend(() => {
    const asked = micros()
    return Effect.scoped(
      Effect.flatMap(limiter.acquire(work.permits), ({ id, fencingToken, lost }) =>
        section(id, worker, asked, fencingToken)(Effect.raceFirst(held, lost))
      )
    )
  }).pipe(
    Effect.catchTag("PermitLost", ({ permitId, fencingToken }) =>
      Effect.sync(() => write({ event: "lost", id: permitId, fencingToken }))
    )
  )

const guarded = (limiter: SemaphoreLimiter, worker: number, round: number) =>
  Effect.suspend(() => {
    const id = `${pid}.${worker}.${round}`
    return limiter
      .withPermits(work.permits)(section(id, worker, micros(), 0)(held))
      .pipe(
        Effect.catchTag("PermitLost", ({ fencingToken }) =>
          Effect.sync(() => write({ event: "lost", id, fencingToken }))
        )
      )
  })

const { rounds = Number.POSITIVE_INFINITY } = work

const hungry = (limiter: SemaphoreLimiter, worker: number) =>
  Effect.gen(function* () {
    for (let round = 0; round < rounds && !stop.signal.aborted; round++) {
      yield* work.isGuarded ? guarded(limiter, worker, round) : acquired(limiter, worker)
    }
  })

const blockFor = (duration: number) => {
  write({ event: "stopped" })
  const end = micros() + duration * 1000
  while (micros() < end);
  write({ event: "continued" })
}

/** Until it was told to stop and everyone has. Without its owner it does not live on. */
const obey = (limiter: SemaphoreLimiter) =>
  Effect.callback<void, unknown>((resume) => {
    const running: Array<Promise<void>> = []
    let workers = 0
    const orders = createInterface(process.stdin)
    const failed = (cause: unknown) => resume(Effect.fail(cause))
    orders.on("close", () => process.exit())
    orders.on("line", (order) => {
      if (order === "go") {
        for (let i = 0; i < work.fibers; i++) {
          const one = Effect.runPromise(hungry(limiter, workers++))
          one.catch(failed)
          running.push(one)
        }
      } else if (order === "stop") {
        stop.abort()
        Promise.all(running).then(() => {
          orders.removeAllListeners("close").close()
          process.stdin.destroy()
          resume(Effect.void)
        }, failed)
      } else blockFor(Number(order.split(" ")[1]))
    })
    process.stdout.write("ready\n")
  })

const live = RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layer({ url: work.url, keyPrefix: work.keyPrefix })))

Effect.runPromise(
  Effect.flatMap(Semaphore.make(work.semaphore), obey).pipe(
    Effect.provide(live),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )
).catch((cause) => {
  console.error(cause)
  process.exit(1)
})
