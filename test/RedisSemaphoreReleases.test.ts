import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { Semaphore, type SemaphoreLimiter, type SemaphoreOptions } from "steindamm"
import { RedisClient, RedisSemaphoreLive } from "steindamm/redis"
import { type Detour, makeDetour } from "./support/detour.ts"
import { start } from "./support/fibers.ts"
import { startProxy } from "./support/proxy.ts"
import { quiet } from "./support/redisRun.ts"
import { startServer, until } from "./support/servers.ts"

const limiterOver = (layer: Layer.Layer<RedisClient>, options: SemaphoreOptions) =>
  Effect.flatMap(Layer.build(Layer.provide(RedisSemaphoreLive, layer)), (context) =>
    Effect.provideContext(Semaphore.make(options), context)
  )

/** Work that holds a permit until it is told to end, and how it ends. */
const hold = Effect.fnUntraced(function* (limiter: SemaphoreLimiter) {
  const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const work = Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end))
  const fiber = yield* start(limiter.withPermit(work))
  yield* Deferred.await(begun)
  return { end: Effect.andThen(Deferred.succeed(end, undefined), Fiber.join(fiber)), fiber }
})

describe("permits that come home to Redis", { timeout: 60_000 }, () => {
  const overtake = Effect.fnUntraced(function* (
    work: (limiter: SemaphoreLimiter, detour: Detour) => Effect.Effect<Effect.Effect<unknown, unknown>>
  ) {
    const server = yield* startServer()
    const detour = yield* makeDetour(quiet(RedisClient.layer({ url: server.url })))
    const limiter = yield* limiterOver(detour.layer, { name: "overtaken", capacity: 1, expiry: "4 seconds" })
    const end = yield* work(limiter, detour)
    const renewal = yield* detour.holdUp("keep")
    yield* renewal.stopped
    const release = yield* detour.holdUp("release")
    yield* end
    yield* release.stopped
    yield* server.kill
    yield* server.start({ empty: true })
    yield* release.letGo
    yield* renewal.letGo
    assert.deepInclude(yield* limiter.state, { held: 0 })
  })

  it.live("are not taken again by a renewal that arrives later, at a server that has lost its data", () =>
    overtake((limiter) => Effect.map(hold(limiter), ({ end }) => end))
  )

  it.live("are not taken again by one that arrives after the lease was given up", () =>
    overtake((limiter) => Effect.map(hold(limiter), ({ fiber }) => Effect.flip(Fiber.join(fiber))))
  )

  it.live("stay there when a layer closes whose crowd has not been served yet", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      const options = { name: "closing", capacity: 5 }
      const other = yield* limiterOver(Layer.orDie(RedisClient.layer({ url: server.url })), options)
      const scope = yield* Scope.make()
      const client = Layer.orDie(RedisClient.layer({ url: proxy.url }))
      const limiter = yield* Scope.provide(limiterOver(client, options), scope)
      yield* limiter.withPermit(Effect.void)
      proxy.latency = 50
      const crowd = yield* Effect.forEach(Array.from({ length: 20 * 128 }), () =>
        start(Effect.flip(limiter.withPermit(Effect.void)))
      )
      yield* until(Effect.map(other.state, ({ held }) => held === 5))
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.interruptAll(crowd)
      proxy.latency = 0
      assert.deepInclude(yield* other.state, { held: 0, waiting: 0 })
    })
  )

  it.live("are not for somebody who tries while they are on their way, when the layer closes meanwhile", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const detour = yield* makeDetour(RedisClient.layer({ url: server.url }))
      const client = Layer.succeedContext(yield* Layer.build(detour.layer))
      const scope = yield* Scope.make()
      const limiter = yield* Scope.provide(limiterOver(client, { name: "closing", capacity: 2 }), scope)
      const holder = yield* hold(limiter)
      // By a way of its own, for another call is on its way.
      const look = yield* detour.holdUp("look")
      yield* start(Effect.exit(limiter.state))
      yield* look.stopped
      const release = yield* detour.holdUp("release")
      yield* holder.end
      yield* release.stopped
      yield* look.letGo
      const tried = yield* start(Effect.exit(limiter.withPermitsIfAvailable(1)(Effect.void)))
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Fiber.join(tried)
      const error = Exit.findErrorOption(exit)
      assert.isTrue(error._tag === "Some" && error.value._tag === "BackendError" && error.value.reason === "Closed")
      yield* release.letGo
    })
  )
})
