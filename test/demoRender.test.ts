import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, identity, Schema, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { TestClock } from "effect/testing"
import { compare } from "../src/cli/demo/comparison.ts"
import { Display } from "../src/cli/demo/display.ts"
import { Recorder } from "../src/cli/demo/recorder.ts"
import { frame } from "../src/cli/demo/render/frame.ts"
import { pips, progressBar } from "../src/cli/demo/render/meters.ts"
import { plainLines } from "../src/cli/demo/render/plainLines.ts"
import { type Plot, plotLines, timeLine, topFor } from "../src/cli/demo/render/plot.ts"
import { redraw, rowsTaken } from "../src/cli/demo/render/redraw.ts"
import { both, failures, summaryLines } from "../src/cli/demo/render/summary.ts"
import { number, percent, seconds } from "../src/cli/demo/render/units.ts"
import type { Run } from "../src/cli/demo/run.ts"
import { admissionsPerSecond, mostInFlight } from "../src/cli/demo/timeline.ts"
import type { Scene, View } from "../src/cli/demo/view.ts"
import { arrival, wavesFor } from "../src/cli/demo/waves.ts"
import { hideCursor, showCursor } from "../src/cli/render/escapes.ts"
import { bad, cut, good, type Line, plain, strong, toText, width } from "../src/cli/render/text.ts"

const text = (line: Line) => toText(line, false)

const untouched: Run = {
  phase: "next",
  total: 200,
  elapsed: 0,
  good: 0,
  bad: 0,
  waiting: 0,
  inFlight: 0,
  peakInFlight: 0,
  longestWait: 0,
  slowest: 0,
  admissions: [],
  levels: []
}

const halfway: Run = {
  ...untouched,
  phase: "running",
  elapsed: 2.5,
  good: 60,
  bad: 40,
  waiting: 31,
  inFlight: 4,
  longestWait: 1.234,
  admissions: Array.from({ length: 104 }, (_, index) => ({
    at: (index / 104) * 2.5,
    outcome: index % 5 < 2 ? "bad" : "good"
  })),
  levels: Array.from({ length: 50 }, (_, index) => ({ at: index / 20, inFlight: index % 17 }))
}

const finished: Run = { ...halfway, phase: "over", good: 140, bad: 60, waiting: 0, inFlight: 0, elapsed: 3.2 }

const scene: Scene = {
  title: "token bucket",
  about: "200 calls in waves to an API that grants 40 a second",
  work: "calls",
  good: "answered",
  bad: "refused",
  plot: {
    timeline: admissionsPerSecond,
    finestSlot: 0.2,
    mark: 40,
    legend: { title: "calls a second", good: "answered", bad: "refused", mark: "granted" }
  },
  expected: 4.75
}

const view = (without: Run, limited: Run): View => ({
  scene,
  without,
  limited,
  gauge: { label: "tokens left", value: 3, capacity: 10 }
})

const views = [view(halfway, untouched), view(finished, untouched), view(finished, halfway), view(finished, finished)]

const size = {
  columns: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 200 })),
  rows: Schema.Int.check(Schema.isBetween({ minimum: 2, maximum: 80 }))
}

describe("a frame", () => {
  it.prop("never exceeds its terminal, and leaves a line and a column for the cursor", size, ({ columns, rows }) => {
    for (const view of views) {
      const lines = frame(view, { columns, rows })
      assert.isAtMost(lines.length, rows - 1)
      for (const line of lines) assert.isAtMost(width(line), Math.max(0, columns - 1))
    }
  })

  it("keeps its height while a scenario runs, so that nothing jumps", () => {
    for (const size of [
      { columns: 80, rows: 24 },
      { columns: 120, rows: 40 },
      { columns: 40, rows: 10 }
    ]) {
      assert.lengthOf(new Set(views.map((view) => frame(view, size).length)), 1)
    }
  })

  it("shows both plots in a terminal of the usual size, and numbers alone in a small one", () => {
    const plots = (rows: number) =>
      frame(view(finished, halfway), { columns: 80, rows })
        .map(text)
        .filter((line) => line.includes("└"))
    assert.lengthOf(plots(24), 2)
    assert.lengthOf(plots(10), 0)
  })

  it("tells how far both runs have come", () => {
    const lines = frame(view(finished, halfway), { columns: 80, rows: 24 }).map(text)
    assert.match(
      lines.find((line) => line.includes("without limiter")) ?? "",
      /200\/200 +140 answered +60 refused +3\.20 s$/
    )
    assert.match(
      lines.find((line) => line.includes("with limiter")) ?? "",
      /100\/200 +60 answered +40 refused +2\.50 s$/
    )
    assert.match(
      lines.at(-1) ?? "",
      /tokens left ▰▰▰▱▱▱▱▱▱▱ 3\/10 {2}waiting 31 {2}longest wait 1\.23 s {2}in flight 4/
    )
  })
})

