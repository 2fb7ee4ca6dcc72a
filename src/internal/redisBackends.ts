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
import { AwaySemaphores } from "./awaySemaphores.ts"
import type { BucketStore } from "./bucketLimiter.ts"
import type { BucketWaiters } from "./bucketWaiters.ts"
import { observed } from "./observer.ts"
import { type BucketConfig, failing, type RedisLayerConfig, type SemaphoreConfig } from "./options.ts"
import { RedisBuckets } from "./redisBuckets.ts"
import { RedisSemaphores } from "./redisSemaphores.ts"
import type { SemaphoreStore } from "./semaphoreLimiter.ts"

/** What a backend is made of: a client, a name that no other process has, time, and a way to work in the background. */
type Around = readonly [
  client: RedisClient["Service"],
  process: string,
  clock: Clock.Clock,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
]

interface Backend {
  readonly close: Effect.Effect<void>
}

const backend = <A extends Backend>(
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

/** A backend for limiters that fail when Redis is away, and one for the others, which is there once it is needed. */
class Both<Failing extends Backend, Lasting extends Backend> {
  readonly failing: Failing
  private readonly makeLasting: () => Lasting
  private made: Lasting | undefined

  constructor(failing: Failing, makeLasting: () => Lasting) {
    this.failing = failing
    this.makeLasting = makeLasting
  }

  get lasting(): Lasting {
    this.made ??= this.makeLasting()
    return this.made
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() =>
    Effect.all([this.failing.close, this.made?.close ?? Effect.void], { concurrency: "unbounded", discard: true })
  )
}

/** Where token buckets are. */
export interface Buckets {
  readonly store: (config: BucketConfig, waiters: BucketWaiters) => BucketStore
}

/** Where semaphores are. */
export interface Semaphores {
  readonly store: (config: SemaphoreConfig) => SemaphoreStore
}

/** For names of another backend of the same process. */
const lastingName = (process: string): string => `${process}a`

export const redisBuckets = ({
  whenAway,
  awayAfter
}: RedisLayerConfig = failing): Effect.Effect<Buckets, never, RedisClient | Scope.Scope> => {
  const both = backend("TokenBucket", (client, process, clock, fork) => {
    const makeLasting = () => new AwayBuckets(client, lastingName(process), clock, fork, awayAfter)
    return new Both(new RedisBuckets(client, process, clock, fork), makeLasting)
  })
  return Effect.map(both, (both) => ({
    store: (config, waiters) => {
      const policy = config.whenAway ?? whenAway
      const hasRate = config.rules.amount > 0
      return policy === "allow" || (policy !== "fail" && hasRate)
        ? both.lasting.store(config, policy, waiters)
        : both.failing.store(config)
    }
  }))
}

export const redisSemaphores = ({
  whenAway,
  awayAfter
}: RedisLayerConfig = failing): Effect.Effect<Semaphores, never, RedisClient | Scope.Scope> => {
  const both = backend("Semaphore", (client, process, clock, fork) => {
    const makeLasting = () => new AwaySemaphores(client, lastingName(process), clock, fork, awayAfter)
    return new Both(new RedisSemaphores(client, process, clock, fork), makeLasting)
  })
  return Effect.map(both, (both) => ({
    store: (config) => {
      const policy = config.whenAway ?? whenAway
      return policy === "fail" ? both.failing.store(config) : both.lasting.store(config, policy)
    }
  }))
}
