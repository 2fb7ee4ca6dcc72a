/**
 * Processes that share a semaphore, as a test starts, orders, stops and kills them.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { appendFileSync, existsSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"
import { type Line, micros, readHistory } from "./history.ts"
import type { Order, Work } from "./semaphoreWorker.ts"
import { until } from "./servers.ts"

const program = fileURLToPath(new URL("./semaphoreWorker.ts", import.meta.url))

export interface SemaphoreProcess {
  readonly pid: number
  readonly tell: (order: Order) => Effect.Effect<void>
  /** What it wrote until now. */
  readonly history: () => ReadonlyArray<Line>
  /** Once it has written a line about this. */
  readonly wrote: (event: Line["event"]) => Effect.Effect<void>
  /** SIGKILL; gives the moment when it was gone. */
  readonly kill: Effect.Effect<number>
  /** SIGSTOP. */
  readonly pause: Effect.Effect<void>
  /** SIGCONT. */
  readonly resume: Effect.Effect<void>
  /** Tells it to stop and waits until it has ended by itself. */
  readonly end: Effect.Effect<void>
}

export interface SemaphoreProcesses {
  readonly start: (work: Partial<Work>) => Effect.Effect<SemaphoreProcess, never, Scope.Scope>
  readonly startMany: (
    count: number,
    work: Partial<Work>
  ) => Effect.Effect<ReadonlyArray<SemaphoreProcess>, never, Scope.Scope>
  /** Of all processes and what was done to them. */
  readonly history: () => ReadonlyArray<Line>
}

const waitUntilReady = (child: ChildProcess) =>
  new Promise<void>((resolve, reject) => {
    child.stdout?.once("data", () => resolve())
    child.once("exit", (code) => reject(new Error(`A process of the test ended too soon, with ${code}`)))
  })

/** Processes that do `common` unless told otherwise when they start. None outlives the scope. */
export const semaphoreProcesses = Effect.fnUntraced(function* (
  common: Omit<Work, "history">
): Effect.fn.Return<SemaphoreProcesses, never, Scope.Scope> {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "steindamm-history-"))),
    (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
  )
  const files: Array<string> = []
  const read = (file: string) => (existsSync(file) ? readHistory(file) : [])

  const start = Effect.fnUntraced(function* (work: Partial<Work>) {
    const history = join(directory, `${files.length}.jsonl`)
    files.push(history)
    const task: Work = { ...common, ...work, history }
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, ["--conditions", "steindamm-source", program, JSON.stringify(task)], {
          stdio: ["pipe", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    child.stdin.on("error", () => {})
    const exited = new Promise<number | null>((resolve) => child.once("exit", resolve))
    yield* Effect.promise(() => waitUntilReady(child))
    const { pid = 0 } = child
    // What is done to a process, it can't write itself.
    const note = (event: "stopped" | "continued" | "killed") => {
      const t = micros()
      appendFileSync(history, `${JSON.stringify({ t, pid, event })}\n`)
      return t
    }
    const signal = (name: NodeJS.Signals) => void child.kill(name)
    const tell = (order: Order) => Effect.sync(() => void child.stdin.write(`${order}\n`))
    const one: SemaphoreProcess = {
      pid,
      tell,
      history: () => read(history),
      wrote: (event) => until(Effect.sync(() => read(history).some((line) => line.event === event))),
      kill: Effect.promise(async () => {
        signal("SIGKILL")
        await exited
        return note("killed")
      }),
      pause: Effect.sync(() => {
        signal("SIGSTOP")
        note("stopped")
      }),
      resume: Effect.sync(() => {
        note("continued")
        signal("SIGCONT")
      }),
      end: Effect.andThen(
        tell("stop"),
        Effect.promise(async () => {
          const code = await exited
          if (code !== 0) throw new Error(`A process of the test failed, with ${code}`)
        })
      )
    }
    return one
  })

  return {
    start,
    startMany: (count, work) =>
      Effect.forEach(Array.from({ length: count }), () => start(work), { concurrency: "unbounded" }),
    history: () => files.flatMap(read)
  }
})
