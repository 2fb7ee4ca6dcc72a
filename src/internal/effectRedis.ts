/**
 * Effect's own `Redis` service over our connection, for what is built on it: Effect's RateLimiter, PersistedQueue and
 * others, on a single server and on a cluster.
 */
import * as Effect from "effect/Effect"
import * as Redis from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import type { Redis as Client, Cluster } from "ioredis"
import { connectToDatabase, isCluster, plainOptions, type RedisConnection } from "./redisConnection.ts"
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

/** Every node has scripts and keys of its own: who loads a script or lists keys means all of them. */
const sendToCluster =
  (cluster: Cluster, send: Send): Send =>
  <A>(command: string, ...args: ReadonlyArray<string>) => {
    const everywhere = <B>(ask: (node: Client) => Promise<B>): Effect.Effect<Array<B>, Redis.RedisError> =>
      // Waits for the cluster first: until then it knows no nodes.
      Effect.andThen(
        send(command, ...args),
        Effect.suspend(() =>
          Effect.forEach(cluster.nodes("master"), (node) => attempt(() => ask(node)), { concurrency: "unbounded" })
        )
      )
    switch (command.toUpperCase()) {
      case "SCRIPT":
        return Effect.map(
          everywhere((node) => node.call(command, ...args)),
          ([reply]) => reply as A
        )
      case "KEYS":
        return Effect.map(
          everywhere((node) => node.call(command, ...args)),
          (keys) => keys.flat() as A
        )
      case "SCAN":
        return Effect.map(
          everywhere((node) => scan(node, args.slice(1))),
          (keys) => ["0", keys.flat()] as A
        )
      default:
        return send<A>(command, ...args)
    }
  }

/** The keys of a node, all in one go: no cursor tells in which node to go on. */
const scan = async (node: Client, options: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const found: Array<string> = []
  let cursor = "0"
  do {
    const [next, keys] = (await node.call("SCAN", cursor, ...options)) as [cursor: string, keys: ReadonlyArray<string>]
    found.push(...keys)
    cursor = next
  } while (cursor !== "0")
  return found
}

/** A connection for one user, whose commands may block. It fails with its connection. */
const reserved = ({ client, settings }: RedisConnection): Effect.Effect<Client | Cluster, Redis.RedisError> =>
  Effect.suspend(() => {
    const own = isCluster(client)
      ? client.duplicate([], { enableOfflineQueue: true, clusterRetryStrategy: null })
      : client.duplicate({ ...plainOptions(settings), enableOfflineQueue: true, retryStrategy: null })
    own.on("error", () => {})
    return Effect.as(
      Effect.onError(
        attempt(() => connectToDatabase(own)),
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
