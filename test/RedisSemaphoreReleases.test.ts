import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { Semaphore, type SemaphoreLimiter, type SemaphoreOptions } from "steindamm"
import { RedisClient, RedisSemaphoreLive } from "steindamm/redis"
import { type Detour, makeDetour } from "./support/detour.ts"
import { quiet } from "./support/redisRun.ts"
import { startServer } from "./support/servers.ts"

const limiterOver = (layer: Layer.Layer<RedisClient>, options: SemaphoreOptions) =>
  Effect.flatMap(Layer.build(Layer.provide(RedisSemaphoreLive, layer)), (context) =>
    Effect.provideContext(Semaphore.make(options), context)
  )

/** Work that holds a permit until it is told to end, and how it ends. */
const hold = Effect.fnUntraced(function* (limiter: SemaphoreLimiter) {
  const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const work = Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end))
  const fiber = yield* Effect.forkChild(limiter.withPermit(work), { startImmediately: true })
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
})
