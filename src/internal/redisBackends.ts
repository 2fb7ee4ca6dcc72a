/**
 * The limiters of one process over one Redis, until their scope closes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { LimiterKind } from "../Errors.ts"
import { RedisClient } from "../RedisClient.ts"
import { observed } from "./observer.ts"
import { RedisBuckets } from "./redisBuckets.ts"
import { RedisSemaphores } from "./redisSemaphores.ts"

/** A backend under a name that no other process has. */
const backend = <A extends { readonly close: Effect.Effect<void> }>(
  kind: LimiterKind,
  make: (
    client: RedisClient["Service"],
    process: string,
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) => A
): Effect.Effect<A, never, RedisClient | Scope.Scope> =>
  Effect.gen(function* () {
    const bare = yield* RedisClient
    const client = yield* observed(
      () => bare,
      (observer) => observer.redisClient(bare, kind)
    )
    const clock = yield* Clock.Clock
    const words = yield* Effect.all(Array.from({ length: 3 }, () => Random.nextIntBetween(0, 2 ** 32)))
    const process = words.map((word) => word.toString(36)).join("")
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    return yield* Effect.acquireRelease(
      Effect.sync(() => make(client, process, clock, (effect) => fork(effect))),
      ({ close }) => close
    )
  })

export const redisBuckets: Effect.Effect<RedisBuckets, never, RedisClient | Scope.Scope> = backend(
  "TokenBucket",
  (...around) => new RedisBuckets(...around)
)

export const redisSemaphores: Effect.Effect<RedisSemaphores, never, RedisClient | Scope.Scope> = backend(
  "Semaphore",
  (...around) => new RedisSemaphores(...around)
)
