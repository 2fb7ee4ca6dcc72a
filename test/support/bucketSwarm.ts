/**
 * Many fibers of several backends that all want tokens of the same bucket, and what could be seen of them: every
 * backend has connections of its own, as separate processes would.
 */
import { Clock, Duration, Effect, Exit, Fiber, Layer, References, type Scope } from "effect"
import { type BackendError, type InvalidOptions, TokenBucket, type TokenBucketOptions } from "steindamm"
import { type RedisClient, RedisTokenBucketLive } from "steindamm/redis"
import { lateness } from "./lateness.ts"

export interface SwarmOptions {
  readonly client: Layer.Layer<RedisClient, InvalidOptions>
  readonly bucket: TokenBucketOptions & {
    readonly capacity: number
    readonly refillAmount: number
    /** Milliseconds. */
    readonly refillFrequency: number
    /** Milliseconds. */
    readonly maxSleep: number
  }
  readonly backends: number
  /** In each backend. */
  readonly fibers: number
  /** Milliseconds. */
  readonly duration: number
  /** What happens meanwhile; it is interrupted at the end. */
  readonly meanwhile?: Effect.Effect<unknown>
}

export interface SwarmResult {
  /** When work was let through, in milliseconds since the start, in order. */
  readonly admissions: ReadonlyArray<number>
  readonly maxSleepExceeded: number
  readonly backendErrors: ReadonlyArray<BackendError>
  /** By how many milliseconds an answer came later than `maxSleep`, at worst, but for what timers were late. */
  readonly latest: number
  /** By how many milliseconds timers were late at worst. */
  readonly late: number
}

export const runSwarm = (options: SwarmOptions): Effect.Effect<SwarmResult, BackendError | InvalidOptions> =>
  quietly(
    Effect.gen(function* () {
      const live = Layer.fresh(RedisTokenBucketLive.pipe(Layer.provide(Layer.fresh(options.client))))
      const limiters = yield* Effect.forEach(Array.from({ length: options.backends }), () =>
        Effect.flatMap(Layer.build(live), (context) => Effect.provideContext(TokenBucket.make(options.bucket), context))
      )
      const clock = yield* Clock.Clock
      const lateBy = yield* lateness
      const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const start = now()
      const admissions: Array<number> = []
      const backendErrors: Array<BackendError> = []
      let maxSleepExceeded = 0
      let latest = 0

      const worker = (limiter: (typeof limiters)[number]) =>
        Effect.gen(function* () {
          while (now() - start < options.duration) {
            const asked = now()
            const exit = yield* Effect.exit(limiter.withPermit(Effect.sync(() => admissions.push(now() - start))))
            latest = Math.max(latest, now() - asked - options.bucket.maxSleep)
            if (Exit.isSuccess(exit)) continue
            const error = Exit.findErrorOption(exit)
            if (error._tag === "None") return yield* Effect.die(exit.cause)
            if (error.value._tag === "NoTokensAvailable") return yield* Effect.die(error.value)
            if (error.value._tag === "BackendError") {
              backendErrors.push(error.value)
              yield* Effect.sleep("20 millis")
            } else if (error.value._tag === "MaxSleepExceeded") {
              maxSleepExceeded++
              yield* Effect.sleep(Duration.min(error.value.requiredSleep ?? Duration.zero, Duration.millis(100)))
            }
          }
        })

      const chaos = yield* Effect.forkChild(options.meanwhile ?? Effect.void)
      yield* Effect.forEach(
        limiters.flatMap((limiter) => Array.from({ length: options.fibers }, () => limiter)),
        worker,
        { concurrency: "unbounded", discard: true }
      )
      yield* Fiber.interrupt(chaos)
      const late = lateBy()
      return { admissions, maxSleepExceeded, backendErrors, latest: latest - late, late }
    })
  )

const quietly = <A, E>(swarm: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E> =>
  Effect.provideService(Effect.scoped(swarm), References.MinimumLogLevel, "Error")

/**
 * The most that was admitted in any window beyond capacity and refill. News of a promise may be up to `age` milliseconds
 * old when it arrives, and timers late, so that windows count as that much longer.
 */
export const excess = (
  { admissions, late = 0 }: Pick<SwarmResult, "admissions"> & Partial<Pick<SwarmResult, "late">>,
  { capacity, refillAmount, refillFrequency }: SwarmOptions["bucket"],
  age: number
): number => {
  let worst = Number.NEGATIVE_INFINITY
  // With f(i) = i - rate * t(i), the window from i to j holds f(j) - f(i) + 1 more than what refilled in it.
  let lowest = Number.POSITIVE_INFINITY
  const rate = refillAmount / refillFrequency
  for (const [index, time] of admissions.entries()) {
    const f = index - rate * time
    lowest = Math.min(lowest, f)
    worst = Math.max(worst, f - lowest + 1)
  }
  return worst - capacity - refillAmount - rate * (age + late)
}
