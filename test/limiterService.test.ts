import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Duration, Effect, Layer } from "effect"
import { LocalLive, Semaphore, TokenBucket, type TokenBucketOptions } from "steindamm"

describe("a limiter as a service", () => {
  class Plain extends TokenBucket.Service<Plain>()("test/Plain", { name: "plain", capacity: 2 }) {}
  class Wrong extends Semaphore.Service<Wrong>()("test/Wrong", { name: "wrong", capacity: 0 }) {}
  class Configured extends Semaphore.Service<Configured>()(
    "test/Configured",
    Config.all({ name: Config.succeed("configured"), capacity: Config.Int("POOL") })
  ) {}
  class Mixed extends TokenBucket.Service<Mixed>()("test/Mixed", {
    name: "mixed",
    capacity: Config.Int("CAPACITY").pipe(Config.withDefault(3)),
    refillFrequency: Config.Duration("EVERY"),
    maxSleep: 0
  }) {}
  class PerUser extends TokenBucket.KeyedService<PerUser>()("test/PerUser", { name: "user", capacity: 2 }) {}
  class PerHost extends Semaphore.KeyedService<PerHost>()("test/PerHost", {
    name: Config.String("HOST_LIMIT"),
    capacity: 2
  }) {}

  const env = (env: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnv({ env }))

  it.effect("is made from options", () =>
    Plain.use((limiter) => Effect.map(limiter.state, ({ capacity }) => assert.strictEqual(capacity, 2))).pipe(
      Effect.provide(Plain.layer.pipe(Layer.provide(LocalLive)))
    )
  )

  it.effect("is made from a Config", () =>
    Configured.use((limiter) => Effect.map(limiter.state, ({ capacity }) => assert.strictEqual(capacity, 7))).pipe(
      Effect.provide(Configured.layer.pipe(Layer.provide(LocalLive))),
      Effect.provide(env({ POOL: "7" }))
    )
  )

  it.effect("is made from options of which some are a Config", () =>
    Effect.gen(function* () {
      const limiter = yield* Mixed
      yield* limiter.withPermits(3)(Effect.void)
      const state = yield* limiter.state
      assert.strictEqual(state.capacity, 3)
      assert.strictEqual(Duration.toMillis(state.wait), 7000)
    }).pipe(Effect.provide(Mixed.layer.pipe(Layer.provide(LocalLive))), Effect.provide(env({ EVERY: "7 seconds" })))
  )

  it.effect("can be one for each key", () =>
    Effect.gen(function* () {
      const [perUser, perHost] = yield* Effect.all([PerUser, PerHost])
      yield* perUser.withPermit("ada")(Effect.void)
      assert.strictEqual((yield* perUser.state("ada")).tokens, 1)
      assert.strictEqual((yield* perUser.state("grace")).tokens, 2)
      assert.strictEqual(perHost.name, "hosts")
      const both = [perHost.state("a"), perHost.state("b")]
      const held = perHost.withPermits("a", 2)(Effect.all(both))
      assert.deepStrictEqual(
        (yield* held).map((state) => state.held),
        [2, 0]
      )
    }).pipe(
      Effect.provide(Layer.merge(PerUser.layer, PerHost.layer).pipe(Layer.provide(LocalLive))),
      Effect.provide(env({ HOST_LIMIT: "hosts" }))
    )
  )

  it.effect("shares its state with others of its name over the same backend", () =>
    Effect.gen(function* () {
      const injected = yield* Plain
      const made = yield* TokenBucket.make({ name: "plain", capacity: 2 })
      yield* made.withPermit(Effect.void)
      assert.strictEqual((yield* injected.state).tokens, 1)
    }).pipe(Effect.provide(Plain.layer.pipe(Layer.provideMerge(LocalLive))))
  )

  it.effect("fails to build with what is wrong", () =>
    Effect.gen(function* () {
      const wrong = yield* Effect.flip(Layer.build(Wrong.layer.pipe(Layer.provide(LocalLive))))
      assert.deepInclude(wrong, { _tag: "InvalidOptions", field: "capacity" })
      const missing = yield* Effect.flip(Layer.build(Configured.layer.pipe(Layer.provide(LocalLive)))).pipe(
        Effect.provide(env({}))
      )
      assert.strictEqual(missing._tag, "ConfigError")
      const malformed = yield* Effect.flip(Layer.build(Mixed.layer.pipe(Layer.provide(LocalLive)))).pipe(
        Effect.provide(env({ EVERY: "now and then" }))
      )
      assert.strictEqual(malformed._tag, "ConfigError")
      const configured = yield* Effect.flip(Layer.build(Configured.layer.pipe(Layer.provide(LocalLive)))).pipe(
        Effect.provide(env({ POOL: "0" }))
      )
      assert.deepInclude(configured, { _tag: "InvalidOptions", field: "capacity", value: 0 })
      for (const options of [undefined, null, "name"] as ReadonlyArray<unknown> as ReadonlyArray<TokenBucketOptions>) {
        class Untyped extends TokenBucket.Service<Untyped>()("test/Untyped", options) {}
        const refused = yield* Effect.flip(Layer.build(Untyped.layer.pipe(Layer.provide(LocalLive))))
        assert.deepInclude(refused, { _tag: "InvalidOptions", field: "options" })
      }
    }).pipe(Effect.scoped)
  )
})
