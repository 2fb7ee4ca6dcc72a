/**
 * What befalls a Redis, or the network before it, while limiters use it.
 */
import { type Duration, Effect, Random } from "effect"
import type { LimiterKind } from "steindamm"
import { RedisClient } from "steindamm/redis"
import type { TcpProxy } from "./proxy.ts"
import type { RedisCluster, RedisServer } from "./servers.ts"

/** Twenty times a second. */
export const killAndFlush = (server: RedisServer, proxy: TcpProxy): Effect.Effect<never> =>
  Effect.forever(
    Effect.gen(function* () {
      yield* Effect.sleep("50 millis")
      yield* server.command("SCRIPT", "FLUSH")
      proxy.killConnections()
    })
  )

/** For so many milliseconds: ten times a second a reply is cut, and now and then all connections fall silent. */
export const spoilNetwork = (
  proxy: TcpProxy,
  options: { readonly latency: number; readonly silentOneIn: number; readonly duration: number }
): Effect.Effect<unknown> =>
  Effect.repeat(
    Effect.gen(function* () {
      yield* Effect.sleep("100 millis")
      proxy.latency = yield* Random.nextIntBetween(0, options.latency)
      proxy.cutReplies(1)
      if ((yield* Random.nextIntBetween(0, options.silentOneIn)) === 0) proxy.goHalfOpen()
    }),
    { times: options.duration / 100 }
  )

/** For one and a half seconds. */
export const putToSleep = (server: RedisServer, after: Duration.Input): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* Effect.sleep(after)
    yield* server.pause
    yield* Effect.sleep("1500 millis")
    yield* server.resume
  })

export const restart = (
  server: RedisServer,
  after: Duration.Input,
  options: { readonly empty?: boolean } = {}
): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* Effect.sleep(after)
    yield* server.kill
    yield* server.start(options)
  })

/** Moves the slot of a limiter to another node, three times; `onMoved` is told each time. */
export const moveAbout = (
  cluster: RedisCluster,
  limiter: { readonly kind: LimiterKind; readonly name: string },
  onMoved: () => void
): Effect.Effect<unknown> =>
  Effect.gen(function* () {
    const slot = yield* Effect.provide(
      RedisClient.useSync((redis) => redis.slotOf(redis.key(limiter))),
      RedisClient.layer({ nodes: [cluster.url] })
    ).pipe(Effect.orDie)
    const move = Effect.gen(function* () {
      yield* Effect.sleep("300 millis")
      const owner = yield* cluster.ownerOf(slot)
      const other = cluster.primaries.find((node) => node.port !== owner.port)
      if (other === undefined) return yield* Effect.die(new Error("The cluster has but one node"))
      yield* cluster.moveSlot(slot, other, Effect.sleep("300 millis"))
      onMoved()
    })
    return yield* Effect.repeat(move, { times: 2 })
  })
