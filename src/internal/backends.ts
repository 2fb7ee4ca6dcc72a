/**
 * What a layer provides: limiters, single ones and keyed ones, over the stores of its backend.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { InvalidOptions, type PermitLost } from "../Errors.ts"
import {
  Semaphore,
  type SemaphoreError,
  type SemaphoreLimiter,
  type SemaphorePermit,
  type SemaphoreState
} from "../Semaphore.ts"
import {
  TokenBucket,
  type TokenBucketError,
  type TokenBucketLimiter,
  type TokenBucketPermit,
  type TokenBucketState
} from "../TokenBucket.ts"
import { type BucketStore, disagreementOf, makeBucketLimiter } from "./bucketLimiter.ts"
import { BucketWaiters } from "./bucketWaiters.ts"
import { keyedNames, makeKeyedLimiter, ofKey } from "./keyedLimiter.ts"
import {
  type BucketConfig,
  bucketConfig,
  durationOf,
  maxNameLength,
  type SemaphoreConfig,
  semaphoreConfig
} from "./options.ts"
import { makeSemaphoreLimiter, type SemaphoreStore } from "./semaphoreLimiter.ts"

/** The name must leave room for a key, if only a short one. */
const keyed = <Config extends { readonly name: string }>(
  config: Result.Result<Config, InvalidOptions>
): Effect.Effect<Config, InvalidOptions> =>
  Effect.fromResult(
    Result.flatMap(config, (config) =>
      Result.mapBoth(keyedNames(config.name)("k"), {
        onSuccess: () => config,
        onFailure: () =>
          new InvalidOptions({
            name: config.name,
            field: "name",
            value: config.name,
            rule: `short enough to leave room for a key: together they have at most ${maxNameLength} UTF-8 bytes`
          })
      })
    )
  )

/** `onDisagreed`: told the name of a limiter or of a keyed definition for each request that found other options. */
export const tokenBuckets = (
  storeOf: (config: BucketConfig, waiters: BucketWaiters) => BucketStore,
  onDisagreed: (name: string) => void = () => {}
): TokenBucket["Service"] => {
  const waiters = new BucketWaiters()
  return TokenBucket.of({
    make: Effect.fnUntraced(function* (options) {
      const config = yield* Effect.fromResult(bucketConfig(options, yield* Clock.currentTimeMillis))
      const disagreement = disagreementOf(config.name, () => onDisagreed(config.name))
      return makeBucketLimiter(config, storeOf(config, waiters), waiters, disagreement)
    }),
    makeKeyed: Effect.fnUntraced(function* (options) {
      const config = yield* keyed(bucketConfig(options, yield* Clock.currentTimeMillis))
      const disagreement = disagreementOf(config.name, () => onDisagreed(config.name))
      const limiter = makeKeyedLimiter<
        TokenBucketError,
        never,
        TokenBucketPermit,
        TokenBucketState,
        TokenBucketLimiter
      >({ kind: "TokenBucket", name: config.name, maxSleep: durationOf(config.maxSleep) }, (name, key) => {
        const its = ofKey(config, name, key)
        return makeBucketLimiter(its, storeOf(its, waiters), waiters, disagreement)
      })
      return {
        ...limiter,
        stateFor: (key, n) => Effect.flatMap(limiter.forKey(key), (ofKey) => ofKey.stateFor(n)),
        reserve: (key, n) => Effect.flatMap(limiter.forKey(key), (ofKey) => ofKey.reserve(n)),
        pause: (key, duration) => Effect.flatMap(limiter.forKey(key), (ofKey) => ofKey.pause(duration))
      }
    })
  })
}

/** `onLost`: told the name of a limiter or of a keyed definition for each lease that could not be kept. */
export const semaphores = (
  storeOf: (config: SemaphoreConfig) => SemaphoreStore,
  onLost: (name: string) => void = () => {}
): Semaphore["Service"] =>
  Semaphore.of({
    make: (options) =>
      Effect.map(Effect.fromResult(semaphoreConfig(options)), (config) =>
        makeSemaphoreLimiter(config, storeOf(config), () => onLost(config.name))
      ),
    makeKeyed: (options) =>
      Effect.map(keyed(semaphoreConfig(options)), (config) => {
        const lost = () => onLost(config.name)
        const limiter = makeKeyedLimiter<SemaphoreError, PermitLost, SemaphorePermit, SemaphoreState, SemaphoreLimiter>(
          { kind: "Semaphore", name: config.name, maxSleep: durationOf(config.maxSleep) },
          (name, key) => {
            const its = ofKey(config, name, key)
            return makeSemaphoreLimiter(its, storeOf(its), lost)
          }
        )
        return {
          ...limiter,
          resize: (key, capacity) => Effect.flatMap(limiter.forKey(key), (ofKey) => ofKey.resize(capacity))
        }
      })
  })
