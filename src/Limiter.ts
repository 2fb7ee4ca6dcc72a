/**
 * What every limiter can do, whatever it counts and wherever its state lives.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { BackendError, InvalidOptions, LimiterKind, PermitLost } from "./Errors.ts"
import type { KeyedSemaphoreLimiter, SemaphoreError, SemaphoreLimiter } from "./Semaphore.ts"
import type { KeyedTokenBucketLimiter, TokenBucketError, TokenBucketLimiter } from "./TokenBucket.ts"

/**
 * What a scope got from `acquire`.
 */
export interface Permit {
  /** The limiter's name. */
  readonly name: string
  /** How long the permit was waited for. */
  readonly waited: Duration.Duration
}

/**
 * A limiter: work goes through it, and it decides when the work may run.
 *
 * The verbs are those of Effect's own `Semaphore`, so that a limiter drops in where that one stood. `E` is how a wait
 * can fail, `Held` how guarded work can besides (a permit that is lost), `P` what `acquire` gives and `S` what `state`
 * shows.
 */
export interface Limiter<out E, out Held = never, out P extends Permit = Permit, out S = unknown> {
  readonly kind: LimiterKind
  /** The name under which this limiter's state is shared: by all limiters of one layer, on Redis by all processes. */
  readonly name: string
  /** How long a request waits at most; infinite if there is no bound. */
  readonly maxSleep: Duration.Duration
  /** Runs an effect once the limiter lets it: `limiter.withPermit(effect)`, or `effect.pipe(limiter.withPermit)`. */
  readonly withPermit: <A, E1, R>(effect: Effect.Effect<A, E1, R>) => Effect.Effect<A, E1 | E | Held, R>
  /** The same for `n` permits or tokens at once. */
  readonly withPermits: (
    n: number
  ) => <A, E1, R>(effect: Effect.Effect<A, E1, R>) => Effect.Effect<A, E1 | E | Held | InvalidOptions, R>
  /** Runs an effect if the limiter lets it this instant, and gives `None` otherwise. Never waits, never overtakes. */
  readonly withPermitsIfAvailable: (
    n: number
  ) => <A, E1, R>(
    effect: Effect.Effect<A, E1, R>
  ) => Effect.Effect<Option.Option<A>, E1 | Held | BackendError | InvalidOptions, R>
  /** Waits for `n` permits or tokens, and keeps them until the scope closes. */
  readonly acquire: (n?: number) => Effect.Effect<P, E | InvalidOptions, Scope.Scope>
  /** A function like `f` whose every call goes through the limiter. */
  readonly wrap: <Args extends ReadonlyArray<unknown>, A, E1, R>(
    f: (...args: Args) => Effect.Effect<A, E1, R>
  ) => (...args: Args) => Effect.Effect<A, E1 | E | Held, R>
  /** Looks, and changes nothing. */
  readonly state: Effect.Effect<S, BackendError>
  /** Starts anew, as if the limiter had never been used. */
  readonly reset: Effect.Effect<void, BackendError>
}

/**
 * One definition of a limiter and a limiter for each key: per user, tenant or host. Keys share the options, and nothing
 * else.
 *
 * The verbs are those of `Limiter` with the key in front; `forKey` gives the limiter of one key. A key that is unused
 * takes no room: in memory it is dropped as soon as it means the same as a new one, in Redis it expires. A key is a
 * non-empty string that has room in a name of 512 UTF-8 bytes, or the verbs fail with `InvalidOptions`.
 */
export interface KeyedLimiter<
  out E,
  out Held = never,
  out P extends Permit = Permit,
  out S = unknown,
  out L extends Limiter<E, Held, P, S> = Limiter<E, Held, P, S>
> {
  readonly kind: LimiterKind
  /** The name of the definition. The limiter of a key is called `name[key]`, and so it is called in errors. */
  readonly name: string
  readonly maxSleep: Duration.Duration
  /** The limiter of one key, to be used at once or for as long as you like. */
  readonly forKey: (key: string) => Effect.Effect<L, InvalidOptions>
  readonly withPermit: (
    key: string
  ) => <A, E1, R>(effect: Effect.Effect<A, E1, R>) => Effect.Effect<A, E1 | E | Held | InvalidOptions, R>
  readonly withPermits: (
    key: string,
    n: number
  ) => <A, E1, R>(effect: Effect.Effect<A, E1, R>) => Effect.Effect<A, E1 | E | Held | InvalidOptions, R>
  readonly withPermitsIfAvailable: (
    key: string,
    n: number
  ) => <A, E1, R>(
    effect: Effect.Effect<A, E1, R>
  ) => Effect.Effect<Option.Option<A>, E1 | Held | BackendError | InvalidOptions, R>
  readonly acquire: (key: string, n?: number) => Effect.Effect<P, E | InvalidOptions, Scope.Scope>
  /** A function like `f` whose every call goes through the limiter of the key that its arguments tell. */
  readonly wrap: <Args extends ReadonlyArray<unknown>, A, E1, R>(
    f: (...args: Args) => Effect.Effect<A, E1, R>,
    key: (...args: readonly [...Args]) => string
  ) => (...args: Args) => Effect.Effect<A, E1 | E | Held | InvalidOptions, R>
  readonly state: (key: string) => Effect.Effect<S, BackendError | InvalidOptions>
  readonly reset: (key: string) => Effect.Effect<void, BackendError | InvalidOptions>
}

/** A limiter of either kind. */
export type AnyLimiter = TokenBucketLimiter | SemaphoreLimiter

/** A limiter by key, of either kind. */
export type AnyKeyedLimiter = KeyedTokenBucketLimiter | KeyedSemaphoreLimiter

/** How work behind a limiter can fail besides its own failures. */
export type LimiterError<L extends AnyLimiter | AnyKeyedLimiter> =
  | (L extends { readonly kind: "TokenBucket" } ? TokenBucketError : SemaphoreError | PermitLost)
  | (L extends AnyKeyedLimiter ? InvalidOptions : never)
