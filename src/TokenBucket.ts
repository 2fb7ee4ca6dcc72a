/**
 * Limits work by time: so many tokens per interval, some of them saved up.
 *
 * A bucket holds up to `capacity` tokens and starts full. Work takes tokens and runs; when too few are there, it is
 * told when enough will have come, and waits for that moment in order of arrival. `capacity` is the burst, and
 * `refillAmount` per `refillFrequency` the rate.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { BackendError, InvalidOptions, MaxSleepExceeded, NoTokensAvailable } from "./Errors.ts"
import { type LimiterServiceFactory, limiterService } from "./internal/limiterService.ts"
import type { KeyedLimiter, Limiter, Permit } from "./Limiter.ts"
import type { AwayState, WhenAway } from "./WhenAway.ts"

/**
 * What a token bucket is like. Durations are Effect's `Duration.Input`; a bare number is milliseconds.
 */
export interface TokenBucketOptions {
  /** Under which its state is shared. Non-empty, at most 512 UTF-8 bytes, any characters. */
  readonly name: string
  /**
   * Limiters that `Limiter.all` combines decide in one step on Redis Cluster if they have one tag, since they live on one
   * node then. Limiters of the same name share their state only if their tags are the same as well. Non-empty, at most
   * 512 UTF-8 bytes. Default: the name.
   */
  readonly tag?: string | undefined
  /** The most tokens that it holds: the largest burst. Fractions allowed. Default: 5. */
  readonly capacity?: number | undefined
  /** Tokens that arrive every `refillFrequency`; 0 together with `refillFrequency` 0: a quota that never refills. Default: 1. */
  readonly refillAmount?: number | undefined
  /** How often tokens arrive: at least a millisecond, or 0 as above. Default: 1 second. */
  readonly refillFrequency?: Duration.Input | undefined
  /** `"interval"`: all at once every `refillFrequency`; `"continuous"`: evenly over it. Default: `"interval"`. */
  readonly refill?: "interval" | "continuous" | undefined
  /** Tokens that a new bucket starts with. Default: `capacity`. */
  readonly initialTokens?: number | undefined
  /** What `withPermit` takes. 0 passes at once. Default: 1. */
  readonly tokensToConsume?: number | undefined
  /** Fail at once when the wait would be longer; 0 or infinity waits without bound. Default: 30 seconds. */
  readonly maxSleep?: Duration.Input | undefined
  /**
   * How long an idle bucket is remembered once it is full again; a quota that never refills, after its last activity.
   * Default: 60 seconds.
   */
  readonly expiry?: Duration.Input | undefined
  /** A moment in the past; refills fall on multiples of `refillFrequency` after it. Default: none. */
  readonly windowStartTime?: Date | DateTime.DateTime | string | number | undefined
  /**
   * What to do while Redis is away. A quota that never refills has no rate to share: with a local share it fails too.
   * Default: what the layer says, and without that `"fail"`.
   */
  readonly whenAway?: WhenAway | undefined
}

/**
 * What a look at a token bucket shows.
 */
export interface TokenBucketState {
  /** Tokens that could be taken this instant; 0 while others wait, and in a pause. */
  readonly tokens: number
  readonly capacity: number
  /** How long `withPermit` would wait if it were called now. Infinite if no wait would help. */
  readonly wait: Duration.Duration
  /** How long until one more whole token can be taken than now. Infinite if there won't be one more. */
  readonly nextToken: Duration.Duration
  /** In how long an empty bucket fills. Infinite if it never refills. */
  readonly fillTime: Duration.Duration
  /** While Redis is away and `whenAway` goes on without it: then the fields above tell of this process alone. */
  readonly away?: AwayState | undefined
}

/**
 * Tokens that a scope took. There is nothing to give back at the scope's end: tokens are spent.
 */
export interface TokenBucketPermit extends Permit {
  /** How many were taken. */
  readonly tokens: number
  /**
   * Charges or returns the difference between the tokens taken and what the work really cost, once it is known. Only
   * the first call counts.
   */
  readonly settle: (actual: number) => Effect.Effect<void, InvalidOptions | BackendError>
}

/**
 * Tokens taken now for work that may run after `delay`.
 */
export interface Reservation {
  readonly name: string
  readonly tokens: number
  /** How long to wait before the work may run; counted from the moment when `reserve` gave this reservation. */
  readonly delay: Duration.Duration
  /**
   * Gives back all tokens that later reservations don't already count on. Only the first call of this or `settle`
   * counts.
   */
  readonly cancel: Effect.Effect<void>
  /** As `TokenBucketPermit.settle`. */
  readonly settle: (actual: number) => Effect.Effect<void, InvalidOptions | BackendError>
}

/**
 * How a wait for tokens can fail.
 */
export type TokenBucketError = MaxSleepExceeded | NoTokensAvailable | BackendError

/**
 * A token bucket. A wait that is interrupted gives its tokens back.
 */
export interface TokenBucketLimiter extends Limiter<TokenBucketError, never, TokenBucketPermit, TokenBucketState> {
  readonly kind: "TokenBucket"
  /** As `state`, with the wait that `withPermits(n)` would meet. */
  readonly stateFor: (n: number) => Effect.Effect<TokenBucketState, InvalidOptions | BackendError>
  /** Takes tokens, default `tokensToConsume`, and tells how long to wait instead of waiting. */
  readonly reserve: (n?: number) => Effect.Effect<Reservation, TokenBucketError | InvalidOptions>
  /**
   * Lets no work through for so long, for everyone who shares the bucket: what to do when the far end says "not before
   * then". What refills meanwhile is kept as far as it fits. A longer pause replaces a shorter one, and never the other
   * way round; `reset` ends it.
   *
   * Those who wait in this process wait longer, in their order, or fail with `MaxSleepExceeded` if that is too long for
   * them. What was promised before and can't be moved holds: reservations, and waits in other processes.
   *
   * @example
   * ```ts
   * import { Console, Effect } from "effect"
   * import { LocalLive, TokenBucket } from "steindamm"
   *
   * const program = Effect.gen(function* () {
   *   const limiter = yield* TokenBucket.make({ name: "api", capacity: 10 })
   *   yield* limiter.pause("50 millis")
   *   yield* limiter.withPermit(Console.log("50 milliseconds later"))
   * })
   *
   * Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
   * ```
   */
  readonly pause: (duration: Duration.Input) => Effect.Effect<void, InvalidOptions | BackendError>
}

