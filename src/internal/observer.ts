/**
 * Who watches the limiters of a layer: nobody, unless an `Observation` is provided to it.
 *
 * It is asked once, when the layer is built. Limiters that nobody watches are what they would be if this didn't exist.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { LimiterKind } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import type { Semaphore } from "../Semaphore.ts"
import type { TokenBucket } from "../TokenBucket.ts"

/** Where the state of limiters is, as metrics and spans call it. */
export type Backend = "local" | "redis"

export interface Observer {
  /** `make` is given whom to tell the name of a limiter or keyed definition that is used with other options elsewhere. */
  readonly tokenBuckets: (
    make: (onDisagreed: (name: string) => void) => TokenBucket["Service"],
    backend: Backend
  ) => Effect.Effect<TokenBucket["Service"], never, Scope.Scope>
  /** `make` is given whom to tell the name of a limiter or keyed definition whose lease could not be kept. */
  readonly semaphores: (
    make: (onLost: (name: string) => void) => Semaphore["Service"],
    backend: Backend
  ) => Effect.Effect<Semaphore["Service"]>
  readonly redisClient: (client: RedisClient["Service"], kind: LimiterKind) => Effect.Effect<RedisClient["Service"]>
}

export const CurrentObserver = Context.Reference<Observer | undefined>("steindamm/Observer", {
  defaultValue: () => undefined
})

/** What the observer makes of something, or what is made without one. */
export const observed = <A, R>(
  make: () => A,
  observe: (observer: Observer) => Effect.Effect<A, never, R>
): Effect.Effect<A, never, R> =>
  Effect.flatMap(CurrentObserver, (observer) => (observer === undefined ? Effect.sync(make) : observe(observer)))
