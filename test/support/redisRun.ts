/**
 * Short ways to say what tests of `RedisClient` say all the time.
 */
import { Clock, Duration, Effect, Layer, References } from "effect"
import { makeRedisScript, RedisClient, type RedisScript } from "steindamm/redis"

export const script = <A>(source: string, decode: (reply: unknown) => A): RedisScript<A> =>
  makeRedisScript({ name: "test", source, decode })

/** Counts its runs, so that one run too many shows. */
export const count: RedisScript<number> = script("return redis.call('INCR', KEYS[1])", Number)

export interface RunOptions {
  readonly within?: Duration.Input
  readonly retryLost?: boolean
  readonly args?: ReadonlyArray<string>
}

/** Runs a script; without `within`, it may take for ever. */
export const run = Effect.fnUntraced(function* <A>(
  script: RedisScript<A>,
  keys: ReadonlyArray<string>,
  options: RunOptions = {}
) {
  const redis = yield* RedisClient
  const now = Number(yield* Clock.monotonicTimeNanos) / 1000
  return yield* redis.run(script, keys, options.args ?? [], {
    operation: "test",
    name: "limiter",
    deadline: options.within === undefined ? Number.POSITIVE_INFINITY : now + Duration.toMillis(options.within) * 1000,
    retryLost: options.retryLost ?? false
  })
})

/** Why a script fails. */
export const reasonOf = (script: RedisScript<unknown>, keys: ReadonlyArray<string>, options: RunOptions = {}) =>
  Effect.map(Effect.flip(run(script, keys, options)), ({ reason }) => reason)

export const keyOf = (name: string) => RedisClient.useSync((redis) => redis.key({ kind: "TokenBucket", name }))

/** Milliseconds that an effect takes, and its value. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [number, A], E, R> =>
  Effect.map(Effect.timed(effect), ([duration, value]) => [Duration.toMillis(duration), value])

/** Without the warnings that faults lead to. */
export const quiet = <A, E, R>(layer: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> =>
  Layer.provide(layer, Layer.succeed(References.MinimumLogLevel, "None"))
