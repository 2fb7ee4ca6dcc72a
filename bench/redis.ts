/**
 * Limiters over Redis against their peers and against a script that does nothing, on a server of their own:
 * `npm run bench:redis`.
 */
import { Duration, Effect, Layer } from "effect"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { Redis } from "ioredis"
import { RateLimiterRedis } from "rate-limiter-flexible"
import { Semaphore as PeerSemaphore } from "redis-semaphore"
import { Observation, Semaphore, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { startServer } from "../test/support/servers.ts"
import { type Contestant, race, report } from "./harness.ts"

/** So many callers, each of whom calls again as soon as it has its answer. */
const callers = (callers: number, call: (index: number) => Effect.Effect<unknown, unknown>) => (count: number) => {
  let left = count
  const caller = Effect.gen(function* () {
    while (left > 0) yield* call(left--)
  })
  return Effect.forEach(Array.from({ length: callers }), () => caller, { concurrency: "unbounded", discard: true })
}

/** The same for promises, without anything in between. */
const promisedCallers = (callers: number, call: (index: number) => Promise<unknown>) => (count: number) =>
  Effect.promise(async () => {
    let left = count
    const caller = async () => {
      while (left > 0) await call(left--)
    }
    await Promise.all(Array.from({ length: callers }, caller))
  })

const limiters = 10_000

const main = Effect.gen(function* () {
  const server = yield* startServer()
  const redis = yield* Effect.acquireRelease(
    Effect.sync(() => new Redis(server.url)),
    (redis) => Effect.sync(() => redis.disconnect())
  )
  const nothing = String(yield* Effect.promise(() => redis.script("LOAD", "return 1")))
  const bare = () => redis.evalsha(nothing, 1, "{bare}")

  yield* Effect.gen(function* () {
    const options = { capacity: 1e6, refillAmount: 1e6, refillFrequency: "1 second" } as const
    const bucket = yield* TokenBucket.make({ name: "bench", ...options })
    const observedLayer = Layer.fresh(RedisLive).pipe(Layer.provide(Observation.layer()))
    const counted = yield* Effect.flatMap(Layer.build(observedLayer), (context) =>
      Effect.provideContext(TokenBucket.make({ name: "bench", ...options }), context)
    )
    const buckets = yield* Effect.forEach(Array.from({ length: limiters }), (_, index) =>
      TokenBucket.make({ name: `bench ${index}`, ...options })
    )
    const flexible = new RateLimiterRedis({ storeClient: redis, points: 1e9, duration: 1 })
    const effectLimiter = yield* RateLimiter.RateLimiter
    const consume = (key: string) =>
      effectLimiter.consume({ algorithm: "token-bucket", key, limit: 1e6, window: Duration.seconds(1) })

    const rows = (number: number, keys: number): ReadonlyArray<Contestant> => {
      const key = (index: number) => `${index % keys}`
      return [
        { label: "bare evalsha, return 1", run: promisedCallers(number, bare) },
        {
          label: "steindamm token bucket",
          run: callers(number, (index) =>
            (keys === 1 ? bucket : (buckets[index % keys] ?? bucket)).withPermit(Effect.void)
          )
        },
        { label: "rate-limiter-flexible", run: promisedCallers(number, (index) => flexible.consume(key(index))) },
        { label: "effect RateLimiter", run: callers(number, (index) => consume(key(index))) }
      ]
    }
    report("token bucket, 1 caller", yield* race(rows(1, 1), { count: 10_000, rounds: 5 }))
    report("token bucket, 1,024 callers, 1 limiter", yield* race(rows(1024, 1), { count: 100_000, rounds: 5 }))
    report(
      "token bucket, 1,024 callers, 10,000 limiters",
      yield* race(rows(1024, limiters), { count: 100_000, rounds: 5 })
    )

    for (const [number, count] of [
      [1, 10_000],
      [1024, 100_000]
    ] as const) {
      report(
        `token bucket observed, ${number.toLocaleString("en")} callers, 1 limiter`,
        yield* race(
          [
            { label: "not observed", run: callers(number, () => bucket.withPermit(Effect.void)) },
            { label: "counted", run: callers(number, () => counted.withPermit(Effect.void)) }
          ],
          { count, rounds: 5 }
        )
      )
    }

    const semaphore = yield* Semaphore.make({ name: "bench", capacity: 4 })
    const twice = async () => {
      await bare()
      await bare()
    }
    const peer = async () => {
      const mutex = new PeerSemaphore(redis, "bench", 4)
      await mutex.acquire()
      await mutex.release()
    }
    report(
      "semaphore, 1 caller: acquire and release",
      yield* race(
        [
          { label: "bare evalsha twice", run: promisedCallers(1, twice) },
          { label: "steindamm semaphore", run: callers(1, () => semaphore.withPermit(Effect.void)) },
          { label: "redis-semaphore", run: promisedCallers(1, peer) }
        ],
        { count: 5_000, rounds: 5 }
      )
    )
    report(
      "semaphore, 32 callers, capacity 4",
      yield* race(
        [
          { label: "steindamm semaphore", run: callers(32, () => semaphore.withPermit(Effect.void)) },
          { label: "redis-semaphore", run: promisedCallers(32, peer), share: 0.2 }
        ],
        { count: 5_000, rounds: 3 }
      )
    )
  }).pipe(
    Effect.provide(
      Layer.mergeAll(RedisLive, RateLimiter.layer.pipe(Layer.provide(RateLimiter.layerStoreRedis()))).pipe(
        Layer.provideMerge(RedisClient.layer({ url: server.url }))
      )
    )
  )
})

Effect.runPromise(Effect.scoped(main))
