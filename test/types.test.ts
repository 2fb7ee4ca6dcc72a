/**
 * What each verb adds to the error and requirement channels. The compiler checks this file; at run time it only has to
 * load.
 */
import type { Config, Duration, Effect, Layer, Option, Scope } from "effect"
import {
  type BackendError,
  type InvalidOptions,
  LocalLive,
  LocalSemaphoreLive,
  LocalTokenBucketLive,
  type MaxSleepExceeded,
  type NoTokensAvailable,
  type PermitLost,
  type Reservation,
  Semaphore,
  type SemaphoreLimiter,
  type SemaphorePermit,
  type SemaphoreState,
  TokenBucket,
  type TokenBucketLimiter,
  type TokenBucketPermit,
  type TokenBucketState
} from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { expectTypeOf, it } from "vitest"

declare const bucket: TokenBucketLimiter
declare const semaphore: SemaphoreLimiter
declare const work: Effect.Effect<"value", "failure", "requirement">

const describeTypes = () => {
  expectTypeOf(TokenBucket.make({ name: "x" })).toEqualTypeOf<
    Effect.Effect<TokenBucketLimiter, InvalidOptions, TokenBucket>
  >()
  expectTypeOf(Semaphore.make({ name: "x" })).toEqualTypeOf<
    Effect.Effect<SemaphoreLimiter, InvalidOptions, Semaphore>
  >()

  expectTypeOf(bucket.withPermit(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | MaxSleepExceeded | NoTokensAvailable | BackendError, "requirement">
  >()
  expectTypeOf(semaphore.withPermit(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | MaxSleepExceeded | BackendError | PermitLost, "requirement">
  >()
  expectTypeOf(work.pipe(semaphore.withPermit)).toEqualTypeOf(semaphore.withPermit(work))

  expectTypeOf(bucket.withPermits(2)(work)).toEqualTypeOf<
    Effect.Effect<
      "value",
      "failure" | MaxSleepExceeded | NoTokensAvailable | BackendError | InvalidOptions,
      "requirement"
    >
  >()
  expectTypeOf(semaphore.withPermits(2)(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | MaxSleepExceeded | BackendError | PermitLost | InvalidOptions, "requirement">
  >()

  expectTypeOf(bucket.withPermitsIfAvailable(2)(work)).toEqualTypeOf<
    Effect.Effect<Option.Option<"value">, "failure" | BackendError | InvalidOptions, "requirement">
  >()
  expectTypeOf(semaphore.withPermitsIfAvailable(2)(work)).toEqualTypeOf<
    Effect.Effect<Option.Option<"value">, "failure" | PermitLost | BackendError | InvalidOptions, "requirement">
  >()

  expectTypeOf(bucket.acquire()).toEqualTypeOf<
    Effect.Effect<TokenBucketPermit, MaxSleepExceeded | NoTokensAvailable | BackendError | InvalidOptions, Scope.Scope>
  >()
  expectTypeOf(semaphore.acquire(2)).toEqualTypeOf<
    Effect.Effect<SemaphorePermit, MaxSleepExceeded | BackendError | InvalidOptions, Scope.Scope>
  >()

  expectTypeOf(bucket.wrap((_a: number, _b: string) => work)).toEqualTypeOf<
    (
      a: number,
      b: string
    ) => Effect.Effect<"value", "failure" | MaxSleepExceeded | NoTokensAvailable | BackendError, "requirement">
  >()

  expectTypeOf(bucket.state).toEqualTypeOf<Effect.Effect<TokenBucketState, BackendError>>()
  expectTypeOf(semaphore.state).toEqualTypeOf<Effect.Effect<SemaphoreState, BackendError>>()
  expectTypeOf(bucket.reset).toEqualTypeOf<Effect.Effect<void, BackendError>>()
  expectTypeOf(semaphore.resize(2)).toEqualTypeOf<Effect.Effect<void, InvalidOptions | BackendError>>()

  expectTypeOf(bucket.pause("1 second")).toEqualTypeOf<Effect.Effect<void, InvalidOptions | BackendError>>()

  expectTypeOf(bucket.reserve()).toEqualTypeOf<
    Effect.Effect<Reservation, MaxSleepExceeded | NoTokensAvailable | BackendError | InvalidOptions>
  >()
  expectTypeOf<Reservation["delay"]>().toEqualTypeOf<Duration.Duration>()
  expectTypeOf<Reservation["cancel"]>().toEqualTypeOf<Effect.Effect<void>>()
  expectTypeOf<SemaphorePermit["lost"]>().toEqualTypeOf<Effect.Effect<never, PermitLost>>()

  expectTypeOf(LocalTokenBucketLive).toEqualTypeOf<Layer.Layer<TokenBucket>>()
  expectTypeOf(LocalSemaphoreLive).toEqualTypeOf<Layer.Layer<Semaphore>>()
  expectTypeOf(LocalLive).toEqualTypeOf<Layer.Layer<TokenBucket | Semaphore>>()
  expectTypeOf(RedisLive).toEqualTypeOf<Layer.Layer<TokenBucket | Semaphore, never, RedisClient>>()
  expectTypeOf(RedisClient.layer({ url: "redis://localhost" })).toExtend<Layer.Layer<RedisClient, InvalidOptions>>()

  class Limit extends TokenBucket.Service<Limit>()("test/Limit", { name: "x" }) {}
  expectTypeOf(Limit.layer).toEqualTypeOf<Layer.Layer<Limit, InvalidOptions, TokenBucket>>()
  expectTypeOf(Limit.use((limiter) => limiter.reset)).toEqualTypeOf<Effect.Effect<void, BackendError, Limit>>()
  const options = {} as Config.Config<{ name: string; capacity: number }>
  class Configured extends Semaphore.Service<Configured>()("test/Configured", options) {}
  expectTypeOf(Configured.layer).toEqualTypeOf<
    Layer.Layer<Configured, InvalidOptions | Config.ConfigError, Semaphore>
  >()
}

it("the types are checked by the compiler", () => {
  expectTypeOf(describeTypes).toBeFunction()
})
