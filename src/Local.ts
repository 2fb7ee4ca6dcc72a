/**
 * Limiters whose state is in the memory of this process.
 *
 * Time comes from Effect's `Clock`, so that `TestClock` drives them in tests; what is idle takes no memory.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { semaphores, tokenBuckets } from "./internal/backends.ts"
import { LocalBuckets } from "./internal/localBuckets.ts"
import { LocalSemaphores } from "./internal/localSemaphores.ts"
import { observed } from "./internal/observer.ts"
import { Semaphore } from "./Semaphore.ts"
import { TokenBucket } from "./TokenBucket.ts"

/**
 * Token buckets in this process. Limiters of the same name over this layer are one bucket.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { LocalTokenBucketLive, TokenBucket } from "steindamm"
 *
 * const program = TokenBucket.make({ name: "mail", capacity: 10 }).pipe(
 *   Effect.flatMap((limiter) => limiter.withPermit(Effect.succeed("sent")))
 * )
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalTokenBucketLive)))
 * ```
 */
export const LocalTokenBucketLive: Layer.Layer<TokenBucket> = Layer.effect(
  TokenBucket,
  Effect.clockWith((clock) => {
    const buckets = new LocalBuckets(clock)
    const make = (onDisagreed?: (name: string) => void) => tokenBuckets((config) => buckets.store(config), onDisagreed)
    return observed(make, (observer) => observer.tokenBuckets(make, "local"))
  })
)

/**
 * Semaphores in this process. Limiters of the same name over this layer are one semaphore. Holders can't die without
 * the process, so that `expiry` has no use here and only `reset` can take a permit away.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { LocalSemaphoreLive, Semaphore } from "steindamm"
 *
 * const program = Semaphore.make({ name: "disk", capacity: 1 }).pipe(
 *   Effect.flatMap((limiter) => limiter.withPermit(Effect.succeed("written")))
 * )
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalSemaphoreLive)))
 * ```
 */
export const LocalSemaphoreLive: Layer.Layer<Semaphore> = Layer.effect(
  Semaphore,
  Effect.suspend(() => {
    const kept = new LocalSemaphores()
    const make = (onLost?: (name: string) => void) => semaphores((config) => kept.store(config), onLost)
    return observed(make, (observer) => observer.semaphores(make, "local"))
  })
)

/**
 * Both kinds of limiter in this process.
 */
export const LocalLive: Layer.Layer<TokenBucket | Semaphore> = Layer.merge(LocalTokenBucketLive, LocalSemaphoreLive)
