/**
 * How fast a permit goes from one process to the next: 32 workers in 4 processes, capacity 4, sections of 0 and 1 ms,
 * against peers and against the least that could do it: `npm run bench:handoff`. Each has the time to have its code
 * compiled first, for a process that shares a semaphore with others runs for long.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Effect } from "effect"
import { startServer } from "../test/support/servers.ts"
import type { Sections, Task } from "./handoffWorker.ts"

const run = promisify(execFile)
const worker = fileURLToPath(new URL("./handoffWorker.ts", import.meta.url))

const processes = 4

/** Milliseconds, before anything is measured. */
const warmUp = 20_000

const percentile = (sorted: ReadonlyArray<number>, part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0

/** R. Jain's index: 1 if all have the same, 1/n if one has everything. */
const fairness = (shares: ReadonlyArray<number>): number =>
  shares.reduce((sum, share) => sum + share, 0) ** 2 /
  (shares.length * shares.reduce((sum, share) => sum + share * share, 0))

const measure = (contestant: Task["contestant"], hold: number) =>
  Effect.gen(function* () {
    const server = yield* startServer()
    const task: Task = { contestant, url: server.url, capacity: 4, workers: 8, hold, duration: warmUp + 4000 }
    if (contestant === "list" || contestant === "script") yield* server.command("RPUSH", "permits", 1, 1, 1, 1)
    yield* server.command("CONFIG", "RESETSTAT")
    const all = yield* Effect.promise(() =>
      Promise.all(
        Array.from({ length: processes }, async () => {
          const args = ["--conditions", "steindamm-source", worker, JSON.stringify(task)]
          const { stdout } = await run(process.execPath, args, { maxBuffer: 256 << 20 })
          return JSON.parse(stdout) as Sections
        })
      )
    )
    const stats = String(yield* server.command("INFO", "commandstats"))
    // Redis counts what scripts run as well. redis-semaphore gives back without one.
    const sent = ["evalsha", "eval", "blpop", "lpush", ...(contestant === "redis-semaphore" ? ["zrem"] : [])]
    const calls = sent.reduce(
      (sum, command) => sum + Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0),
      0
    )
    const workers = all.flatMap((one) => one.workers)
    // Only while all processes take part.
    const start = Math.max(...workers.map((sections) => sections[0]?.[0] ?? 0)) + warmUp * 1000
    const end = Math.min(...workers.map((sections) => sections.at(-1)?.[1] ?? 0)) - 100_000
    const inside = workers.map((sections) => sections.filter(([begun, ended]) => begun >= start && ended <= end))
    const begun = inside.flatMap((sections) => sections.map(([time]) => time)).sort((a, b) => a - b)
    const ended = inside.flatMap((sections) => sections.map(([, time]) => time)).sort((a, b) => a - b)
    // While everybody is hungry, the permit of each section that begins came from one that ended.
    const handoffs = begun
      .slice(task.capacity)
      .map((time, index) => Math.max(0, time - (ended[index] ?? time)))
      .sort((a, b) => a - b)
    const total = workers.reduce((sum, sections) => sum + sections.length, 0)
    console.log(
      `  ${contestant.padEnd(16)} p50 ${(percentile(handoffs, 0.5) / 1000).toFixed(2)} ms  p99 ${(
        percentile(handoffs, 0.99) / 1000
      ).toFixed(2)} ms  ${Math.round((begun.length / (end - start)) * 1e6)} sections/s  ${(calls / total).toFixed(
        2
      )} commands a section  fairness ${fairness(inside.map((sections) => sections.length)).toFixed(3)}`
    )
  }).pipe(Effect.scoped)

const main = Effect.gen(function* () {
  for (const hold of [0, 1]) {
    console.log(`\n32 workers in 4 processes, capacity 4, sections of ${hold} ms`)
    for (const contestant of ["script", "list", "steindamm", "redis-semaphore"] as const)
      yield* measure(contestant, hold)
  }
})

Effect.runPromise(main)
