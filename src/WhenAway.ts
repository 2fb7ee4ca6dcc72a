/**
 * What limiters over Redis do while Redis is away.
 */
import type * as Duration from "effect/Duration"

/**
 * What a limiter does while Redis is away.
 *
 * - `"fail"`: requests wait for Redis, and fail with `BackendError` by `maxSleep` at the latest. The default.
 * - `"allow"`: work runs without limit, and is counted.
 * - `{ local: share }`: a limiter in this process takes over, with this share of the capacity and of the refill, above 0
 *   and at most 1. With `n` processes and a share of `1 / n` all of them together keep the limit.
 *
 * Over memory nothing is ever away, and the option has no effect.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { TokenBucket } from "steindamm"
 * import { RedisClient, RedisTokenBucketLive } from "steindamm/redis"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* TokenBucket.make({ name: "search", capacity: 100, whenAway: { local: 1 / 4 } })
 *   return yield* limiter.withPermit(Effect.succeed("found, whether or not Redis is there"))
 * })
 *
 * const live = RedisTokenBucketLive.pipe(Layer.provide(RedisClient.layerConfig()))
 * Effect.runPromise(program.pipe(Effect.provide(live))).then(console.log)
 * ```
 */
export type WhenAway = "fail" | "allow" | { readonly local: number }

/**
 * What a limiter has done without Redis, while that is away.
 */
export interface AwayState {
  /** For how long nobody has had an answer. */
  readonly duration: Duration.Duration
  /** Tokens or permits that this process gave meanwhile, without asking Redis. */
  readonly admitted: number
}
