/**
 * The limiters of one process over one Redis, until their scope closes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { LimiterKind } from "../Errors.ts"
import { RedisClient } from "../RedisClient.ts"
import { AwayBuckets } from "./awayBuckets.ts"
import type { BucketStore } from "./bucketLimiter.ts"
import type { BucketWaiters } from "./bucketWaiters.ts"
import { observed } from "./observer.ts"
import { type BucketConfig, failing, type RedisLayerConfig } from "./options.ts"
import { RedisBuckets } from "./redisBuckets.ts"
import { RedisSemaphores } from "./redisSemaphores.ts"

/** What a backend is made of: a client, a name that no other process has, time, and a way to work in the background. */
type Around = readonly [
  client: RedisClient["Service"],
  process: string,
  clock: Clock.Clock,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
]

const backend = <A extends { readonly close: Effect.Effect<void> }>(
  kind: LimiterKind,
  make: (...around: Around) => A
): Effect.Effect<A, never, RedisClient | Scope.Scope> =>
  Effect.gen(function* () {
    const bare = yield* RedisClient
    const client = yield* observed(
      () => bare,
      (observer) => observer.redisClient(bare, kind)
    )
    const clock = yield* Clock.Clock
    const words = yield* Effect.all(Array.from({ length: 3 }, () => Random.nextIntBetween(0, 2 ** 32)))
    const process = words.map((word) => word.toString(36)).join("")
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    return yield* Effect.acquireRelease(
      Effect.sync(() => make(client, process, clock, (effect) => fork(effect))),
      ({ close }) => close
    )
  })

/** Redis's own store of a bucket, or one that goes on without Redis: what that takes is there once it is needed. */
class WhicheverBuckets {
  private readonly around: Around
  private readonly config: RedisLayerConfig
  private readonly failing: RedisBuckets
  private made: AwayBuckets | undefined

  constructor(config: RedisLayerConfig, around: Around) {
    this.config = config
    this.around = around
    this.failing = new RedisBuckets(...around)
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() =>
    Effect.all([this.failing.close, this.made?.close ?? Effect.void], { concurrency: "unbounded", discard: true })
  )

  store(config: BucketConfig, waiters: BucketWaiters): BucketStore {
    const whenAway = config.whenAway ?? this.config.whenAway
    const hasRate = config.rules.amount > 0
    return whenAway === "allow" || (whenAway !== "fail" && hasRate)
      ? this.lasting.store(config, whenAway, waiters)
      : this.failing.store(config)
  }

  private get lasting(): AwayBuckets {
    const [client, process, clock, fork] = this.around
    this.made ??= new AwayBuckets(client, `${process}a`, clock, fork, this.config.awayAfter)
    return this.made
  }
}

export const redisBuckets = (
  config: RedisLayerConfig = failing
): Effect.Effect<WhicheverBuckets, never, RedisClient | Scope.Scope> =>
  backend("TokenBucket", (...around) => new WhicheverBuckets(config, around))

export const redisSemaphores: Effect.Effect<RedisSemaphores, never, RedisClient | Scope.Scope> = backend(
  "Semaphore",
  (...around) => new RedisSemaphores(...around)
)
