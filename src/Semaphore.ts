/**
 * Limits work by concurrency: so many permits, each given back when its work is done.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { BackendError, InvalidOptions, MaxSleepExceeded, PermitLost } from "./Errors.ts"
import { type LimiterServiceFactory, limiterService } from "./internal/limiterService.ts"
import type { KeyedLimiter, Limiter, Permit } from "./Limiter.ts"
import type { AwayState, WhenAway } from "./WhenAway.ts"

/**
 * What a semaphore is like. Durations are Effect's `Duration.Input`; a bare number is milliseconds.
 */
export interface SemaphoreOptions {
  /** Under which its state is shared. Non-empty, at most 512 UTF-8 bytes, any characters. */
  readonly name: string
  /**
   * Limiters that `Limiter.all` combines decide in one step on Redis Cluster if they have one tag, since they live on one
   * node then. Limiters of the same name share their state only if their tags are the same as well. Non-empty, at most
   * 512 UTF-8 bytes. Default: the name.
   */
  readonly tag?: string | undefined
  /** How many permits there are: an integer from 1 to 2^31 - 1. Default: 5. */
  readonly capacity?: number | undefined
  /** How long a request waits for permits; 0 or infinity waits without bound. Default: 30 seconds. */
  readonly maxSleep?: Duration.Input | undefined
  /**
   * The lease, at least 100 milliseconds: a permit whose holder died is free again within it. A living holder renews
   * in time and keeps its permit as long as it needs. Default: 60 seconds.
   */
  readonly expiry?: Duration.Input | undefined
  /**
   * What to do while Redis is away. A local share is rounded down to whole permits; what needs more of them than that
   * fails. Default: what the layer says, and without that `"fail"`.
   */
  readonly whenAway?: WhenAway | undefined
}

/**
 * Permits that one holder has.
 */
export interface Holder {
  readonly id: string
  readonly permits: number
  readonly fencingToken: number
  /** How long the holder keeps them without renewing. Infinite in one process, where holders can't die alone. */
  readonly leaseLeft: Duration.Duration
}

/**
 * What a look at a semaphore shows.
 */
export interface SemaphoreState {
  readonly capacity: number
  /** Permits in use. More than `capacity` only after a `resize` to less. */
  readonly held: number
  /** Requests that wait. */
  readonly waiting: number
  readonly holders: ReadonlyArray<Holder>
  /** While Redis is away and `whenAway` goes on without it: then the fields above tell of this process alone. */
  readonly away?: AwayState | undefined
}

/**
 * Permits that a scope holds. They come back when it closes.
 */
export interface SemaphorePermit extends Permit {
  readonly id: string
  /** How many. */
  readonly permits: number
  /**
   * Grows with every grant of the semaphore: a resource that remembers the largest can refuse a stale holder. 0 if the
   * permit was given while Redis was away, which such a resource refuses.
   */
  readonly fencingToken: number
  /** Never succeeds; fails when the lease could not be kept. */
  readonly lost: Effect.Effect<never, PermitLost>
}

/**
 * How a wait for permits can fail.
 */
export type SemaphoreError = MaxSleepExceeded | BackendError

/**
 * A semaphore. Requests are served strictly in order of arrival: a large one is not overtaken by small ones. A wait
 * that is interrupted leaves the queue; nothing interrupts the return of a permit.
 */
export interface SemaphoreLimiter extends Limiter<SemaphoreError, PermitLost, SemaphorePermit, SemaphoreState> {
  readonly kind: "Semaphore"
  /**
   * Changes the number of permits for everyone who shares the semaphore. Up: waiters run at once. Down: no new grant
   * until enough permits are back.
   */
  readonly resize: (capacity: number) => Effect.Effect<void, InvalidOptions | BackendError>
}

/**
 * A semaphore for each key.
 */
export interface KeyedSemaphoreLimiter
  extends KeyedLimiter<SemaphoreError, PermitLost, SemaphorePermit, SemaphoreState, SemaphoreLimiter> {
  readonly kind: "Semaphore"
  readonly resize: (key: string, capacity: number) => Effect.Effect<void, InvalidOptions | BackendError>
}

