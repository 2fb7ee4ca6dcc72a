import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { Redis as EffectRedis } from "effect/persistence"
import { makeRedisScript, RedisClient, type RedisScript } from "steindamm/redis"
import { inject } from "vitest"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

type RedisLayer = Layer.Layer<RedisClient | EffectRedis.Redis, unknown>

const script = <A>(source: string, decode: (reply: unknown) => A): RedisScript<A> =>
  makeRedisScript({ name: "test", source, decode })

const count = script("return redis.call('INCR', KEYS[1])", Number)
const echo = script("return ARGV", (reply) => reply as ReadonlyArray<string>)

const forever = Number.POSITIVE_INFINITY

const within = (duration: Duration.Input) =>
  Effect.map(Clock.monotonicTimeNanos, (now) => Number(now) / 1000 + Duration.toMillis(duration) * 1000)

/** Runs a script with the options that matter to a test. */
const run = Effect.fnUntraced(function* <A>(
  script: RedisScript<A>,
  keys: ReadonlyArray<string>,
  options: {
    readonly within?: Duration.Input
    readonly retryLost?: boolean
    readonly args?: ReadonlyArray<string>
  } = {}
) {
  const redis = yield* RedisClient
  const deadline = options.within === undefined ? forever : yield* within(options.within)
  return yield* redis.run(script, keys, options.args ?? [], {
    operation: "test",
    name: "limiter",
    deadline,
    retryLost: options.retryLost ?? false
  })
})

const keyOf = (name: string) => RedisClient.useSync((redis) => redis.key({ kind: "TokenBucket", name }))

/** The reason why a script fails. */
const reasonOf = (...args: Parameters<typeof run>) => Effect.map(Effect.flip(run(...args)), ({ reason }) => reason)

const single = (keyPrefix = freshKeyPrefix()) => RedisClient.layer({ url: inject("redisUrl"), keyPrefix })
const cluster = (keyPrefix = freshKeyPrefix()) => RedisClient.layer({ nodes: [inject("clusterUrl")], keyPrefix })

const modes: ReadonlyArray<readonly [mode: "standalone" | "cluster", layer: (keyPrefix?: string) => RedisLayer]> = [
  ["standalone", single],
  ["cluster", cluster]
]

describe.each(modes)("RedisClient on %s", (mode, layer) => {
  it.live("runs scripts with keys and arguments, on every shard", () =>
    Effect.gen(function* () {
      const redis = yield* RedisClient
      assert.strictEqual(redis.mode, mode)
      const names = Array.from({ length: 50 }, (_, index) => `name ${index} {🪣}`)
      const counts = yield* Effect.forEach(names, (name) => Effect.flatMap(keyOf(name), (key) => run(count, [key])), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(
        counts,
        names.map(() => 1)
      )
      const args = ["", " ", "é🪣", "\r\n", "1"]
      assert.deepStrictEqual(yield* run(echo, [yield* keyOf("echo")], { args }), args)
    }).pipe(Effect.provide(layer()))
  )

  it.live("sends the source to a server that does not know the script, while scripts are flushed all the time", () =>
    Effect.gen(function* () {
      const { send } = yield* EffectRedis.Redis
      const flushing = yield* Effect.forkChild(Effect.forever(send("SCRIPT", "FLUSH")))
      const keys = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => keyOf(`flushed ${n}`))
      const callers = keys.flatMap((key) => Array.from({ length: 40 }, () => key))
      yield* Effect.forEach(callers, (key) => Effect.repeat(run(count, [key]), { times: 4 }), {
        concurrency: "unbounded",
        discard: true
      })
      yield* Fiber.interrupt(flushing)
      for (const key of keys) assert.strictEqual(yield* run(count, [key]), 201)
    }).pipe(Effect.provide(layer()))
  )

  it.live("keeps keys of different prefixes apart", () =>
    Effect.gen(function* () {
      const once = Effect.flatMap(keyOf("same"), (key) => run(count, [key]))
      assert.strictEqual(yield* Effect.provide(once, layer()), 1)
      assert.strictEqual(yield* Effect.provide(once, layer()), 1)
    })
  )

  it.live("fails at once for a key of another type, a script that fails, and a reply that can't be read", () =>
    Effect.gen(function* () {
      const key = yield* keyOf("broken")
      yield* run(script("return redis.call('LPUSH', KEYS[1], 'a')", Number), [key])
      assert.strictEqual(yield* reasonOf(count, [key]), "WrongType")
      assert.strictEqual(yield* reasonOf(script("return nothing.here", String), [key]), "Script")
      assert.strictEqual(yield* reasonOf(script("not Lua", String), [key]), "Script")
      const unreadable = script("return 1", () => {
        throw new Error("unreadable")
      })
      assert.strictEqual(yield* reasonOf(unreadable, [key]), "Script")
    }).pipe(Effect.provide(layer()))
  )

  it.live("tells operation, name and cause of a failure", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        run(script("return redis.error_reply('WRONGTYPE mine')", String), [yield* keyOf("a")])
      )
      assert.deepInclude(
        { ...error },
        { _tag: "BackendError", operation: "test", name: "limiter", reason: "WrongType" }
      )
      assert.match(String(error.cause), /WRONGTYPE mine/)
    }).pipe(Effect.provide(layer()))
  )

  it.live("lets callers go when they are interrupted, and serves the others", () =>
    Effect.gen(function* () {
      const key = yield* keyOf("interrupted")
      const fibers = yield* Effect.forEach(Array.from({ length: 200 }), () => Effect.forkChild(run(count, [key])))
      yield* Effect.forEach(
        fibers.filter((_, index) => index % 2 === 0),
        Fiber.interrupt,
        { concurrency: "unbounded" }
      )
      const counts = yield* Effect.forEach(
        fibers.filter((_, index) => index % 2 === 1),
        Fiber.join
      )
      assert.strictEqual(new Set(counts).size, 100)
    }).pipe(Effect.provide(layer()))
  )

  it.live("does not send a call whose deadline has passed", () =>
    Effect.gen(function* () {
      const key = yield* keyOf("late")
      assert.strictEqual(yield* reasonOf(count, [key], { within: 0 }), "TimedOut")
      assert.strictEqual(yield* run(count, [key]), 1)
    }).pipe(Effect.provide(layer()))
  )

  it.live("is closed with its layer, and fails calls from then on", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(layer(), scope)
      yield* Effect.provide(run(count, ["{a}"]), context)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Effect.provide(reasonOf(count, ["{a}"]), context), "Closed")
    })
  )
})
