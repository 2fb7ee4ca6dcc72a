/** What limiters for plain promises count. */
import { createSemaphore, createTokenBucket, prometheusMetrics } from "steindamm/promise"
import { assert, describe, inject, it, onTestFinished } from "vitest"
import { freshName } from "./contract/harness.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { aborted, gate, rejection, until } from "./support/promises.ts"

/** The series of a limiter, by their names without `steindamm_` and by their reason, if there is one. */
const seriesOf = async (limiter: string) => {
  const series: Record<string, number> = {}
  for (const line of (await prometheusMetrics()).split("\n")) {
    const [, name = "", labels = "", value] = /^steindamm_(\w+)\{(.*)\} (\S+)$/.exec(line) ?? []
    if (!labels.includes(`limiter="${limiter}"`)) continue
    const [, reason] = /reason="(\w+)"/.exec(labels) ?? []
    series[reason ?? name] = Number(value)
  }
  return series
}

for (const [where, redis] of [
  ["in memory", () => ({})],
  ["over Redis", () => ({ redis: inject("redisUrl"), keyPrefix: freshKeyPrefix() })]
] as const) {
  describe(`observed promises ${where}`, () => {
    it("count the tokens that every verb takes, and who is refused", async () => {
      const name = freshName()
      const options = { name, capacity: 8, refillFrequency: "1 hour", maxSleep: "1 second", observe: true } as const
      const limiter = createTokenBucket({ ...options, ...redis() })
      onTestFinished(() => limiter.close())
      await limiter.withPermit(() => "ran")
      await limiter.withPermit(() => "ran", 2)
      await limiter.wrap(() => "ran")()
      await limiter.acquire()
      await limiter.tryAcquire()
      await limiter.reserve(2)
      await limiter.state()
      await rejection(limiter.withPermit(() => "never"))
      await rejection(limiter.reserve())
      assert.isUndefined(await limiter.tryAcquire())
      const { permits_granted_total, requests_waiting, wait_seconds_count, MaxSleepExceeded, Unavailable } =
        await seriesOf(name)
      assert.deepStrictEqual(
        { permits_granted_total, requests_waiting, wait_seconds_count, MaxSleepExceeded, Unavailable },
        {
          permits_granted_total: 8,
          requests_waiting: 0,
          wait_seconds_count: 6,
          MaxSleepExceeded: 2,
          Unavailable: 1
        }
      )
    })

    it("tell what is in use and who waits, and why others no longer do", async () => {
      const name = freshName()
      const limiter = createSemaphore({ name, capacity: 3, observe: true, ...redis() })
      const permit = await limiter.acquire(2)
      const done = gate()
      const working = limiter.withPermit(() => done.passed)
      const controller = new AbortController()
      const waiting = rejection(limiter.acquire({ signal: controller.signal }))
      await until(async () => {
        const { permits_in_use, requests_waiting } = await seriesOf(name)
        return permits_in_use === 3 && requests_waiting === 1
      })
      controller.abort()
      await waiting
      const late = rejection(limiter.acquire())
      const closed = limiter.close()
      await late
      permit.release()
      done.open()
      await Promise.all([working, closed])
      const series = await seriesOf(name)
      const { permits_in_use, permits_granted_total, hold_seconds_count, Interrupted, BackendError } = series
      assert.deepStrictEqual(
        { permits_in_use, permits_granted_total, hold_seconds_count, Interrupted, BackendError },
        { permits_in_use: 0, permits_granted_total: 3, hold_seconds_count: 2, Interrupted: 1, BackendError: 1 }
      )
    })

    it("count each permit that is lost, and keys under the name of their limiter", async () => {
      const name = freshName()
      const limiter = createSemaphore({ name, observe: true, ...redis() })
      onTestFinished(() => limiter.close({ timeout: 0 }))
      const ada = limiter.forKey("ada")
      const permit = await ada.acquire()
      assert.strictEqual((await seriesOf(name))["leases_lost_total"], 0)
      const lost = aborted(permit.signal)
      await ada.reset()
      await lost
      permit.release()
      const { leases_lost_total, permits_in_use, permits_granted_total } = await seriesOf(name)
      assert.deepStrictEqual([leases_lost_total, permits_in_use, permits_granted_total], [1, 0, 1])
    })

    it("count each request that finds a bucket used with other options", async () => {
      const options = { name: freshName(), observe: true, ...redis() }
      const [large, small] = [createTokenBucket({ ...options, capacity: 9 }), createTokenBucket(options)]
      onTestFinished(async () => void (await Promise.all([large.close(), small.close()])))
      await large.withPermit(() => {})
      await small.withPermit(() => {})
      assert.strictEqual((await seriesOf(options.name))["options_disagreed_total"], 1)
    })
  })
}

describe("promises that nobody observes", () => {
  it("leave no trace in the metrics, and those over Redis that go on without it tell of that if they are observed", async () => {
    const [quiet, observed] = [freshName(), freshName()]
    await createTokenBucket({ name: quiet }).withPermit(() => {})
    assert.deepStrictEqual(await seriesOf(quiet), {})
    const redis = "redis://127.0.0.1:1"
    const limiter = createTokenBucket({ name: observed, whenAway: "allow", observe: true, redis })
    onTestFinished(() => limiter.close())
    await limiter.withPermit(() => {})
    const { permits_granted_total, permits_granted_away_total } = await seriesOf(observed)
    assert.deepStrictEqual([permits_granted_total, permits_granted_away_total], [1, 1])
  })
})