interface Shape {
  readonly make: (options: SemaphoreOptions) => Effect.Effect<SemaphoreLimiter, InvalidOptions>
  readonly makeKeyed: (options: SemaphoreOptions) => Effect.Effect<KeyedSemaphoreLimiter, InvalidOptions>
}

/**
 * Where the state of semaphores lives: `LocalSemaphoreLive` keeps it in this process, `RedisSemaphoreLive` in Redis.
 * Limiters of the same name over the same layer are one semaphore.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { LocalSemaphoreLive, Semaphore } from "steindamm"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* Semaphore.make({ name: "database", capacity: 2 })
 *   yield* Effect.forEach([1, 2, 3, 4], (n) => limiter.withPermit(Effect.log(`query ${n}`)), {
 *     concurrency: "unbounded"
 *   })
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalSemaphoreLive)))
 * ```
 */
export class Semaphore extends Context.Service<Semaphore, Shape>()("steindamm/Semaphore") {
  /**
   * Makes a semaphore over the layer's backend. Fails with `InvalidOptions` naming field, value and rule.
   */
  static readonly make = (options: SemaphoreOptions): Effect.Effect<SemaphoreLimiter, InvalidOptions, Semaphore> =>
    Semaphore.use((backend) => backend.make(options))

  /**
   * Makes a semaphore for each key: one definition for all users, tenants or hosts. Fails as `make`.
   *
   * @example
   * ```ts
   * import { Effect } from "effect"
   * import { LocalLive, Semaphore } from "steindamm"
   *
   * const program = Effect.gen(function* () {
   *   const perHost = yield* Semaphore.makeKeyed({ name: "downloads", capacity: 2 })
   *   const download = perHost.wrap(
   *     (url: URL) => Effect.log(`downloading ${url}`),
   *     (url) => url.host
   *   )
   *   yield* download(new URL("https://example.com/a"))
   * })
   *
   * Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
   * ```
   */
  static readonly makeKeyed = (
    options: SemaphoreOptions
  ): Effect.Effect<KeyedSemaphoreLimiter, InvalidOptions, Semaphore> =>
    Semaphore.use((backend) => backend.makeKeyed(options))

  /**
   * A semaphore as a service of its own, for programs that inject limiters by type. The options, or any of them, may be
   * a `Config`.
   *
   * @example
   * ```ts
   * import { Config, Effect, Layer } from "effect"
   * import { LocalSemaphoreLive, Semaphore } from "steindamm"
   *
   * class DatabaseLimit extends Semaphore.Service<DatabaseLimit>()("DatabaseLimit", {
   *   name: "database",
   *   capacity: Config.Int("POOL").pipe(Config.withDefault(10))
   * }) {}
   *
   * const program = DatabaseLimit.use((limiter) => limiter.withPermit(Effect.succeed("queried")))
   *
   * Effect.runPromise(program.pipe(Effect.provide(DatabaseLimit.layer.pipe(Layer.provide(LocalSemaphoreLive)))))
   * ```
   */
  static override readonly Service = limiterService<Semaphore, SemaphoreOptions, SemaphoreLimiter>(
    Semaphore.make
  ) as LimiterServiceFactory<SemaphoreOptions, SemaphoreLimiter, Semaphore> & Shape

  /**
   * The same for a semaphore for each key.
   *
   * @example
   * ```ts
   * import { Effect } from "effect"
   * import { LocalLive, Semaphore } from "steindamm"
   *
   * class TenantLimit extends Semaphore.KeyedService<TenantLimit>()("TenantLimit", { name: "tenant", capacity: 3 }) {}
   *
   * const report = (tenant: string) => TenantLimit.use((limiter) => limiter.withPermit(tenant)(Effect.succeed("made")))
   *
   * Effect.runPromise(report("acme").pipe(Effect.provide(TenantLimit.layer), Effect.provide(LocalLive)))
   * ```
   */
  static readonly KeyedService: LimiterServiceFactory<SemaphoreOptions, KeyedSemaphoreLimiter, Semaphore> =
    limiterService(Semaphore.makeKeyed)
}
