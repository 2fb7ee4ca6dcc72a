import { Cluster, Redis } from "ioredis"
import * as root from "steindamm"
import {
  BackendError,
  createSemaphore,
  createTokenBucket,
  InvalidOptions,
  MaxSleepExceeded,
  NoTokensAvailable,
  PermitLost
} from "steindamm/promise"
import { afterAll, assert, describe, inject, it, onTestFinished, vi } from "vitest"
import { freshName } from "./contract/harness.ts"
import { promiseSemaphoreContract } from "./contract/promiseSemaphore.ts"
import { promiseTokenBucketContract } from "./contract/promiseTokenBucket.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

const keyPrefix = freshKeyPrefix()
const client = new Redis(inject("redisUrl"), { lazyConnect: true })
const cluster = new Cluster([inject("clusterUrl")], { lazyConnect: true })

afterAll(() => {
  client.disconnect()
  cluster.disconnect()
})

for (const [label, connection] of [
  ["in memory", {}],
  ["over Redis", { redis: inject("redisUrl"), keyPrefix }],
  ["over a client of the app", { redis: client, keyPrefix }],
  ["over a cluster client of the app", { redis: cluster, keyPrefix }]
] as const) {
  promiseSemaphoreContract(label, () => connection)
  promiseTokenBucketContract(label, () => connection)
}

describe("the promise adapter", () => {
  it("rejects with the error classes of the package itself", () => {
    assert.strictEqual(BackendError, root.BackendError)
    assert.strictEqual(InvalidOptions, root.InvalidOptions)
    assert.strictEqual(MaxSleepExceeded, root.MaxSleepExceeded)
    assert.strictEqual(NoTokensAvailable, root.NoTokensAvailable)
    assert.strictEqual(PermitLost, root.PermitLost)
  })

  it("goes by the fake timers of a test", async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const bucket = createTokenBucket({
      name: freshName(),
      capacity: 1,
      refillFrequency: "1 minute",
      maxSleep: "1 hour"
    })
    await bucket.withPermit(() => {})
    let isDone = false
    const second = bucket.withPermit(() => {
      isDone = true
    })
    await vi.advanceTimersByTimeAsync(59_999)
    assert.isFalse(isDone)
    await vi.advanceTimersByTimeAsync(1)
    await second

    const semaphore = createSemaphore({ name: freshName(), capacity: 1, maxSleep: "1 minute" })
    await using _held = await semaphore.acquire()
    const waiting = semaphore.acquire().catch((error: unknown) => error)
    await vi.advanceTimersByTimeAsync(60_000)
    assert.instanceOf(await waiting, MaxSleepExceeded)
  })

  it("tells as a warning of Node, once, that others use a bucket with other options", async () => {
    const warnings: Array<Error> = []
    const listen = (warning: Error) => void warnings.push(warning)
    process.on("warning", listen)
    onTestFinished(() => void process.off("warning", listen))
    const name = freshName()
    const [one, other] = [createTokenBucket({ name, capacity: 10 }), createTokenBucket({ name, capacity: 20 })]
    for (const limiter of [one, other, one, other, one]) await limiter.acquire()
    await new Promise(setImmediate)
    assert.deepStrictEqual(
      warnings.map(({ name }) => name),
      ["SteindammWarning", "SteindammWarning"]
    )
    for (const { message } of warnings) assert.include(message, name)
  })
})
