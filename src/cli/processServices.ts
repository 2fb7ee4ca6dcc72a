/**
 * What Effect's commands need of the process that they run in: its arguments, and its terminal. They can do without a
 * file system and other processes, and so the package does without a platform package.
 */
import { emitKeypressEvents, type Key } from "node:readline"
import type * as Cause from "effect/Cause"
import type * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Queue from "effect/Queue"
import * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Terminal from "effect/Terminal"

const { stdin, stdout } = process

const sizeNow = (): Terminal.Size => ({ columns: stdout.columns ?? 80, rows: stdout.rows ?? 24 })

const size = Effect.gen(function* () {
  const sizes = yield* Queue.sliding<Terminal.Size, Cause.Done>(1)
  const tell = () => Queue.offerUnsafe(sizes, sizeNow())
  yield* Effect.acquireRelease(
    Effect.sync(() => stdout.on("resize", tell)),
    () => Effect.sync(() => stdout.off("resize", tell))
  )
  tell()
  return sizes
})

/** In raw mode these come as keys, and nothing else ends the program. */
const quits = ({ ctrl = false, name = "" }: Key): boolean => ctrl && (name === "c" || name === "d")

/** Keys, one by one, as long as the scope is open: what is typed does not show, and Ctrl-C ends the queue. */
const readInput = Effect.gen(function* () {
  const inputs = yield* Queue.make<Terminal.UserInput, Cause.Done>()
  const onKey = (typed: string | undefined, key: Key) => {
    const { name = "", ctrl = false, meta = false, shift = false } = key
    if (quits(key)) Queue.endUnsafe(inputs)
    else Queue.offerUnsafe(inputs, { input: Option.fromUndefinedOr(typed), key: { name, ctrl, meta, shift } })
  }
  const onEnd = () => Queue.endUnsafe(inputs)
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      emitKeypressEvents(stdin)
      stdin.on("keypress", onKey).on("end", onEnd)
      if (stdin.isTTY) stdin.setRawMode(true)
      stdin.resume()
    }),
    () =>
      Effect.sync(() => {
        stdin.off("keypress", onKey).off("end", onEnd).pause()
        if (stdin.isTTY) stdin.setRawMode(false)
      })
  )
  return inputs as Queue.Dequeue<Terminal.UserInput, Cause.Done>
})

const terminal = Terminal.make({
  columns: Effect.sync(() => sizeNow().columns),
  rows: Effect.sync(() => sizeNow().rows),
  size,
  readInput,
  // No command asks for lines.
  readLine: Effect.fail(new Terminal.QuitError({})),
  // Whether anyone still reads is for `closedOutput.ts` to find out.
  display: (text) => Effect.callback<void>((resume) => void stdout.write(text, () => resume(Effect.void)))
})

const write =
  (stream: NodeJS.WritableStream) =>
  (text: string | Uint8Array): Effect.Effect<void> =>
    Effect.sync(() => void stream.write(text))

const stdio = Stdio.make({
  args: Effect.sync(() => process.argv.slice(2)),
  stdinIsTerminal: Effect.sync(() => stdin.isTTY === true),
  stdoutIsTerminal: Effect.sync(() => stdout.isTTY === true),
  stderrIsTerminal: Effect.sync(() => process.stderr.isTTY === true),
  stdout: () => Sink.forEach(write(stdout)),
  stderr: () => Sink.forEach(write(process.stderr)),
  stdin: Stream.empty
})

export const processServices: Layer.Layer<Command.Environment> = Layer.mergeAll(
  Layer.succeed(Terminal.Terminal, terminal),
  Layer.succeed(Stdio.Stdio, stdio),
  Path.layer,
  FileSystem.layerNoop({}),
  Layer.succeed(
    ChildProcessSpawner.ChildProcessSpawner,
    ChildProcessSpawner.make(() => Effect.die("Commands start no processes"))
  )
)
