/**
 * Where the demo is seen: drawn in place in a terminal, printed line by line everywhere else.
 */
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Terminal from "effect/Terminal"
import { hideCursor, showCursor } from "../render/escapes.ts"
import { emptyLine, type Line, toText } from "../render/text.ts"
import { frame } from "./render/frame.ts"
import { plainLines } from "./render/plainLines.ts"
import { redraw } from "./render/redraw.ts"
import type { View } from "./view.ts"

interface Shape {
  /** Shows a view, over and over, while work runs; the last picture stays. */
  readonly during: <A, E, R, E1>(
    work: Effect.Effect<A, E, R>,
    view: Effect.Effect<View, E1>
  ) => Effect.Effect<A, E | E1, R>
  readonly print: (lines: ReadonlyArray<Line>) => Effect.Effect<void>
}

const frameInterval = "50 millis"

export class Display extends Context.Service<Display, Shape>()("steindamm/demo/Display") {
  private static readonly inPlace = Layer.effect(
    Display,
    Effect.gen(function* () {
      const terminal = yield* Terminal.Terminal
      const { canColor: colour } = yield* TerminalCapabilities.TerminalCapabilities
      const write = (text: string) => Effect.orDie(terminal.display(text))

      return Display.of({
        during: (work, view) =>
          Effect.suspend(() => {
            let shown: ReadonlyArray<Line> = []
            const draw = Effect.gen(function* () {
              const [columns, rows] = yield* Effect.all([terminal.columns, terminal.rows])
              const next = frame(yield* view, { columns, rows })
              yield* write(redraw(shown, next, { columns, colour }))
              shown = next
            })
            return Effect.acquireUseRelease(
              write(hideCursor),
              () => Effect.raceFirst(work, Effect.forever(Effect.andThen(draw, Effect.sleep(frameInterval)))),
              () => Effect.andThen(Effect.ignore(draw), write(`${showCursor}\n`))
            )
          }),
        print: (lines) => write(lines.map((line) => `${toText(line, colour)}\n`).join(""))
      })
    })
  )

  private static readonly lineByLine = Layer.effect(
    Display,
    Effect.gen(function* () {
      const { canColor: colour } = yield* TerminalCapabilities.TerminalCapabilities
      const print = (lines: ReadonlyArray<Line>) =>
        Effect.forEach(lines, (line) => Console.log(toText(line, colour)), { discard: true })

      return Display.of({
        during: (work, view) =>
          Effect.suspend(() => {
            let last: View | undefined
            const printNews = Effect.gen(function* () {
              const now = yield* view
              yield* print(plainLines(last, now))
              last = now
            })
            return Effect.raceFirst(work, Effect.forever(Effect.andThen(printNews, Effect.sleep(frameInterval)))).pipe(
              Effect.tap(Effect.andThen(printNews, print([emptyLine])))
            )
          }),
        print
      })
    })
  )

  static readonly layer: Layer.Layer<Display, never, Terminal.Terminal> = Layer.unwrap(
    Effect.map(TerminalCapabilities.TerminalCapabilities, ({ canAnimate }) =>
      canAnimate ? Display.inPlace : Display.lineByLine
    )
  )
}
