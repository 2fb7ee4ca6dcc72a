/**
 * The observer that an `Observation` provides: it puts limiters that tell what they do around those of a layer.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { AnyLimiter } from "../Limiter.ts"
import { Semaphore, type SemaphoreLimiter } from "../Semaphore.ts"
import { TokenBucket, type TokenBucketLimiter } from "../TokenBucket.ts"
import { attributesOf } from "./acquisitionSpan.ts"
import { keyedVerbs } from "./keyedLimiter.ts"
import { BucketMeters, type LimiterLabels, type LimiterMeters, SemaphoreMeters } from "./limiterMeters.ts"
import { memberOf } from "./memberLimiter.ts"
import { Meter, metrics } from "./metrics.ts"
import { observedSemaphore, observedTokenBucket } from "./observedLimiter.ts"
import { CallMeters, observedRedisClient } from "./observedRedisClient.ts"
import type { Watch } from "./observedRequest.ts"
import type { Observer } from "./observer.ts"
import type { ObservationConfig } from "./options.ts"
import { TokenLooks } from "./tokenLooks.ts"

type MetersOf<L, M> = (labels: LimiterLabels, limiter?: L) => M

/** The meters of each key's limiter or, if keys are not told apart, the same for all. */
const metersByKey = <L, M>(byKey: boolean, labels: LimiterLabels, metersOf: MetersOf<L, M>) => {
  if (!byKey) {
    const meters = metersOf(labels)
    return () => meters
  }
  const known = new Map<string, M>()
  return (key: string, limiter: L): M => {
    const meters = known.get(key) ?? metersOf({ ...labels, key }, limiter)
    known.set(key, meters)
    return meters
  }
}

export const makeObserver = ({ byKey, lookEvery, spans, logs }: ObservationConfig): Observer => {
  /** Spans and log lines tell of the key in any case: there it costs nothing. */
  const watchOf = (limiter: AnyLimiter, meters: LimiterMeters, key?: string): Watch => {
    const isAway = memberOf(limiter)?.store.isAway
    if (isAway !== undefined) meters.showAway()
    if (!spans && !logs) return { meters, isAway, spans: undefined, logs: undefined }
    const attributes = attributesOf(key === undefined ? { ...meters.labels } : { ...meters.labels, key })
    return { meters, isAway, spans: spans ? attributes : undefined, logs: logs ? attributes : undefined }
  }

  return {
    tokenBuckets: Effect.fnUntraced(function* (make, backend) {
      const meter = new Meter(yield* Effect.context<never>())
      const looks = new TokenLooks()
      yield* Effect.forkScoped(looks.every(lookEvery))

      const labelsOf = (limiter: string): LimiterLabels => ({ limiter, kind: "TokenBucket", backend })
      const optionsDisagreed = (name: string) => meter.reading(metrics.optionsDisagreed, { ...labelsOf(name) })
      const service = make((name) => {
        optionsDisagreed(name).value++
      })

      const metersOf: MetersOf<TokenBucketLimiter, BucketMeters> = (labels, limiter) => {
        if (limiter === undefined) return new BucketMeters(meter, labels, () => {})
        const look = { limiter, onTokens: (tokens: number) => meters.counted(tokens) }
        const meters = new BucketMeters(meter, labels, () => looks.add(look))
        return meters
      }

      return TokenBucket.of({
        make: (options) =>
          Effect.map(service.make(options), (limiter) => {
            optionsDisagreed(limiter.name)
            const watch = watchOf(limiter, metersOf(labelsOf(limiter.name), limiter))
            return observedTokenBucket(limiter, watch, options.tokensToConsume)
          }),
        makeKeyed: (options) =>
          Effect.map(service.makeKeyed(options), (keyed) => {
            optionsDisagreed(keyed.name)
            const metersFor = metersByKey(byKey, labelsOf(keyed.name), metersOf)
            const forKey = (key: string) =>
              Effect.map(keyed.forKey(key), (limiter) =>
                observedTokenBucket(limiter, watchOf(limiter, metersFor(key, limiter), key), options.tokensToConsume)
              )
            return {
              ...keyed,
              ...keyedVerbs(keyed, forKey),
              reserve: (key, n) => Effect.flatMap(forKey(key), (limiter) => limiter.reserve(n))
            }
          })
      })
    }),

    semaphores: Effect.fnUntraced(function* (make, backend) {
      const meter = new Meter(yield* Effect.context<never>())
      const labelsOf = (limiter: string): LimiterLabels => ({ limiter, kind: "Semaphore", backend })
      const leasesLost = (name: string) => meter.reading(metrics.leasesLost, { ...labelsOf(name) })
      const service = make((name) => {
        leasesLost(name).value++
      })

      const metersOf: MetersOf<SemaphoreLimiter, SemaphoreMeters> = (labels) => new SemaphoreMeters(meter, labels)

      return Semaphore.of({
        make: (options) =>
          Effect.map(service.make(options), (limiter) => {
            leasesLost(limiter.name)
            return observedSemaphore(limiter, watchOf(limiter, metersOf(labelsOf(limiter.name))))
          }),
        makeKeyed: (options) =>
          Effect.map(service.makeKeyed(options), (keyed) => {
            leasesLost(keyed.name)
            const metersFor = metersByKey(byKey, labelsOf(keyed.name), metersOf)
            const forKey = (key: string) =>
              Effect.map(keyed.forKey(key), (limiter) =>
                observedSemaphore(limiter, watchOf(limiter, metersFor(key, limiter), key))
              )
            return { ...keyed, ...keyedVerbs(keyed, forKey) }
          })
      })
    }),

    redisClient: Effect.fnUntraced(function* (client, kind) {
      const meter = new Meter(yield* Effect.context<never>())
      return observedRedisClient(client, new CallMeters(meter, { kind, backend: "redis" }), yield* Clock.Clock)
    })
  }
}
