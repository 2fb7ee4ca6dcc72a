/**
 * Runs the demo as a person without a terminal does: a process of its own, its output read line by line.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { assert, describe, it } from "@effect/vitest"
import { inject } from "vitest"
import { runToEnd, steindamm } from "./support/command.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { type Output, outputOf } from "./support/output.ts"

const [node = "", ...words] = [...steindamm, "demo"]

interface Demo extends Output {
  readonly process: ChildProcess
  /** Its exit code. */
  readonly ended: Promise<number | null>
}

const start = (...flags: ReadonlyArray<string>): Demo => {
  const { FORCE_COLOR: _, ...env } = process.env
  const child = spawn(node, [...words, ...flags], {
    env,
    stdio: ["ignore", "pipe", "pipe"]
  })
  const ended = once(child, "close").then(([code]) => code as number | null)
  return { ...outputOf([child.stdout, child.stderr], ended), process: child, ended }
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
    const printed = demo.written()

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

  it("shows the same over Redis, with limiters that start full", async () => {
    const small = ["--calls", "40", "--rate", "20", "--capacity", "10", "--queries", "30", "--permits", "4"]
    const redis = ["--redis", inject("redisUrl"), "--prefix", freshKeyPrefix()]
    for (let run = 0; run < 2; run++) {
      const demo = start(...small, ...redis)
      assert.strictEqual(await demo.ended, 0)
      assert.strictEqual(cells(demo.written(), "refused (429)")[1], 0)
      assert.isAtMost(cells(demo.written(), "of the nominal 20 /s")[1] ?? 0, 100.5)
      assert.strictEqual(cells(demo.written(), "failed")[1], 0)
      assert.strictEqual(cells(demo.written(), "peak connections")[1], 4)
    }
  })

  it("says in a sentence that the Redis it is to use is away", async () => {
    const { code, stderr } = await runToEnd([node, ...words, "--redis", "redis://127.0.0.1:1"])
    assert.strictEqual(code, 1)
    assert.match(stderr, /^steindamm: [^\n]*ECONNREFUSED[^\n]*\n$/)
  })

  it("ends quietly when nobody reads on", async () => {
    const program = [node, ...words, "--scenario", "semaphore"]
    const ended = await runToEnd(["sh", "-c", `{ "$@"; echo "code $?" >&2; } | head -n 1`, "sh", ...program])
    assert.match(ended.stdout, /^semaphore: [^\n]*\n$/)
    assert.strictEqual(ended.stderr, "code 0\n")
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
        demo.written(),
        /\nInterrupted: (\d+) of \1 permits free, 0 waiting, [\d.]+ of \d+ tokens, server closed\.\n$/
      )
    })
  }

  it("explains its flags", async () => {
    const demo = start("--help")
    assert.strictEqual(await demo.ended, 0)
    for (const flag of ["--scenario", "--calls", "--rate", "--capacity", "--queries", "--permits"]) {
      assert.include(demo.written(), flag)
    }
  })
})