describe("a plot", () => {
  const plot: Plot = { bars: [], slots: 4, top: 120, mark: 40, columns: 4, rows: 6 }
  const area = (bars: Plot["bars"], options: Partial<Plot> = {}) =>
    plotLines({ ...plot, ...options, bars }).map((line) => text(line).slice(6))

  it("draws a bar of the marked height up to the marked line, not beyond", () => {
    assert.deepStrictEqual(area([{ good: 40, bad: 0 }]), ["    ", "    ", "    ", "    ", "█╌╌╌", "█   "])
  })

  it("draws eighths of a row", () => {
    const column = (good: number) =>
      area([{ good, bad: 0 }])
        .map((row) => row[0])
        .reverse()
        .join("")
    assert.strictEqual(column(22.5), "█▁    ")
    assert.strictEqual(column(0.1), "▁╌    ")
    assert.strictEqual(column(0), " ╌    ")
  })

  it("stacks what went wrong on what went well, and shows even a little of it", () => {
    assert.deepStrictEqual(
      area([
        { good: 40, bad: 80 },
        { good: 40, bad: 1 },
        { good: 120, bad: 1 },
        { good: 0, bad: 1 }
      ]),
      ["▒ ▒ ", "▒ █ ", "▒ █ ", "▒▒█ ", "███╌", "███▒"]
    )
  })

  it("spreads the bars over its whole width", () => {
    assert.deepStrictEqual(
      area(
        [
          { good: 120, bad: 0 },
          { good: 0, bad: 0 },
          { good: 120, bad: 0 }
        ],
        { slots: 3, columns: 9, rows: 1 }
      ),
      ["███╌╌╌███"]
    )
  })

  it("numbers its upper edge and its mark", () => {
    const labels = plotLines(plot).map((line) => text(line).slice(0, 6))
    assert.deepStrictEqual(labels, [" 120 ┤", "     │", "     │", "     │", "  40 ┤", "     │"])
  })

  it("keeps its scale while little sticks out, and takes whole multiples of the mark otherwise", () => {
    assert.strictEqual(topFor(40, 0), 120)
    assert.strictEqual(topFor(40, 135), 120)
    assert.strictEqual(topFor(40, 141), 160)
    assert.strictEqual(topFor(8, 100), 96)
  })

  it("has a time line whose numbers are apart and end within its width", () => {
    for (const columns of [10, 40, 73, 104]) {
      for (const horizon of [1, 4, 5, 17, 60, 3600]) {
        const line = text(timeLine(horizon, columns))
        assert.isAtMost(line.length, 6 + columns)
        assert.match(line, /^ {6}0 s( +\d+)*$/)
      }
    }
  })
})

describe("timelines", () => {
  it("count every admission once", () => {
    for (const slot of [0.05, 0.2, 1]) {
      const bars = admissionsPerSecond(halfway, slot)
      const total = (part: "good" | "bad") => Math.round(bars.reduce((sum, bar) => sum + bar[part] * slot, 0))
      assert.deepStrictEqual([total("good"), total("bad")], [62, 42])
    }
  })

  it("hold a level until it changes, and split it at the limit", () => {
    const run: Run = {
      ...untouched,
      phase: "running",
      elapsed: 4.5,
      levels: [
        { at: 0.5, inFlight: 3 },
        { at: 0.6, inFlight: 12 },
        { at: 0.7, inFlight: 10 },
        { at: 3.1, inFlight: 0 }
      ]
    }
    assert.deepStrictEqual(mostInFlight(8)(run, 1), [
      { good: 8, bad: 4 },
      { good: 8, bad: 2 },
      { good: 8, bad: 2 },
      { good: 8, bad: 2 },
      { good: 0, bad: 0 }
    ])
  })
})

