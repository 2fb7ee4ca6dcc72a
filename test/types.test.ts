/**
 * What each verb adds to the error and requirement channels. The compiler checks this file; at run time it only has to
 * load.
 */
import { type Config, type Duration, Effect, type Layer, type Option, type Scope, type Stream } from "effect"
import { type HttpClient, HttpRouter, type HttpServerRequest, type HttpServerResponse } from "effect/http"
import {
  type AnyLimiter,
  type BackendError,
  type InvalidOptions,
  type JointLimiter,
  type KeyedSemaphoreLimiter,
  type KeyedTokenBucketLimiter,
  Limiter,
  LocalLive,
  LocalSemaphoreLive,
  LocalTokenBucketLive,
  type MaxSleepExceeded,
  mapWithPermit,
  type NoTokensAvailable,
  type PermitLost,
  type Reservation,
  retryAfter,
  Semaphore,
  type SemaphoreLimiter,
  type SemaphorePermit,
  type SemaphoreState,
  TokenBucket,
  type TokenBucketLimiter,
  type TokenBucketPermit,
  type TokenBucketState,
  throttle
} from "steindamm"
import { limitRequests, rateLimit } from "steindamm/http"
import { createSemaphore, createTokenBucket } from "steindamm/promise"
import { RedisClient, RedisLive } from "steindamm/redis"
import { expectTypeOf, it } from "vitest"

declare const bucket: TokenBucketLimiter
declare const semaphore: SemaphoreLimiter
declare const buckets: KeyedTokenBucketLimiter
declare const semaphores: KeyedSemaphoreLimiter
declare const either: AnyLimiter
declare const several: ReadonlyArray<TokenBucketLimiter>
declare const numbers: Stream.Stream<number, "stream", "source">
declare const client: HttpClient.HttpClient.With<"client", "requirement">
declare const response: Effect.Effect<HttpServerResponse.HttpServerResponse, "failure", "requirement">
declare const work: Effect.Effect<"value", "failure", "requirement">

type BucketFailure = MaxSleepExceeded | NoTokensAvailable | BackendError
type SemaphoreFailure = MaxSleepExceeded | BackendError | PermitLost

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

  expectTypeOf(bucket.stateFor(2)).toEqualTypeOf<Effect.Effect<TokenBucketState, InvalidOptions | BackendError>>()
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
  const capacity = {} as Config.Config<number>
  class Mixed extends TokenBucket.Service<Mixed>()("test/Mixed", { name: "x", capacity }) {}
  expectTypeOf(Mixed.layer).toEqualTypeOf<Layer.Layer<Mixed, InvalidOptions | Config.ConfigError, TokenBucket>>()
  // @ts-expect-error there is no such option
  class Mistyped extends TokenBucket.Service<Mistyped>()("test/Mistyped", { name: "x", capacities: capacity }) {}
  expectTypeOf(Mistyped).not.toBeAny()

  class PerUser extends TokenBucket.KeyedService<PerUser>()("test/PerUser", { name: "x" }) {}
  expectTypeOf(PerUser.layer).toEqualTypeOf<Layer.Layer<PerUser, InvalidOptions, TokenBucket>>()
  expectTypeOf(PerUser.use((limiter) => limiter.withPermit("key")(work))).toEqualTypeOf<
    Effect.Effect<"value", "failure" | BucketFailure | InvalidOptions, "requirement" | PerUser>
  >()
  class PerHost extends Semaphore.KeyedService<PerHost>()("test/PerHost", options) {}
  expectTypeOf(PerHost.layer).toEqualTypeOf<Layer.Layer<PerHost, InvalidOptions | Config.ConfigError, Semaphore>>()
}

