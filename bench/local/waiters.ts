/**
 * Everybody at once: how long a crowd takes to get through, and how much memory those take who wait.
 */
import { Deferred, Effect, Fiber } from "effect"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { TokenBucket as PeerBucket } from "limiter"
import { TokenBucket } from "steindamm"
import { type Contestant, heapUsed, race, report, reportBytes } from "../harness.ts"
import { type Guard, semaphores } from "./peers.ts"

const fork = (effect: Effect.Effect<unknown, unknown>) => Effect.forkChild(effect, { startImmediately: true })

/** Lets a crowd come while the only permit is taken, tells when all of it waits, and lets it through. */
const throughOne = (
  { guard }: Guard,
  work: Effect.Effect<void>,
  count: number,
  whenAllWait: Effect.Effect<void> = Effect.void
) =>
  Effect.gen(function* () {
    const gate = yield* Deferred.make<void>()
    const one = guard(work)
    const fibers = [yield* fork(guard(Deferred.await(gate)))]
    for (let i = 0; i < count; i++) fibers.push(yield* fork(one))
    yield* whenAllWait
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.joinAll(fibers)
  })

/** How the heap has grown for each who waits. */
const bytesAWaiter = (guard: Guard, count: number) =>
  Effect.gen(function* () {
    const before = yield* heapUsed
    let waiting = before
    const look = Effect.map(heapUsed, (bytes) => {
      waiting = bytes
    })
    yield* throughOne(guard, Effect.void, count, look)
    return (waiting - before) / count
  })

/** Milliseconds in which the tokens come that everybody waits for. */
const window = 2000

/** All ask at once, of a bucket that starts empty. */
const buckets = Effect.gen(function* () {
  const { make } = yield* TokenBucket
  const rateLimiter = yield* RateLimiter.RateLimiter
  let names = 0
  const together = (count: number, ask: Effect.Effect<unknown, unknown>) =>
    Effect.forEach(Array.from({ length: count }), () => ask, { concurrency: "unbounded", discard: true })
  const contestants: ReadonlyArray<Contestant> = [
    {
      label: "steindamm TokenBucket",
      run: (count) => {
        const rate = { refillAmount: count, refillFrequency: window, refill: "continuous" } as const
        return Effect.flatMap(make({ name: `${++names}`, capacity: count, initialTokens: 0, ...rate }), (bucket) =>
          together(count, bucket.withPermit(Effect.void))
        )
      }
    },
    {
      label: "effect RateLimiter, memory",
      run: (count) => {
        const options = { algorithm: "token-bucket", key: `${++names}`, limit: count, window } as const
        const emptied = rateLimiter.consume({ ...options, tokens: count })
        return Effect.andThen(emptied, together(count, RateLimiter.sleep(rateLimiter, options)))
      }
    },
    {
      label: "limiter",
      run: (count) => {
        const bucket = new PeerBucket({ bucketSize: count, tokensPerInterval: count, interval: window })
        return together(
          count,
          Effect.promise(() => bucket.removeTokens(1))
        )
      }
    }
  ]
  return contestants
})

const bytesAFiber = (count: number) =>
  Effect.gen(function* () {
    const gate = yield* Deferred.make<void>()
    const before = yield* heapUsed
    const fibers = yield* Effect.forEach(Array.from({ length: count }), () => fork(Deferred.await(gate)))
    const bytes = ((yield* heapUsed) - before) / count
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.joinAll(fibers)
    return bytes
  })

/** `isWhole`: those too come as a whole crowd for whom a part of it is enough. */
export const waiters = (count: number, isWhole: boolean) =>
  Effect.gen(function* () {
    const size = count.toLocaleString("en")
    const guards = (yield* semaphores("crowd", 1)).map(({ label, guard, share = 1 }) =>
      isWhole || share === 1
        ? { label, guard, share: 1 }
        : { label: `${label}, ${count * share} waiters`, guard, share }
    )
    for (const [what, work] of [
      ["over at once", Effect.void],
      ["waits a turn", Effect.yieldNow]
    ] as const) {
      const contestants = guards.map((guard) => ({ ...guard, run: (n: number) => throughOne(guard, work, n) }))
      report(`${size} for one permit, work ${what}`, yield* race(contestants, { count, rounds: isWhole ? 1 : 3 }))
    }
    report(`${size} for tokens that come in ${window} ms`, yield* race(yield* buckets, { count, rounds: 1 }))

    const rows: Array<readonly [label: string, bytes: number]> = []
    for (const guard of guards) rows.push([guard.label, yield* bytesAWaiter(guard, count * guard.share)])
    rows.push(["nothing: a bare fiber", yield* bytesAFiber(count)])
    reportBytes("waiting for", ["bytes each"], rows)
  })