describe("waves", () => {
  it("bring work in order, and half as much again as can be done", () => {
    const waves = wavesFor(60, 40)
    const arrivals = Array.from({ length: 600 }, (_, index) => arrival(waves, index))
    assert.deepStrictEqual(
      arrivals,
      arrivals.toSorted((a, b) => a - b)
    )
    assert.strictEqual(arrival(waves, 600), 10)
  })
})

describe("meters", () => {
  it("fill their width, whatever the share", () => {
    for (let step = -1; step <= 41; step++) assert.strictEqual(width(progressBar(step / 40, 17)), 17)
    assert.strictEqual(text(progressBar(0.5, 3)), "█▌·")
    assert.strictEqual(text(progressBar(1, 3)), "███")
  })

  it("have a pip for each unit, but no more than ten", () => {
    assert.strictEqual(text(pips(2, 3)), "▰▰▱")
    assert.strictEqual(text(pips(250, 1000)), "▰▰▱▱▱▱▱▱▱▱")
    assert.strictEqual(text(pips(-1, 2)), "▱▱")
  })
})

describe("text", () => {
  it("is cut with an ellipsis where it is too wide", () => {
    const line = [plain("abc"), strong("def")]
    assert.strictEqual(text(cut(line, 6)), "abcdef")
    assert.strictEqual(text(cut(line, 5)), "abcd…")
    assert.strictEqual(text(cut(line, 0)), "")
  })

  it("carries colour only if it may", () => {
    assert.strictEqual(toText([good("4"), bad("2")], false), "42")
    assert.strictEqual(toText([good("4"), plain(" "), bad("2")], true), "\u001B[32m4\u001B[0m \u001B[31m2\u001B[0m")
  })

  it("has numbers as people read them", () => {
    assert.deepStrictEqual([0, 0.0004, 0.34, 0.9999, 1.044, 12.34].map(seconds), [
      "0 ms",
      "0 ms",
      "340 ms",
      "1.00 s",
      "1.04 s",
      "12.3 s"
    ])
    assert.deepStrictEqual([percent(0.9987), number(40), number(33.333)], ["99.9 %", "40", "33.3"])
  })
})

describe("drawing again", () => {
  const lines = [[plain("first")], [plain("second")]]

  it("goes up as many rows as the last picture takes, wrapped lines included", () => {
    assert.include(redraw([], lines, { columns: 80, colour: false }), "\rfirst")
    assert.include(redraw(lines, lines, { columns: 80, colour: false }), "\r\u001B[2A")
    assert.include(redraw(lines, lines, { columns: 3, colour: false }), "\r\u001B[4A")
    assert.strictEqual(rowsTaken([[], [plain("x".repeat(80))], [plain("x".repeat(81))]], 80), 4)
  })

  it("erases only what is left of the old lines, after the new ones are written", () => {
    const drawn = redraw(lines, lines, { columns: 80, colour: false })
    assert.include(drawn, "first\u001B[K\nsecond\u001B[K\n\u001B[J")
    assert.notInclude(drawn, "\u001B[2J")
  })
})

describe("plain lines", () => {
  it("come once a second, and when a run ends", () => {
    const moments: Array<View> = [
      view({ ...halfway, elapsed: 0 }, untouched),
      view({ ...halfway, elapsed: 0.9 }, untouched),
      view({ ...halfway, elapsed: 1.1 }, untouched),
      view({ ...halfway, elapsed: 1.2 }, untouched),
      view(finished, untouched),
      view(finished, { ...halfway, elapsed: 0.1 }),
      view(finished, finished)
    ]
    const printed = moments.map((moment, index) => plainLines(moments[index - 1], moment).map(text))
    assert.deepStrictEqual(
      printed.map((lines) => lines.length),
      [1, 0, 1, 0, 1, 0, 1]
    )
    assert.deepStrictEqual(printed[2], [
      "  without limiter  100 of 200 calls,  60 answered,  40 refused,  31 waiting (1 s)"
    ])
    assert.match(printed[6]?.[0] ?? "", /^ {2}with limiter .*200 of 200 calls, .*\(over after 3\.20 s\)$/)
  })
})

