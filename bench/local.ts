/**
 * Limiters in memory against their peers: `npm run bench`, or `npm run bench -- uncontended waiters keys`.
 */
import { Sema } from "async-sema"
import Bottleneck from "bottleneck"
import { Clock, Deferred, Effect, Semaphore as EffectSemaphore, Fiber, Layer, Result } from "effect"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { TokenBucket as PeerBucket } from "limiter"
import pLimit from "p-limit"
import { RateLimiterMemory } from "rate-limiter-flexible"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"
import { makeBucketLimiter } from "../src/internal/bucketLimiter.ts"
import { BucketWaiters } from "../src/internal/bucketWaiters.ts"
import { LocalBuckets } from "../src/internal/localBuckets.ts"
import { bucketConfig } from "../src/internal/options.ts"
import { type Contestant, heapUsed, race, report } from "./harness.ts"

const repeat = (effect: Effect.Effect<unknown, unknown>) => (count: number) =>
  Effect.gen(function* () {
    for (let i = 0; i < count; i++) yield* effect
  })

const work = Effect.sync(() => {})
const promisedWork = async () => {}

const uncontended = Effect.gen(function* () {
  const bucket = yield* TokenBucket.make({
    name: "bench",
    capacity: 1e9,
    refillAmount: 1e9,
    refillFrequency: "1 second"
  })
  const rateLimiter = yield* RateLimiter.RateLimiter
  const consume = rateLimiter.consume({ algorithm: "token-bucket", key: "bench", limit: 1e9, window: "1 second" })
  const flexible = new RateLimiterMemory({ points: 1e9, duration: 1 })
  const peerBucket = new PeerBucket({ bucketSize: 1e9, tokensPerInterval: 1e9, interval: "second" })
  const reservoir = new Bottleneck({ reservoir: 1e9, reservoirRefreshAmount: 1e9, reservoirRefreshInterval: 60_000 })
  const buckets: ReadonlyArray<Contestant> = [
    { label: "steindamm token bucket", run: repeat(bucket.withPermit(work)) },
    { label: "effect RateLimiter (memory)", run: repeat(Effect.andThen(consume, work)) },
    {
      label: "rate-limiter-flexible (memory)",
      run: repeat(
        Effect.andThen(
          Effect.promise(() => flexible.consume("bench")),
          work
        )
      )
    },
    {
      label: "limiter",
      run: repeat(
        Effect.andThen(
          Effect.promise(() => peerBucket.removeTokens(1)),
          work
        )
      )
    },
    { label: "bottleneck", run: repeat(Effect.promise(() => reservoir.schedule(promisedWork))), share: 0.002 }
  ]
  report("token bucket, uncontended", yield* race(buckets, { count: 100_000, rounds: 5 }))
  yield* Effect.promise(() => reservoir.disconnect())

  const semaphore = yield* Semaphore.make({ name: "bench", capacity: 5 })
  const core = EffectSemaphore.makeUnsafe(5)
  const limit = pLimit(5)
  const sema = new Sema(5)
  const concurrent = new Bottleneck({ maxConcurrent: 5 })
  const withSema = async () => {
    await sema.acquire()
    await promisedWork()
    sema.release()
  }
  const semaphores: ReadonlyArray<Contestant> = [
    { label: "steindamm semaphore", run: repeat(semaphore.withPermit(work)) },
    { label: "effect Semaphore", run: repeat(core.withPermit(work)) },
    { label: "p-limit", run: repeat(Effect.promise(() => limit(promisedWork))) },
    { label: "async-sema", run: repeat(Effect.promise(withSema)) },
    { label: "bottleneck", run: repeat(Effect.promise(() => concurrent.schedule(promisedWork))), share: 0.002 }
  ]
  report("semaphore, uncontended", yield* race(semaphores, { count: 100_000, rounds: 5 }))
  yield* Effect.promise(() => concurrent.disconnect())
})

