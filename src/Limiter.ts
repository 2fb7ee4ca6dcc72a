/**
 * What every limiter can do, whatever it counts and wherever its state lives.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { BackendError, InvalidOptions, LimiterKind, PermitLost } from "./Errors.ts"
import { makeJointLimiter } from "./internal/jointLimiter.ts"
import type {
  KeyedSemaphoreLimiter,
  SemaphoreError,
  SemaphoreLimiter,
  SemaphorePermit,
  SemaphoreState
} from "./Semaphore.ts"
import type {
  KeyedTokenBucketLimiter,
  TokenBucketError,
  TokenBucketLimiter,
  TokenBucketPermit,
  TokenBucketState
} from "./TokenBucket.ts"

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
  readonly kind: LimiterKind | "Joint"
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
  /** A function like `f` whose every call goes through the limiter. Throws `InvalidOptions` if `f` is no function. */
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
  /**
   * A function like `f` whose every call goes through the limiter of the key that its arguments tell. Throws
   * `InvalidOptions` if one of them is no function.
   */
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
export type LimiterError<L extends AnyLimiter | AnyKeyedLimiter | AnyJointLimiter> =
  | (L extends JointLimiter<infer Members>
      ? JointError<Members> | JointHeld<Members>
      : L extends { readonly kind: "TokenBucket" }
        ? TokenBucketError
        : SemaphoreError | PermitLost)
  | (L extends AnyKeyedLimiter ? InvalidOptions : never)

/** A limiter among several, or one with what is particular about it. */
export type JointMember =
  | AnyLimiter
  | {
      readonly limiter: AnyLimiter
      /** How many of its permits or tokens each piece of work takes. Default: as its own `withPermit`. */
      readonly permits?: number | undefined
      /** `false`: work that would have to wait because of this limiter is refused. Default: true. */
      readonly wait?: boolean | undefined
    }

type MemberLimiter<M> = M extends { readonly limiter: infer L } ? L : M

/** How a wait for several limiters can fail: as it can for any of them. */
export type JointError<Members extends ReadonlyArray<JointMember>> = {
  readonly [I in keyof Members]:
    | (MemberLimiter<Members[I]> extends infer L
        ? L extends { readonly kind: "TokenBucket" }
          ? TokenBucketError
          : SemaphoreError
        : never)
    | (Members[I] extends infer M ? (M extends { readonly permits: number } ? InvalidOptions : never) : never)
}[number]

/** `PermitLost` if there is a semaphore among them. */
export type JointHeld<Members extends ReadonlyArray<JointMember>> =
  Extract<MemberLimiter<Members[number]>, { readonly kind: "Semaphore" }> extends never ? never : PermitLost

/** For each limiter, in their order, what its own `acquire` gives. */
export interface JointPermit<Members extends ReadonlyArray<JointMember>> extends Permit {
  readonly permits: {
    readonly [I in keyof Members]: MemberLimiter<Members[I]> extends infer L
      ? L extends { readonly kind: "TokenBucket" }
        ? TokenBucketPermit
        : SemaphorePermit
      : never
  }
}

/** For each limiter, in their order, what its own `state` shows. */
export type JointState<Members extends ReadonlyArray<JointMember>> = {
  readonly [I in keyof Members]: MemberLimiter<Members[I]> extends infer L
    ? L extends { readonly kind: "TokenBucket" }
      ? TokenBucketState
      : SemaphoreState
    : never
}

/**
 * Several limiters as one: work runs when all of them agree.
 *
 * `withPermits(n)` takes `n` times of each what `withPermit` takes: the `permits` that its member says, or else a
 * bucket's `tokensToConsume` and one permit of a semaphore. `maxSleep` is the smallest of all, and counts for the whole
 * wait. `reset` resets each of them.
 */
export interface JointLimiter<out Members extends ReadonlyArray<JointMember>>
  extends Limiter<JointError<Members>, JointHeld<Members>, JointPermit<Members>, JointState<Members>> {
  readonly kind: "Joint"
  /** The names of all, joined by `+`. */
  readonly name: string
  /**
   * Whether its token buckets are decided about in one step: those of one layer are, in memory and on one Redis server;
   * on Redis Cluster if they have one `tag`. Otherwise they are asked one after the other, and give back what they gave
   * when one of them refuses.
   */
  readonly isAtomic: boolean
  /**
   * Pauses each of its token buckets, as their own `pause` does. Those who wait in this process wait longer, if all
   * buckets are decided about in one step.
   */
  readonly pause: (duration: Duration.Input) => Effect.Effect<void, InvalidOptions | BackendError>
}

/** Several limiters as one, whichever they are. */
export type AnyJointLimiter = JointLimiter<ReadonlyArray<JointMember>>

/**
 * What can be done with limiters of either kind.
 */
export const Limiter: {
  /**
   * Combines limiters into one: work runs when all of them agree, and nothing is taken from any when one refuses.
   *
   * Token buckets promise one moment, the first that suits all of them, and `MaxSleepExceeded` tells the bucket that
   * takes longest. Nobody who comes later overtakes in any of them, so that a bucket that would be ready sooner lets
   * nobody through until then. Semaphores are taken after that, in the order of their names, for what is left of
   * `maxSleep`; if that isn't enough, everything is given back.
   *
   * Every limiter can be there once. Throws `InvalidOptions` otherwise, and for members that are no limiters.
   *
   * @example
   * ```ts
   * import { Console, Effect } from "effect"
   * import { Limiter, LocalLive, Semaphore, TokenBucket } from "steindamm"
   *
   * const program = Effect.gen(function* () {
   *   const requests = yield* TokenBucket.make({ name: "requests", tag: "model", capacity: 5 })
   *   const tokens = yield* TokenBucket.make({ name: "tokens", tag: "model", capacity: 10_000, refillAmount: 1000 })
   *   const connections = yield* Semaphore.make({ name: "connections", tag: "model", capacity: 2 })
   *   const model = Limiter.all([requests, { limiter: tokens, permits: 1200 }, connections])
   *   yield* model.withPermit(Console.log("one request, 1,200 tokens, one connection"))
   * })
   *
   * Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
   * ```
   */
  readonly all: <const Members extends ReadonlyArray<JointMember>>(members: Members) => JointLimiter<Members>
} = { all: makeJointLimiter }