describe("a summary", () => {
  it("stands in columns", () => {
    const comparison = { without: finished, limited: { ...finished, bad: 0 } }
    const rows = [failures(comparison, "refused (429)"), both(comparison, "took", (run) => seconds(run.elapsed))]
    assert.deepStrictEqual(summaryLines({ title: "token bucket", rows }).map(text), [
      " token bucket    without limiter   with limiter",
      ` ${"─".repeat(46)}`,
      " refused (429)                60              0",
      " took                     3.20 s         3.20 s"
    ])
  })
})

describe("a recorder", () => {
  it.effect("counts work as waiting until it is let through, and as in flight until it ends", () =>
    Effect.gen(function* () {
      const recorder = new Recorder(1)
      const guard = <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.delay(work, "2 seconds")
      const work = Effect.as(Effect.sleep("3 seconds"), "good" as const)
      yield* Effect.forkChild(recorder.during(recorder.follow(work, { guard, weight: 3 })))
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* recorder.view, { phase: "running", elapsed: 1, waiting: 1, inFlight: 0 })
      yield* TestClock.adjust("2 seconds")
      assert.deepInclude(yield* recorder.view, { waiting: 0, inFlight: 3, longestWait: 2 })
      yield* TestClock.adjust("5 seconds")
      const expected = { phase: "over", elapsed: 5, good: 1, bad: 0, inFlight: 0, peakInFlight: 3, slowest: 3 } as const
      assert.deepInclude(yield* recorder.view, expected)
    })
  )

  it.effect("counts nothing any more once its work is interrupted", () =>
    Effect.gen(function* () {
      const recorder = new Recorder(2)
      const held = recorder.follow(Effect.never, { guard: identity, weight: 1 })
      const queued = recorder.follow(Effect.never, { guard: () => Effect.never, weight: 1 })
      const run = yield* Effect.forkChild(Effect.all([held, queued], { concurrency: 2 }))
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* recorder.view, { waiting: 1, inFlight: 1 })
      yield* Fiber.interrupt(run)
      assert.deepInclude(yield* recorder.view, { waiting: 0, inFlight: 0 })
    })
  )
})

describe("the display in a terminal", () => {
  const shown = (seen: Array<string>, capabilities: { readonly canColor: boolean }) => {
    const terminal = Terminal.make({
      columns: Effect.succeed(80),
      rows: Effect.succeed(24),
      size: Effect.die("not asked for"),
      readInput: Effect.die("not asked for"),
      readLine: Effect.die("not asked for"),
      display: (text) => Effect.sync(() => void seen.push(text))
    })
    const job = {
      at: 0.5,
      weight: 1,
      work: Effect.as(Effect.sleep("1 second"), "good" as const),
      limited: identity
    }
    return compare({
      scene,
      gauge: Effect.succeed({ label: "tokens left", value: 1, capacity: 2 }),
      withoutLimiter: [job],
      withLimiter: [job]
    }).pipe(
      Effect.provide(Display.layer),
      Effect.provideService(Terminal.Terminal, terminal),
      Effect.provideService(TerminalCapabilities.TerminalCapabilities, {
        ...capabilities,
        canAnimate: true,
        canPrompt: false
      })
    )
  }

  it.effect("draws twenty pictures a second between hiding the cursor and showing it again", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const fiber = yield* Effect.forkChild(shown(seen, { canColor: true }))
      yield* TestClock.adjust("1 second")
      assert.approximately(seen.length, 21, 1)
      yield* TestClock.adjust("4 seconds")
      yield* Fiber.join(fiber)
      assert.strictEqual(seen[0], hideCursor)
      assert.include(seen.at(-1), showCursor)
      assert.match(seen.at(-2) ?? "", /1\/1/)
    })
  )

  it.effect("shows the cursor again when it is interrupted", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const fiber = yield* Effect.forkChild(shown(seen, { canColor: true }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      assert.include(seen.at(-1), showCursor)
    })
  )

  it.effect("uses no colour where there is none", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const fiber = yield* Effect.forkChild(shown(seen, { canColor: false }))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(fiber)
      for (const written of seen) assert.notInclude(written, "\u001B[0m")
    })
  )
})
