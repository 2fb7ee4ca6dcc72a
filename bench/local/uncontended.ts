/**
 * One caller, and always enough tokens and permits: what a limiter costs when it limits nothing.
 */
import Bottleneck from "bottleneck"
import { Effect } from "effect"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { TokenBucket as PeerBucket } from "limiter"
import { RateLimiterMemory } from "rate-limiter-flexible"
import { TokenBucket } from "steindamm"
import { type Contestant, race, repeat, report } from "../harness.ts"
import { semaphores } from "./peers.ts"

const plenty = 1e9

/** For work that takes milliseconds, and not a microsecond. */
const slow = 0.002

const withBottleneck = (options: Bottleneck.ConstructorOptions, work: Effect.Effect<void>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Bottleneck(options)),
      (bottleneck) => Effect.promise(() => bottleneck.disconnect())
    ),
    (bottleneck): Contestant => ({
      label: "bottleneck",
      run: repeat(Effect.promise(() => bottleneck.schedule(() => Effect.runPromise(work)))),
      share: slow
    })
  )

const buckets = (work: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const bucket = yield* TokenBucket.make({ name: "uncontended", capacity: plenty, refillAmount: plenty })
    const keyed = yield* TokenBucket.makeKeyed({ name: "keyed", capacity: plenty, refillAmount: plenty })
    const rateLimiter = yield* RateLimiter.RateLimiter
    const consume = rateLimiter.consume({ algorithm: "token-bucket", key: "k", limit: plenty, window: "1 second" })
    const flexible = new RateLimiterMemory({ points: plenty, duration: 1 })
    const peerBucket = new PeerBucket({ bucketSize: plenty, tokensPerInterval: plenty, interval: "second" })
    const after = (asked: Effect.Effect<unknown, unknown>) => repeat(Effect.andThen(asked, work))
    const contestants: ReadonlyArray<Contestant> = [
      { label: "steindamm TokenBucket", run: repeat(bucket.withPermit(work)) },
      { label: "steindamm TokenBucket, by key", run: repeat(keyed.withPermit("key")(work)) },
      { label: "effect RateLimiter, memory", run: after(consume) },
      { label: "rate-limiter-flexible, memory", run: after(Effect.promise(() => flexible.consume("key"))) },
      { label: "limiter", run: after(Effect.promise(() => peerBucket.removeTokens(1))) },
      yield* withBottleneck({ reservoir: plenty }, work)
    ]
    return contestants
  })

export const uncontended = (rounds: number) =>
  Effect.gen(function* () {
    for (const [what, work] of [
      ["work that is over at once", Effect.sync(() => {})],
      ["work that waits a turn", Effect.yieldNow]
    ] as const) {
      const alone: Contestant = { label: "the work alone", run: repeat(work) }
      const guards = (yield* semaphores(what, 5)).map(({ label, guard }) => ({ label, run: repeat(guard(work)) }))
      const bottleneck = yield* withBottleneck({ maxConcurrent: 5 }, work)
      const effort = { count: 20_000, rounds }
      report(`token bucket, ${what}`, yield* race([...(yield* buckets(work)), alone], effort))
      report(`semaphore, ${what}`, yield* race([...guards, bottleneck, alone], effort))
    }
  }).pipe(Effect.scoped)