/**
 * A token bucket for each key.
 */
export interface KeyedTokenBucketLimiter
  extends KeyedLimiter<TokenBucketError, never, TokenBucketPermit, TokenBucketState, TokenBucketLimiter> {
  readonly kind: "TokenBucket"
  readonly stateFor: (key: string, n: number) => Effect.Effect<TokenBucketState, InvalidOptions | BackendError>
  readonly reserve: (key: string, n?: number) => Effect.Effect<Reservation, TokenBucketError | InvalidOptions>
  readonly pause: (key: string, duration: Duration.Input) => Effect.Effect<void, InvalidOptions | BackendError>
}

interface Shape {
  readonly make: (options: TokenBucketOptions) => Effect.Effect<TokenBucketLimiter, InvalidOptions>
  readonly makeKeyed: (options: TokenBucketOptions) => Effect.Effect<KeyedTokenBucketLimiter, InvalidOptions>
}

/**
 * Where the state of token buckets lives: `LocalTokenBucketLive` keeps it in this process, `RedisTokenBucketLive` in
 * Redis. Limiters of the same name over the same layer are one bucket.
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { LocalTokenBucketLive, TokenBucket } from "steindamm"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* TokenBucket.make({ name: "github", capacity: 3, refillFrequency: "50 millis" })
 *   yield* Effect.forEach([1, 2, 3, 4, 5], (n) => limiter.withPermit(Console.log(`call ${n}`)), {
 *     concurrency: "unbounded"
 *   })
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalTokenBucketLive)))
 * ```
 */
export class TokenBucket extends Context.Service<TokenBucket, Shape>()("steindamm/TokenBucket") {
  /**
   * Makes a token bucket over the layer's backend. Fails with `InvalidOptions` naming field, value and rule.
   */
  static readonly make = (
    options: TokenBucketOptions
  ): Effect.Effect<TokenBucketLimiter, InvalidOptions, TokenBucket> =>
    TokenBucket.use((backend) => backend.make(options))

  /**
   * Makes a token bucket for each key: one definition for all users, tenants or hosts. Fails as `make`.
   *
   * @example
   * ```ts
   * import { Effect } from "effect"
   * import { LocalLive, TokenBucket } from "steindamm"
   *
   * const program = Effect.gen(function* () {
   *   const perUser = yield* TokenBucket.makeKeyed({ name: "search", capacity: 1, refillFrequency: "1 minute" })
   *   yield* perUser.withPermit("ada")(Effect.log("searching for Ada"))
   *   yield* perUser.withPermit("grace")(Effect.log("searching for Grace, who does not wait for Ada's token"))
   *   const again = yield* perUser.withPermitsIfAvailable("ada", 1)(Effect.log("not before a minute has passed"))
   *   yield* Effect.log(again)
   * })
   *
   * Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
   * ```
   */
  static readonly makeKeyed = (
    options: TokenBucketOptions
  ): Effect.Effect<KeyedTokenBucketLimiter, InvalidOptions, TokenBucket> =>
    TokenBucket.use((backend) => backend.makeKeyed(options))

  /**
   * A token bucket as a service of its own, for programs that inject limiters by type. The options, or any of them, may
   * be a `Config`.
   *
   * @example
   * ```ts
   * import { Config, Effect, Layer } from "effect"
   * import { LocalTokenBucketLive, TokenBucket } from "steindamm"
   *
   * class GithubLimit extends TokenBucket.Service<GithubLimit>()("GithubLimit", {
   *   name: "github",
   *   capacity: Config.Int("GITHUB_LIMIT").pipe(Config.withDefault(5000))
   * }) {}
   *
   * const program = GithubLimit.use((limiter) => limiter.withPermit(Effect.succeed("called")))
   *
   * Effect.runPromise(program.pipe(Effect.provide(GithubLimit.layer.pipe(Layer.provide(LocalTokenBucketLive)))))
   * ```
   */
  static override readonly Service = limiterService<TokenBucket, TokenBucketOptions, TokenBucketLimiter>(
    TokenBucket.make
  ) as LimiterServiceFactory<TokenBucketOptions, TokenBucketLimiter, TokenBucket> & Shape

  /**
   * The same for a token bucket for each key.
   *
   * @example
   * ```ts
   * import { Effect } from "effect"
   * import { LocalLive, TokenBucket } from "steindamm"
   *
   * class UserLimit extends TokenBucket.KeyedService<UserLimit>()("UserLimit", { name: "user", capacity: 20 }) {}
   *
   * const search = (user: string, query: string) =>
   *   UserLimit.use((limiter) => limiter.withPermit(user)(Effect.succeed(`results for ${query}`)))
   *
   * Effect.runPromise(search("ada", "engines").pipe(Effect.provide(UserLimit.layer), Effect.provide(LocalLive)))
   * ```
   */
  static readonly KeyedService: LimiterServiceFactory<TokenBucketOptions, KeyedTokenBucketLimiter, TokenBucket> =
    limiterService(TokenBucket.makeKeyed)
}
