import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer, Random, References } from "effect"
import { Limiter, Semaphore, type SemaphoreLimiter, TokenBucket, type TokenBucketLimiter } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { excess } from "./support/bucketSwarm.ts"
import { startProxy, type TcpProxy } from "./support/proxy.ts"
import { startServer } from "./support/servers.ts"

/** How often the server has run a script. */
const calls = (server: { readonly command: (...words: ReadonlyArray<string>) => Effect.Effect<unknown> }) =>
  Effect.map(server.command("INFO", "commandstats"), (stats) =>
    Number(/cmdstat_evalsha:calls=(\d+)/.exec(String(stats))?.[1] ?? 0)
  )

const fast = { name: "fast", capacity: 20, refillAmount: 1, refillFrequency: 10, maxSleep: 1000 }
/** In threes: as often as from the other one a third of this can be had. */
const slow = { name: "slow", capacity: 30, refillAmount: 3, refillFrequency: 25, maxSleep: 1000 }

/** A process of its own, as far as Redis can tell. */
const buildLimiters = (url: string) =>
  Effect.flatMap(
    Layer.build(Layer.fresh(RedisLive.pipe(Layer.provide(RedisClient.layer({ url, replyTimeout: "200 millis" }))))),
    (context) =>
      Effect.provideContext(
        Effect.all({
          fast: TokenBucket.make(fast),
          slow: TokenBucket.make(slow),
          one: TokenBucket.make({ name: "one", capacity: 100_000, refillAmount: 0, refillFrequency: 0 }),
          other: TokenBucket.make({ name: "other", capacity: 700_000, refillAmount: 0, refillFrequency: 0 }),
          permits: Semaphore.make({ name: "permits", capacity: 4, maxSleep: 1000 })
        }),
        context
      )
  )

interface Limiters {
  readonly fast: TokenBucketLimiter
  readonly slow: TokenBucketLimiter
  readonly one: TokenBucketLimiter
  readonly other: TokenBucketLimiter
  readonly permits: SemaphoreLimiter
}

/** Repeats work on several processes at once for three seconds, while something else goes on. */
const crowd = (
  url: string,
  work: (limiters: Limiters, now: () => number) => Effect.Effect<unknown, unknown>,
  meanwhile: Effect.Effect<void>
) =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const start = Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6 - start
    const processes = yield* Effect.forEach([1, 2, 3], () => buildLimiters(url))
    const chaos = yield* Effect.forkChild(meanwhile)
    yield* Effect.forEach(
      processes.flatMap((limiters) => Array.from({ length: 6 }, () => limiters)),
      (limiters) =>
        Effect.gen(function* () {
          while (now() < 3000) yield* Effect.exit(work(limiters, now))
        }),
      { concurrency: "unbounded", discard: true }
    )
    yield* Fiber.interrupt(chaos)
  }).pipe(Effect.provideService(References.MinimumLogLevel, "Error"))

const breakConnections = (proxy: Pick<TcpProxy, "killConnections" | "cutReplies">): Effect.Effect<void> =>
  Effect.forever(
    Effect.gen(function* () {
      yield* Effect.sleep("100 millis")
      if (yield* Random.nextBoolean) proxy.killConnections()
      else proxy.cutReplies(1)
    })
  )

/** Interrupted after up to so many milliseconds, now and then. */
const impatiently = <A, E, R>(effect: Effect.Effect<A, E, R>, millis: number) =>
  Effect.gen(function* () {
    if (yield* Random.nextBoolean) return yield* effect
    return yield* Effect.timeoutOption(effect, yield* Random.nextIntBetween(0, millis))
  })

describe("several limiters over Redis", { timeout: 60_000 }, () => {
  it.live("ask the server once for all their token buckets", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const { fast, slow, one, other } = yield* buildLimiters(server.url)
      const joint = Limiter.all([fast, { limiter: slow, permits: 3 }, one, other])
      assert.isTrue(joint.isAtomic)
      yield* joint.withPermit(Effect.void)
      const before = yield* calls(server)
      for (let i = 0; i < 9; i++) yield* joint.withPermit(Effect.void)
      assert.strictEqual((yield* calls(server)) - before, 9)
    })
  )

  it.live("admit no more than each of them does, and as much as the slowest, over several processes", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const admissions: Array<number> = []
      yield* crowd(
        server.url,
        ({ fast, slow }, now) =>
          impatiently(
            Limiter.all([fast, { limiter: slow, permits: 3 }]).withPermit(Effect.sync(() => admissions.push(now()))),
            400
          ),
        Effect.void
      )
      admissions.sort((a, b) => a - b)
      const inThrees = { ...slow, capacity: slow.capacity / 3, refillAmount: slow.refillAmount / 3 }
      const over = [excess({ admissions }, fast, 150), excess({ admissions }, inThrees, 150)]
      console.log("several", JSON.stringify({ admitted: admissions.length, nominal: 10 + 3000 / 25, over }))
      for (const one of over) assert.isAtMost(one, 0)
      assert.isAtLeast(admissions.length, 60)
    })
  )

  it.live("lose and invent no token while connections break and waits are interrupted", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      let ran = 0
      let failed = 0
      yield* crowd(
        proxy.url,
        ({ one, other, permits }) =>
          impatiently(
            Limiter.all([permits, one, { limiter: other, permits: 7 }]).withPermit(
              Effect.andThen(
                Effect.sync(() => ran++),
                Effect.sleep("2 millis")
              )
            ),
            20
          ).pipe(
            Effect.tapCause(() =>
              Effect.sync(() => {
                failed++
              })
            )
          ),
        breakConnections(proxy)
      )
      proxy.mode = "pass"
      const { one, other, permits } = yield* buildLimiters(server.url)
      const look = Effect.gen(function* () {
        const [ofOne, ofOther] = [100_000 - (yield* one.state).tokens, 700_000 - (yield* other.state).tokens]
        return { ofOne, ofOther, held: (yield* permits.state).held }
      })
      // What nobody waits for any more is given back in the background.
      const expected = { ofOne: ran, ofOther: 7 * ran, held: 0 }
      let seen = yield* look
      for (let i = 0; i < 100 && JSON.stringify(seen) !== JSON.stringify(expected); i++) {
        yield* Effect.sleep("100 millis")
        seen = yield* look
      }
      console.log("conserved", JSON.stringify({ ran, failed, cut: proxy.counts.cut }))
      assert.deepStrictEqual(seen, expected)
      assert.isAbove(ran, 20)
    })
  )
})
