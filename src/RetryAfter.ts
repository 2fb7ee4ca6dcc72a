/**
 * Coming back when there is something to be had.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { MaxSleepExceeded } from "./Errors.ts"
import { retryAfterConfig } from "./internal/options.ts"

/**
 * How `retryAfter` goes about it.
 */
export interface RetryAfterOptions {
  /** Retries at most so many times. Default: without bound. */
  readonly times?: number | undefined
  /**
   * Waits longer by a random part of the time, up to this one: 0.5 for up to half as long again. All who are refused at
   * one moment are told the same time, and with this they don't all come back at once. Default: 0.
   */
  readonly jitter?: number | undefined
}

/**
 * A schedule that retries `MaxSleepExceeded` after its `requiredSleep`, and nothing else: other errors pass through.
 *
 * A semaphore can't tell how long it would have taken, and has been waited for already: then the retry is at once. What
 * would never succeed is not retried.
 *
 * Throws `InvalidOptions` if an option breaks its rule.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { LocalLive, retryAfter, TokenBucket } from "steindamm"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* TokenBucket.make({
 *     name: "api",
 *     capacity: 1,
 *     refillFrequency: "50 millis",
 *     maxSleep: "10 millis"
 *   })
 *   yield* limiter.withPermit(Effect.log("first"))
 *   yield* limiter.withPermit(Effect.log("second, after 50 milliseconds")).pipe(Effect.retry(retryAfter({ times: 3 })))
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
 * ```
 */
export const retryAfter = (options: RetryAfterOptions = {}): Schedule.Schedule<Duration.Duration, unknown> => {
  const { times, jitter } = Result.getOrThrow(retryAfterConfig(options))
  return Schedule.fromStepWithMetadata(
    Effect.succeed(({ input, attempt }: Schedule.InputMetadata<unknown>) => {
      if (!(input instanceof MaxSleepExceeded) || attempt > times) return Cause.done(Duration.zero)
      const required = input.requiredSleep ?? Duration.zero
      if (!Duration.isFinite(required)) return Cause.done(required)
      return Effect.map(Random.next, (random): [Duration.Duration, Duration.Duration] => {
        const delay = Duration.millis(Duration.toMillis(required) * (1 + jitter * random))
        return [delay, delay]
      })
    })
  )
}