/** All at once, of which one at a time may run. */
const crowd = (enter: Effect.Effect<unknown, unknown>) => (count: number) =>
  Effect.forEach(Array.from({ length: count }), () => enter, { concurrency: "unbounded", discard: true })

const waiters = Effect.gen(function* () {
  const count = 100_000
  const semaphore = yield* Semaphore.make({ name: "crowd", capacity: 1, maxSleep: 0 })
  const core = EffectSemaphore.makeUnsafe(1)
  const limit = pLimit(1)
  const sema = new Sema(1)
  const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
  const withSema = async () => {
    await sema.acquire()
    await turn()
    sema.release()
  }
  const contestants: ReadonlyArray<Contestant> = [
    { label: "steindamm semaphore", run: crowd(semaphore.withPermit(Effect.yieldNow)) },
    // Quadratic in waiters: it is given a twentieth, which would be four hundred times as much work at full size.
    { label: "effect Semaphore, 5,000 waiters", run: crowd(core.withPermit(Effect.yieldNow)), share: 0.05 },
    { label: "p-limit", run: crowd(Effect.promise(() => limit(turn))) },
    { label: "async-sema", run: crowd(Effect.promise(withSema)) }
  ]
  report("semaphore, 100,000 waiters at once", yield* race(contestants, { count, rounds: 2 }))

  const before = heapUsed()
  const gate = yield* Deferred.make<void>()
  const holder = yield* Effect.forkChild(semaphore.withPermit(Deferred.await(gate)), { startImmediately: true })
  const bare: Array<Fiber.Fiber<unknown, unknown>> = []
  for (let i = 0; i < count; i++) {
    bare.push(yield* Effect.forkChild(Deferred.await(gate), { startImmediately: true }))
  }
  const withoutLimiter = heapUsed() - before
  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (let i = 0; i < count; i++) {
    fibers.push(yield* Effect.forkChild(semaphore.withPermit(Effect.void), { startImmediately: true }))
  }
  const withLimiter = heapUsed() - before - withoutLimiter
  console.log(
    `  bytes a waiter: ${Math.round(withLimiter / count)}, of which its fiber ${Math.round(withoutLimiter / count)}`
  )
  yield* Deferred.succeed(gate, undefined)
  yield* Fiber.joinAll([holder, ...bare, ...fibers])
})

const keys = Effect.gen(function* () {
  const count = 1_000_000
  const buckets = new LocalBuckets(yield* Clock.Clock)
  const lines = new BucketWaiters()
  const limiter = (name: string) => {
    const options = { name, capacity: 2, refillFrequency: "5 seconds" }
    const config = Result.getOrThrow(bucketConfig(options, 0))
    return makeBucketLimiter(config, buckets.store(config), lines)
  }
  const before = heapUsed()
  for (let i = 0; i < count; i++) yield* limiter(`user ${i}`).withPermit(Effect.void)
  const after = heapUsed()
  yield* Effect.sleep("6 seconds")
  const other = limiter("other")
  for (let i = 0; i < count / 2; i++) yield* other.withPermits(0.000001)(Effect.void)
  console.log("\ntoken bucket, a million keys")
  console.log(
    `  bytes a key: ${Math.round((after - before) / count)}, once idle ${Math.round((heapUsed() - before) / count)}`
  )
})

const parts: Record<string, Effect.Effect<void, unknown, TokenBucket | Semaphore | RateLimiter.RateLimiter>> = {
  uncontended,
  waiters,
  keys
}

const chosen = process.argv.slice(2)

const main = Effect.gen(function* () {
  for (const name of chosen.length > 0 ? chosen : Object.keys(parts)) {
    const part = parts[name]
    if (part === undefined)
      return yield* Effect.die(`There is no "${name}": choose from ${Object.keys(parts).join(", ")}`)
    yield* part
  }
})

const live = Layer.merge(LocalLive, RateLimiter.layer.pipe(Layer.provide(RateLimiter.layerStoreMemory)))

Effect.runPromise(main.pipe(Effect.provide(live)))
