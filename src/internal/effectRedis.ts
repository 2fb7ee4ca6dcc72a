/**
 * Effect's own `Redis` service over our connection, for what is built on it: Effect's RateLimiter, PersistedQueue and
 * others, on a single server and on a cluster.
 */
import * as Effect from "effect/Effect"
import * as Redis from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import type { Redis as Client, Cluster } from "ioredis"
import { isCluster, plainOptions, type RedisConnection } from "./redisConnection.ts"
import type { Failure } from "./redisFailure.ts"
import { makeSubscriptions } from "./redisSubscriptions.ts"

type Send = Redis.Redis["Service"]["send"]

export const makeEffectRedis = (
  connection: RedisConnection
): Effect.Effect<Redis.Redis["Service"], never, Scope.Scope> => {
  const { client } = connection
  const send = sendOver(connection)
  return Redis.make({
    send: isCluster(client) ? sendToCluster(client, send) : send,
    connect: Effect.map(reserved(connection), (own) => ({
      send: (command, ...args) => attempt(() => own.call(command, ...args) as Promise<never>),
      close: Effect.sync(() => own.disconnect())
    })),
    subscribe: (channel, onMessage) => {
      const forward = (message: string) => onMessage({ channel, message })
      return Effect.as(
        isCluster(client) ? subscribeCluster(client, channel, forward) : subscribeSingle(connection, channel, forward),
        Effect.never
      )
    }
  })
}

const attempt = <A>(f: () => Promise<A>): Effect.Effect<A, Redis.RedisError> =>
  Effect.tryPromise({ try: f, catch: (cause) => new Redis.RedisError({ cause }) })

/** Waits for Redis as long as for a reply. */
const sendOver =
  (connection: RedisConnection): Send =>
  <A>(command: string, ...args: ReadonlyArray<string>) =>
    Effect.suspend(() => {
      const deadline = connection.now() + connection.settings.replyTimeout * 1000
      const onFailure = ({ cause }: Failure) => new Redis.RedisError({ cause })
      return connection.command(command, args, deadline, onFailure) as Effect.Effect<A, Redis.RedisError>
    })

/** Every node has scripts of its own. */
const sendToCluster =
  (cluster: Cluster, send: Send): Send =>
  <A>(command: string, ...args: ReadonlyArray<string>) =>
    command.toUpperCase() !== "SCRIPT"
      ? send<A>(command, ...args)
      : Effect.tap(send<A>(command, ...args), () =>
          Effect.forEach(cluster.nodes("master"), (node) => attempt(() => node.call(command, ...args)), {
            concurrency: "unbounded",
            discard: true
          })
        )

/** A connection for one user, whose commands may block. It fails with its connection. */
const reserved = ({ client, settings }: RedisConnection): Effect.Effect<Client | Cluster, Redis.RedisError> =>
  Effect.suspend(() => {
    const own = isCluster(client)
      ? client.duplicate([], { enableOfflineQueue: true, clusterRetryStrategy: null })
      : client.duplicate({ ...plainOptions(settings), enableOfflineQueue: true, retryStrategy: null })
    own.on("error", () => {})
    return Effect.as(
      Effect.onError(
        attempt(() => own.connect()),
        () => Effect.sync(() => own.disconnect())
      ),
      own as Client | Cluster
    )
  })

const subscribeSingle = (connection: RedisConnection, channel: string, onMessage: (message: string) => void) =>
  Effect.acquireRelease(
    Effect.callback<() => void>((resume) => {
      const subscriptions = makeSubscriptions(connection)
      const close = () => subscriptions.close()
      const onEstablished = () => resume(Effect.succeed(close))
      subscriptions.add(channel, { onMessage, onEstablished })
      return Effect.sync(close)
    }),
    (close) => Effect.sync(close),
    { interruptible: true }
  )

/** Effect's users publish with PUBLISH, which every node of a cluster passes on. */
const subscribeCluster = (cluster: Cluster, channel: string, onMessage: (message: string) => void) =>
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() => cluster.duplicate([], { enableOfflineQueue: true }).on("error", () => {})),
      (own) => Effect.sync(() => own.disconnect())
    ),
    (own) => {
      own.on("message", (_channel: string, message: string) => onMessage(message))
      return attempt(() => own.subscribe(channel))
    }
  )
