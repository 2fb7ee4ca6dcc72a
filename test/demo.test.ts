/**
 * Runs the demo as a person without a terminal does: a process of its own, its output read line by line.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"

const main = fileURLToPath(new URL("../examples/demo/main.ts", import.meta.url))

interface Demo {
  readonly process: ChildProcess
  /** All that it has printed. */
  readonly printed: () => string
  /** Resolves once it has printed something that matches. */
  readonly until: (pattern: RegExp) => Promise<void>
  /** Its exit code. */
  readonly ended: Promise<number | null>
}

const start = (...flags: ReadonlyArray<string>): Demo => {
  const { FORCE_COLOR: _, ...env } = process.env
  const child = spawn(process.execPath, ["--conditions", "steindamm-source", main, ...flags], {
    env,
    stdio: ["ignore", "pipe", "pipe"]
  })
  let printed = ""
  const listeners = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      printed += text
      for (const listener of listeners) listener()
    })
  }
  const ended = once(child, "close").then(([code]) => code as number | null)
  const until = (pattern: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!pattern.test(printed)) return
        listeners.delete(look)
        resolve()
      }
      listeners.add(look)
      look()
      ended.then(() => reject(new Error(`ended without ${pattern}:\n${printed}`)))
    })
  return { process: child, printed: () => printed, until, ended }
}

/** The two cells of a row of a summary, as numbers. */
const cells = (printed: string, name: string): ReadonlyArray<number> => {
  const row = printed
    .split("\n")
    .find((line) => line.trimStart().startsWith(name) && /\d|–/.test(line.slice(name.length + 1)))
  assert.isDefined(row, `no row ${name} in\n${printed}`)
  return row
    .slice(name.length + 1)
    .trim()
    .split(/\s{2,}/)
    .map(Number.parseFloat)
}

describe("the demo without a terminal", () => {
  it("shows that no call is refused and no query fails with a limiter, and delivers the nominal rate", async () => {
    const small = ["--calls", "60", "--rate", "20", "--capacity", "10", "--queries", "30", "--permits", "4"]
    const demo = start(...small)
    assert.strictEqual(await demo.ended, 0)
    const printed = demo.printed()

    const [refusedWithout = 0, refusedWith] = cells(printed, "refused (429)")
    assert.isAbove(refusedWithout, 0)
    assert.strictEqual(refusedWith, 0)
    assert.strictEqual(cells(printed, "answered")[1], 60)
    const [, share = 0] = cells(printed, "of the nominal 20 /s")
    assert.isAtMost(share, 100.5)
    assert.isAtLeast(share, 80)

    const [failedWithout = 0, failedWith] = cells(printed, "failed")
    assert.isAbove(failedWithout, 0)
    assert.strictEqual(failedWith, 0)
    assert.strictEqual(cells(printed, "done")[1], 30)
    const [peakWithout = 0, peakWith] = cells(printed, "peak connections")
    assert.isAbove(peakWithout, 4)
    assert.strictEqual(peakWith, 4)

    assert.notInclude(printed, "\u001B")
  })

  for (const [scenario, flags] of [
    ["semaphore", ["--queries", "150", "--permits", "8"]],
    ["token-bucket", ["--calls", "150", "--rate", "60", "--capacity", "5"]]
  ] as const) {
    it(`gives every permit back and says so when Ctrl-C ends scenario ${scenario}`, async () => {
      const demo = start("--scenario", scenario, ...flags)
      await demo.until(/with limiter .* [1-9]\d* waiting/)
      demo.process.kill("SIGINT")
      assert.strictEqual(await demo.ended, 130)
      assert.match(
        demo.printed(),
        /\nInterrupted: (\d+) of \1 permits free, 0 waiting, [\d.]+ of \d+ tokens, server closed\.\n$/
      )
    })
  }

  it("explains its flags", async () => {
    const demo = start("--help")
    assert.strictEqual(await demo.ended, 0)
    for (const flag of ["--scenario", "--calls", "--rate", "--capacity", "--queries", "--permits"]) {
      assert.include(demo.printed(), flag)
    }
  })
})
