import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, inject, it } from "vitest"
import { excess } from "./support/bucketSwarm.ts"
import type { Report, Work } from "./support/bucketWorker.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

const run = promisify(execFile)
const worker = fileURLToPath(new URL("./support/bucketWorker.ts", import.meta.url))

const runProcesses = (count: number, work: Work): Promise<ReadonlyArray<Report>> =>
  Promise.all(
    Array.from({ length: count }, async () => {
      const args = ["--conditions", "steindamm-source", worker, JSON.stringify(work)]
      const { stdout } = await run(process.execPath, args, { maxBuffer: 64 << 20 })
      const { admissions, late } = JSON.parse(stdout) as Report
      return { admissions: admissions.map((micros) => micros / 1000), late }
    })
  )

describe("a token bucket of four processes with fifty hungry callers each", () => {
  it("delivers its rate, never more, and to all of them", { timeout: 60_000 }, async () => {
    const bucket = { name: "shared", capacity: 20, refillAmount: 1, refillFrequency: 4, maxSleep: 0 }
    const processes = await runProcesses(4, {
      url: inject("redisUrl"),
      keyPrefix: freshKeyPrefix(),
      bucket,
      fibers: 50,
      duration: 13_000
    })
    const admissions = processes.flatMap((one) => one.admissions).sort((a, b) => a - b)
    // From when all of them take part until the first of them ends.
    const start = Math.max(...processes.map((one) => one.admissions[0] ?? 0)) + 1000
    const inTenSeconds = (times: ReadonlyArray<number>) =>
      times.filter((time) => time >= start && time < start + 10_000).length
    const nominal = 10_000 / bucket.refillFrequency
    const delivered = inTenSeconds(admissions)
    const shares = processes.map((one) => inTenSeconds(one.admissions) / delivered)
    // Who is late runs on promises that were meant for earlier.
    const late = Math.max(...processes.map((one) => one.late))
    console.log(JSON.stringify({ delivered, nominal, shares, late, excess: excess({ admissions }, bucket, 0) }))
    assert.approximately(delivered / nominal, 1, 0.005)
    assert.isAtMost(excess({ admissions }, bucket, late + 20), 0)
    for (const share of shares) assert.isAbove(share, 0.15)
  })
})
