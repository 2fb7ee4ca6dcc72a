/**
 * Signals that abort at each moment in the life of a call: before anything is sent, while the connection opens, while
 * the request is on its way, while it waits, when it is granted, while the work runs, when it has ended.
 */
import { createSemaphore, createTokenBucket } from "steindamm/promise"
import { assert, describe, inject, it, onTestFinished } from "vitest"
import { freshName } from "./contract/harness.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { turns, until } from "./support/promises.ts"

// Over Redis a round trip takes several turns of the event loop.
const moments = Array.from({ length: 60 }, (_, n) => n)

/** What became of a call. Only its own reason is accepted as a rejection. */
type Outcome<A> = { readonly value: A } | "aborted"

const abortedAfter = async <A>(n: number, call: (signal: AbortSignal) => Promise<A>): Promise<Outcome<A>> => {
  const controller = new AbortController()
  const reason = { moment: n }
  const outcome = call(controller.signal).then(
    (value) => ({ value }),
    (thrown: unknown) => {
      assert.strictEqual(thrown, reason)
      return "aborted" as const
    }
  )
  if (n > 0) await turns(n - 1)
  controller.abort(reason)
  return outcome
}

describe.for([
  ["in memory", () => ({})],
  ["over Redis", () => ({ redis: inject("redisUrl"), keyPrefix: freshKeyPrefix() })]
] as const)("a signal that aborts at any moment %s", ([, connection]) => {
  const makeSemaphore = () => {
    const limiter = createSemaphore({ name: freshName(), capacity: 1, ...connection() })
    onTestFinished(() => limiter.close())
    return limiter
  }
  const makeBucket = (capacity: number) => {
    const options = { capacity, refillFrequency: "1 hour", maxSleep: "30 days" } as const
    const limiter = createTokenBucket({ name: freshName(), ...options, ...connection() })
    onTestFinished(() => limiter.close())
    return limiter
  }

  it("loses no permit of those who acquire, and frees what nobody got", async () => {
    const limiter = makeSemaphore()
    for (const n of moments) {
      const outcome = await abortedAfter(n, (signal) => limiter.acquire({ signal }))
      if (outcome !== "aborted") outcome.value.release()
      const after = await limiter.acquire()
      after.release()
    }
    const { held, waiting } = await limiter.state()
    assert.deepStrictEqual({ held, waiting }, { held: 0, waiting: 0 })
  })

  it("loses no permit of those who only try", async () => {
    const limiter = makeSemaphore()
    for (const n of moments) {
      const outcome = await abortedAfter(n, (signal) => limiter.tryAcquire({ signal }))
      if (outcome !== "aborted") outcome.value?.release()
      await until(async () => (await limiter.state()).held === 0)
    }
  })

  it("loses no permit of those who wait for each other, and runs nothing that it stopped", async () => {
    const limiter = makeSemaphore()
    let inside = 0
    for (const n of moments) {
      let runs = 0
      const work = (turnsInside: number) => async () => {
        assert.strictEqual(++inside, 1)
        runs++
        await turns(turnsInside)
        inside--
      }
      const outcomes = await Promise.all([
        limiter.withPermit(work(n % 7)).then(() => "done"),
        abortedAfter(n, (signal) => limiter.withPermit(work(3), { signal })),
        abortedAfter(n + 1, (signal) => limiter.withPermit(work(0), { signal })),
        limiter.withPermit(work(0)).then(() => "done")
      ])
      assert.isAtLeast(runs, outcomes.filter((outcome) => outcome !== "aborted").length)
    }
    const { held, waiting } = await limiter.state()
    assert.deepStrictEqual({ held, waiting }, { held: 0, waiting: 0 })
  })

  it("returns the tokens of those who acquire or reserve, unless they got them", async () => {
    const limiter = makeBucket(3)
    for (const n of moments) {
      const outcomes = await Promise.all([
        abortedAfter(n, (signal) => limiter.acquire({ permits: 2, signal })),
        abortedAfter(n, (signal) => limiter.reserve({ permits: 1, signal }))
      ])
      for (const outcome of outcomes) if (outcome !== "aborted") await outcome.value.settle(0)
      await until(async () => (await limiter.state()).tokens === 3)
    }
  })

  it("returns the tokens of work that had not begun, and no others", async () => {
    const limiter = makeBucket(1000)
    let begun = 0
    for (const n of moments) {
      await abortedAfter(n, (signal) =>
        limiter.withPermit(
          async () => {
            begun++
            await turns(n % 3)
          },
          { permits: 10, signal }
        )
      )
      await until(async () => (await limiter.state()).tokens === 1000 - 10 * begun)
    }
    assert.isAbove(begun, 0)
  })

  it("returns the promises of those who wait for tokens", async () => {
    const never = () => assert.fail("ran")
    const limiter = makeBucket(1)
    await limiter.acquire()
    const { wait } = await limiter.state()
    for (const n of moments) {
      for (const call of [
        (signal: AbortSignal) => limiter.acquire({ signal }),
        (signal: AbortSignal) => limiter.withPermit(never, { signal })
      ]) {
        assert.strictEqual(await abortedAfter(n, call), "aborted")
        await until(async () => (await limiter.state()).wait <= wait)
      }
    }
  })

  it("loses nothing while the connection opens", async () => {
    for (const n of moments) {
      const shared = connection()
      const name = freshName()
      const one = createSemaphore({ name, capacity: 1, ...shared })
      const bucket = createTokenBucket({ name, capacity: 1, refillFrequency: "1 hour", ...shared })
      const outcomes = await Promise.all([
        abortedAfter(n, (signal) => one.acquire({ signal })),
        abortedAfter(n, (signal) => bucket.acquire({ signal }))
      ])
      const [permit, tokens] = outcomes
      if (permit !== "aborted") permit.value.release()
      if (tokens !== "aborted") await tokens.value.settle(0)
      await Promise.all([one.close(), bucket.close()])

      const other = createSemaphore({ name, capacity: 1, ...shared })
      const otherBucket = createTokenBucket({ name, capacity: 1, refillFrequency: "1 hour", ...shared })
      assert.isDefined(await otherBucket.tryAcquire(), `tokens after ${n} turns`)
      const free = await other.tryAcquire()
      assert.isDefined(free, `permit after ${n} turns`)
      free?.release()
      await Promise.all([other.close(), otherBucket.close()])
    }
  })
})