const describeKeyedTypes = () => {
  expectTypeOf(TokenBucket.makeKeyed({ name: "x" })).toEqualTypeOf<
    Effect.Effect<KeyedTokenBucketLimiter, InvalidOptions, TokenBucket>
  >()
  expectTypeOf(Semaphore.makeKeyed({ name: "x" })).toEqualTypeOf<
    Effect.Effect<KeyedSemaphoreLimiter, InvalidOptions, Semaphore>
  >()
  expectTypeOf(buckets.forKey("key")).toEqualTypeOf<Effect.Effect<TokenBucketLimiter, InvalidOptions>>()
  expectTypeOf(semaphores.forKey("key")).toEqualTypeOf<Effect.Effect<SemaphoreLimiter, InvalidOptions>>()
  expectTypeOf(buckets.withPermit("key")(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | BucketFailure | InvalidOptions, "requirement">
  >()
  expectTypeOf(work.pipe(semaphores.withPermits("key", 2))).toEqualTypeOf<
    Effect.Effect<"value", "failure" | SemaphoreFailure | InvalidOptions, "requirement">
  >()
  expectTypeOf(semaphores.withPermitsIfAvailable("key", 2)(work)).toEqualTypeOf<
    Effect.Effect<Option.Option<"value">, "failure" | PermitLost | BackendError | InvalidOptions, "requirement">
  >()
  expectTypeOf(buckets.acquire("key", 2)).toEqualTypeOf<
    Effect.Effect<TokenBucketPermit, BucketFailure | InvalidOptions, Scope.Scope>
  >()
  expectTypeOf(
    buckets.wrap(
      (_user: string, _n?: number) => work,
      (user) => user
    )
  ).toEqualTypeOf<
    (user: string, n?: number) => Effect.Effect<"value", "failure" | BucketFailure | InvalidOptions, "requirement">
  >()
  expectTypeOf(semaphores.state("key")).toEqualTypeOf<Effect.Effect<SemaphoreState, BackendError | InvalidOptions>>()
  expectTypeOf(buckets.reset("key")).toEqualTypeOf<Effect.Effect<void, BackendError | InvalidOptions>>()
  expectTypeOf(buckets.reserve("key")).toEqualTypeOf<Effect.Effect<Reservation, BucketFailure | InvalidOptions>>()
  expectTypeOf(buckets.pause("key", 5)).toEqualTypeOf<Effect.Effect<void, InvalidOptions | BackendError>>()
  expectTypeOf(semaphores.resize("key", 5)).toEqualTypeOf<Effect.Effect<void, InvalidOptions | BackendError>>()
}

/** A limiter as a step of the pipeline of an `Effect.fn`, which hands it the arguments of the call as well. */
const describePipelines = () => {
  const fetchPage = Effect.fn("fetchPage")(function* (page: number, _size?: number) {
    yield* work
    return page
  }, semaphore.withPermit)
  expectTypeOf(fetchPage).returns.toEqualTypeOf<Effect.Effect<number, "failure" | SemaphoreFailure, "requirement">>()
  expectTypeOf(fetchPage).toBeCallableWith(1)

  const several = Effect.fn("several")(function* (n: number) {
    return yield* Effect.as(work, n)
  }, bucket.withPermits(2))
  expectTypeOf(several).toEqualTypeOf<
    (n: number) => Effect.Effect<number, "failure" | BucketFailure | InvalidOptions, "requirement">
  >()

  const search = Effect.fn("search")(
    function* (user: string, query: string) {
      yield* work
      return [user, query] as const
    },
    (effect, user, _query) => buckets.withPermit(user)(effect)
  )
  expectTypeOf(search).toEqualTypeOf<
    (
      user: string,
      query: string
    ) => Effect.Effect<readonly [string, string], "failure" | BucketFailure | InvalidOptions, "requirement">
  >()
}

const describeJoint = () => {
  const joint = Limiter.all([bucket, { limiter: bucket, permits: 3 }, semaphore])
  expectTypeOf(joint.withPermit(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | BucketFailure | SemaphoreFailure | InvalidOptions, "requirement">
  >()
  expectTypeOf(joint.state).toEqualTypeOf<
    Effect.Effect<readonly [TokenBucketState, TokenBucketState, SemaphoreState], BackendError>
  >()
  expectTypeOf(joint.acquire()).toExtend<
    Effect.Effect<
      { readonly permits: readonly [TokenBucketPermit, TokenBucketPermit, SemaphorePermit] },
      BucketFailure | InvalidOptions,
      Scope.Scope
    >
  >()
  expectTypeOf(Limiter.all([bucket, bucket]).withPermit(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | BucketFailure, "requirement">
  >()
  expectTypeOf(Limiter.all([{ limiter: bucket, wait: false }]).withPermit(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | BucketFailure, "requirement">
  >()
  expectTypeOf(Limiter.all([semaphore]).withPermit(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | SemaphoreFailure, "requirement">
  >()
  expectTypeOf(Limiter.all([either, semaphore]).withPermit(work)).toEqualTypeOf<
    Effect.Effect<"value", "failure" | BucketFailure | SemaphoreFailure, "requirement">
  >()
  expectTypeOf(Limiter.all([bucket, semaphore]).withPermitsIfAvailable(2)(work)).toEqualTypeOf<
    Effect.Effect<Option.Option<"value">, "failure" | PermitLost | BackendError | InvalidOptions, "requirement">
  >()
  expectTypeOf(Limiter.all([bucket, semaphore]).wrap((_n: number) => work)).toEqualTypeOf<
    (n: number) => Effect.Effect<"value", "failure" | BucketFailure | SemaphoreFailure, "requirement">
  >()
  expectTypeOf(Limiter.all([bucket])).toExtend<Limiter<BucketFailure>>()
  expectTypeOf(Limiter.all(several)).toEqualTypeOf<JointLimiter<ReadonlyArray<TokenBucketLimiter>>>()
  expectTypeOf(Limiter.all(several).state).toEqualTypeOf<Effect.Effect<ReadonlyArray<TokenBucketState>, BackendError>>()
  expectTypeOf(joint.pause("1 second")).toEqualTypeOf<Effect.Effect<void, InvalidOptions | BackendError>>()
  expectTypeOf(mapWithPermit(numbers, Limiter.all([bucket, semaphore]), () => work)).toEqualTypeOf<
    Stream.Stream<"value", "stream" | "failure" | BucketFailure | SemaphoreFailure, "source" | "requirement">
  >()
  expectTypeOf(client.pipe(limitRequests(Limiter.all([bucket, bucket])))).toEqualTypeOf<
    HttpClient.HttpClient.With<"client" | BucketFailure, "requirement">
  >()
  // @ts-expect-error a keyed limiter is many
  Limiter.all([buckets])
}

const describeStreams = () => {
  type S<E> = Stream.Stream<number, "stream" | E, "source">
  type W<E> = Stream.Stream<"value", "stream" | "failure" | E, "source" | "requirement">
  expectTypeOf(numbers.pipe(throttle(bucket))).toEqualTypeOf<S<BucketFailure>>()
  expectTypeOf(throttle(numbers, bucket)).toEqualTypeOf<S<BucketFailure>>()
  expectTypeOf(numbers.pipe(throttle(bucket, { cost: (n) => n }))).toEqualTypeOf<S<BucketFailure | InvalidOptions>>()
  expectTypeOf(throttle(numbers, bucket, { cost: (n) => n })).toEqualTypeOf<S<BucketFailure | InvalidOptions>>()
  // @ts-expect-error a semaphore has to know when the work on an element ends
  throttle(numbers, semaphore)

  expectTypeOf(numbers.pipe(mapWithPermit(semaphore, () => work))).toEqualTypeOf<W<SemaphoreFailure>>()
  expectTypeOf(mapWithPermit(numbers, bucket, () => work)).toEqualTypeOf<W<BucketFailure>>()
  expectTypeOf(
    numbers.pipe(mapWithPermit(semaphore, (_n: number) => work, { cost: (n) => n, concurrency: 3 }))
  ).toEqualTypeOf<W<SemaphoreFailure | InvalidOptions>>()
  expectTypeOf(mapWithPermit(numbers, either, (_n) => work, { unordered: true })).toEqualTypeOf<
    W<BucketFailure | SemaphoreFailure>
  >()

  expectTypeOf(semaphore.withPermit(work).pipe(Effect.retry(retryAfter({ times: 2 })))).toEqualTypeOf(
    semaphore.withPermit(work)
  )
}

const describeHttp = () => {
  type Client<E> = HttpClient.HttpClient.With<"client" | E, "requirement">
  expectTypeOf(client.pipe(limitRequests(bucket))).toEqualTypeOf<Client<BucketFailure>>()
  expectTypeOf(client.pipe(limitRequests(semaphore, { maxPause: "1 minute" }))).toEqualTypeOf<
    Client<SemaphoreFailure>
  >()
  expectTypeOf(client.pipe(limitRequests(buckets, { key: (request) => request.url }))).toEqualTypeOf<
    Client<BucketFailure | InvalidOptions>
  >()
  expectTypeOf(client.pipe(limitRequests(semaphores))).toEqualTypeOf<Client<SemaphoreFailure | InvalidOptions>>()
  expectTypeOf(client.pipe(limitRequests(bucket, { cost: (request) => request.url.length }))).toEqualTypeOf<
    Client<BucketFailure | InvalidOptions>
  >()
  // @ts-expect-error a limiter without keys has no use for one
  limitRequests(bucket, { key: () => "key" })
  // @ts-expect-error there is no such option
  limitRequests(buckets, { keys: () => "key" })

  const limited = rateLimit(buckets)(response)
  expectTypeOf(limited).toEqualTypeOf<
    Effect.Effect<HttpServerResponse.HttpServerResponse, "failure", "requirement" | HttpServerRequest.HttpServerRequest>
  >()
  expectTypeOf(rateLimit(semaphore, { wait: true })(response)).toEqualTypeOf<typeof limited>()
  expectTypeOf(HttpRouter.middleware(rateLimit(buckets)).layer).toEqualTypeOf<Layer.Layer<never>>()
  expectTypeOf(HttpRouter.middleware(rateLimit(buckets), { global: true })).toEqualTypeOf<
    Layer.Layer<never, never, HttpRouter.HttpRouter>
  >()
}

const describePromises = async () => {
  const limiter = createTokenBucket({ name: "name", refillFrequency: "1 minute" })
  const semaphore = createSemaphore({ name: "name", redis: "redis://localhost" })
  expectTypeOf(limiter.withPermit(async () => "text")).toEqualTypeOf<Promise<string>>()
  expectTypeOf(
    limiter.withPermit(({ signal }) => signal, { permits: 2, signal: new AbortController().signal })
  ).toEqualTypeOf<Promise<AbortSignal>>()
  expectTypeOf(semaphore.withPermit(({ fencingToken }) => fencingToken, 2)).toEqualTypeOf<Promise<number>>()
  // @ts-expect-error tokens are spent, there is no token to be fenced with
  limiter.withPermit(({ fencingToken }) => fencingToken)
  // @ts-expect-error the number of permits is a number
  limiter.withPermit(() => {}, { permits: "2" })
  // @ts-expect-error there is no such option
  createSemaphore({ name: "name", refillFrequency: "1 minute" })
  // @ts-expect-error a client of another library
  createSemaphore({ name: "name", redis: { get: () => {} } })

  const f = semaphore.wrap((n: number, text?: string) => Promise.resolve([n, text] as const))
  expectTypeOf(f(1)).toEqualTypeOf<Promise<readonly [number, string | undefined]>>()
  // @ts-expect-error the arguments stay what they are
  f("1")
  const method = limiter.wrap(function (this: Date, n: number) {
    return this.getTime() + n
  })
  expectTypeOf(method.call(new Date(), 1)).toEqualTypeOf<Promise<number>>()
  // @ts-expect-error the method needs its object
  method(1)

  await using permit = await semaphore.acquire()
  using tokens = await limiter.acquire(2)
  expectTypeOf(permit.signal).toEqualTypeOf<AbortSignal>()
  expectTypeOf(tokens.settle(1)).toEqualTypeOf<Promise<void>>()
  expectTypeOf(await semaphore.tryAcquire()).toEqualTypeOf<typeof permit | undefined>()
}

it("the types are checked by the compiler", () => {
  expectTypeOf(describeTypes).toBeFunction()
  expectTypeOf(describeKeyedTypes).toBeFunction()
  expectTypeOf(describePipelines).toBeFunction()
  expectTypeOf(describeJoint).toBeFunction()
  expectTypeOf(describeStreams).toBeFunction()
  expectTypeOf(describeHttp).toBeFunction()
  expectTypeOf(describePromises).toBeFunction()
})
