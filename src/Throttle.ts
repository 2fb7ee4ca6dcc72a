/**
 * Streams at the pace that a limiter allows.
 */
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Result from "effect/Result"
import * as Lock from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type { InvalidOptions } from "./Errors.ts"
import { guarding, type SingleLimiter } from "./internal/anyLimiter.ts"
import { mapWithPermitConfig, throttleConfig } from "./internal/options.ts"
import type { AnyJointLimiter, AnyLimiter, LimiterError } from "./Limiter.ts"
import type { TokenBucketError, TokenBucketLimiter } from "./TokenBucket.ts"

/**
 * Lets a stream's elements through at the rate of a token bucket. Each costs `tokensToConsume`, or what `cost` says.
 *
 * An element is asked for once the one before it is through, so that whatever produces them slows down with them. The
 * stream fails with `MaxSleepExceeded` if an element would have to wait longer than `maxSleep`, as it may if others use
 * up the bucket.
 *
 * Throws `InvalidOptions` if an option breaks its rule.
 *
 * @example
 * ```ts
 * import { Console, Effect, Stream } from "effect"
 * import { LocalLive, throttle, TokenBucket } from "steindamm"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* TokenBucket.make({ name: "mails", capacity: 2, refillFrequency: "20 millis" })
 *   yield* Stream.range(1, 5).pipe(
 *     throttle(limiter),
 *     Stream.runForEach((n) => Console.log(`mail ${n}`))
 *   )
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
 * ```
 */
export const throttle: {
  (limiter: TokenBucketLimiter): <A, E, R>(self: Stream.Stream<A, E, R>) => Stream.Stream<A, E | TokenBucketError, R>
  <A>(
    limiter: TokenBucketLimiter,
    options: { readonly cost: (element: A) => number }
  ): <E, R>(self: Stream.Stream<A, E, R>) => Stream.Stream<A, E | TokenBucketError | InvalidOptions, R>
  <A, E, R>(self: Stream.Stream<A, E, R>, limiter: TokenBucketLimiter): Stream.Stream<A, E | TokenBucketError, R>
  <A, E, R>(
    self: Stream.Stream<A, E, R>,
    limiter: TokenBucketLimiter,
    options: { readonly cost: (element: A) => number }
  ): Stream.Stream<A, E | TokenBucketError | InvalidOptions, R>
} = dual(
  (args) => Stream.isStream(args[0]),
  <A, E, R>(
    self: Stream.Stream<A, E, R>,
    limiter: TokenBucketLimiter,
    options: { readonly cost?: (element: A) => number } = {}
  ): Stream.Stream<A, E | TokenBucketError | InvalidOptions, R> => {
    Result.getOrThrow(throttleConfig(limiter, options))
    return Stream.mapEffect(self, (element) => guarding(limiter, options.cost?.(element))(Effect.succeed(element)))
  }
)

/**
 * How `mapWithPermit` goes about it.
 */
export interface MapWithPermitOptions {
  /** Elements that may be under way at once: waiting, at work, or done and not taken yet. Default: 16. */
  readonly concurrency?: number | undefined
  /** Gives results as they come instead of in the order of the elements. Default: false. */
  readonly unordered?: boolean | undefined
}

/**
 * Works on a stream's elements with permits of any limiter, as `Stream.mapEffect` does without: each element's work
 * holds one, or what `cost` says, so that the limiter tells how many are worked on at once or how often one begins.
 *
 * Only one element at a time waits for the limiter: a long queue within the stream is no reason for
 * `MaxSleepExceeded`. No more than `concurrency` elements are taken from the stream ahead of what comes out.
 *
 * Throws `InvalidOptions` if an option breaks its rule.
 *
 * @example
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { LocalLive, mapWithPermit, Semaphore } from "steindamm"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* Semaphore.make({ name: "thumbnails", capacity: 2 })
 *   return yield* Stream.range(1, 5).pipe(
 *     mapWithPermit(limiter, (n) => Effect.as(Effect.sleep("5 millis"), `thumbnail ${n}`)),
 *     Stream.runCollect
 *   )
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalLive))).then(console.log)
 * ```
 */
export const mapWithPermit: {
  <L extends AnyLimiter | AnyJointLimiter, A, B, E2, R2>(
    limiter: L,
    f: (element: A) => Effect.Effect<B, E2, R2>,
    options?: MapWithPermitOptions & { readonly cost?: undefined }
  ): <E, R>(self: Stream.Stream<A, E, R>) => Stream.Stream<B, E | E2 | LimiterError<L>, R | R2>
  <L extends AnyLimiter | AnyJointLimiter, A, B, E2, R2>(
    limiter: L,
    f: (element: A) => Effect.Effect<B, E2, R2>,
    options: MapWithPermitOptions & { readonly cost: (element: A) => number }
  ): <E, R>(self: Stream.Stream<A, E, R>) => Stream.Stream<B, E | E2 | LimiterError<L> | InvalidOptions, R | R2>
  <A, E, R, L extends AnyLimiter | AnyJointLimiter, B, E2, R2>(
    self: Stream.Stream<A, E, R>,
    limiter: L,
    f: (element: A) => Effect.Effect<B, E2, R2>,
    options?: MapWithPermitOptions & { readonly cost?: undefined }
  ): Stream.Stream<B, E | E2 | LimiterError<L>, R | R2>
  <A, E, R, L extends AnyLimiter | AnyJointLimiter, B, E2, R2>(
    self: Stream.Stream<A, E, R>,
    limiter: L,
    f: (element: A) => Effect.Effect<B, E2, R2>,
    options: MapWithPermitOptions & { readonly cost: (element: A) => number }
  ): Stream.Stream<B, E | E2 | LimiterError<L> | InvalidOptions, R | R2>
} = dual(
  (args) => Stream.isStream(args[0]),
  <A, E, R, B, E2, R2>(
    self: Stream.Stream<A, E, R>,
    limiter: SingleLimiter,
    f: (element: A) => Effect.Effect<B, E2, R2>,
    options: MapWithPermitOptions & { readonly cost?: (element: A) => number } = {}
  ): Stream.Stream<B, E | E2 | LimiterError<SingleLimiter> | InvalidOptions, R | R2> => {
    const { concurrency, unordered } = Result.getOrThrow(mapWithPermitConfig(limiter, f, options))
    return Stream.suspend(() => {
      // One element at a time waits. Whoever fails to has ended the stream, and its turn needs no end.
      const turn = Lock.makeUnsafe(1)
      return Stream.mapEffect(
        self,
        (element) => {
          const work = Effect.andThen(turn.release(1), () => f(element))
          return Effect.andThen(turn.take(1), () => guarding(limiter, options.cost?.(element))(work))
        },
        { concurrency, unordered }
      )
    })
  }
)
