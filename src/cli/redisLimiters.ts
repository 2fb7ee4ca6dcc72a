/**
 * `Limiters` over Redis. Loads ioredis.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EffectRedis from "effect/persistence/Redis"
import type { BackendError } from "../Errors.ts"
import type { LimiterAddress } from "../internal/limiterKeys.ts"
import { type SemaphoreResult, semaphoreScript, tokenBucketScript } from "../internal/redisScripts.ts"
import { monotonicMicros } from "../internal/time.ts"
import { RedisClient } from "../RedisClient.ts"
import type { RedisScript } from "../RedisScript.ts"
import { bucketReport, inspectTokenBucketScript } from "./bucketReport.ts"
import { Limiters } from "./limiters.ts"
import { type Problem, problem, problemOfLimiter } from "./problem.ts"
import { addressText, type RedisAddress } from "./redisAddress.ts"
import { redisClient } from "./redisClient.ts"
import { primaries, recognized } from "./redisPrimaries.ts"
import { searchKeys } from "./searchKeys.ts"
import { semaphoreReport } from "./semaphoreReport.ts"

/** A call is answered or given up within three seconds. */
const patience = 3_000_000

/** Holders and waiters of a semaphore that are listed; its script lists no more. */
const mostListed = 1_000

const asProblem = ({ reason, message }: BackendError): Problem =>
  reason === "WrongType" ? problemOfLimiter(message) : problem(message)

const make = Effect.fnUntraced(function* (address: RedisAddress) {
  const client = yield* RedisClient
  const redis = yield* EffectRedis.Redis
  const clock = yield* Clock.Clock
  const { keyPrefix } = client

  const run = <A>(
    script: RedisScript<A>,
    limiter: LimiterAddress,
    args: ReadonlyArray<string | number>,
    operation: string
  ): Effect.Effect<A, Problem> =>
    Effect.suspend(() =>
      client.run(script, [client.key(limiter)], args, {
        operation,
        name: limiter.name,
        deadline: monotonicMicros(clock) + patience,
        retryLost: true
      })
    ).pipe(Effect.mapError(asProblem))

  const isThere = (limiter: LimiterAddress): Effect.Effect<boolean, Problem> =>
    redis.send<number>("EXISTS", client.key(limiter)).pipe(
      Effect.map((count) => count > 0),
      Effect.mapError(({ cause }) => problem(`Redis at ${addressText(address)} does not answer: ${cause}`))
    )

  // Our name says where notices for us would go. There are none, for we hold nothing and wait for nothing.
  const askSemaphore = (
    limiter: LimiterAddress,
    operation: string,
    ...words: ReadonlyArray<string | number>
  ): Effect.Effect<{ readonly now: number; readonly result: SemaphoreResult }, Problem> =>
    run(semaphoreScript, limiter, [0, "cli", 0, client.publishCommand, 0, operation, ...words], operation).pipe(
      Effect.map(([now, , , [result]]) => ({ now, result: result ?? [""] }))
    )

  const remembered = (limiter: LimiterAddress) => run(inspectTokenBucketScript, limiter, [], "look")

  return Limiters.of({
    redis: addressText(address),
    prefix: keyPrefix,
    find: (search) =>
      Effect.scoped(Effect.flatMap(primaries(address), (nodes) => searchKeys(address, nodes, keyPrefix, search))),
    report: Effect.fnUntraced(function* (limiter) {
      if (limiter.kind === "TokenBucket") {
        const bucket = yield* remembered(limiter)
        return bucket === undefined ? undefined : bucketReport(limiter, bucket)
      }
      if (!(yield* isThere(limiter))) return undefined
      const { now, result } = yield* askSemaphore(limiter, "look", mostListed)
      return semaphoreReport(limiter, now, result)
    }),
    revoke: (limiter, id) => Effect.map(askSemaphore(limiter, "revoke", id), ({ result }) => result[0] === "released"),
    resize: (limiter, capacity) => Effect.asVoid(askSemaphore(limiter, "resize", capacity)),
    reset: Effect.fnUntraced(function* (limiter) {
      if (limiter.kind === "TokenBucket") {
        const bucket = yield* remembered(limiter)
        if (bucket === undefined) return false
        yield* run(tokenBucketScript, limiter, [0, "", 0, 0, 1, bucket.rulesText, 1, "reset"], "reset")
        return true
      }
      if (!(yield* isThere(limiter))) return false
      yield* askSemaphore(limiter, "reset")
      return true
    })
  })
})

export const redisLimiters = (wanted: RedisAddress, keyPrefix: string): Layer.Layer<Limiters, Problem> =>
  Layer.unwrap(
    Effect.map(recognized(wanted), (address) =>
      Layer.effect(Limiters, make(address)).pipe(Layer.provide(redisClient(address, keyPrefix)))
    )
  )
