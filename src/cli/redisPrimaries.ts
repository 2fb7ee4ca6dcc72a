/**
 * A short visit to Redis: connects to the server, or to every primary of a cluster, or says why that can't be done.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Cluster, type Redis } from "ioredis"
import { nodeOptions } from "../internal/ioredisOptions.ts"
import { isRedisUrl } from "../internal/redisAddress.ts"
import { connectToDatabase, redisAt } from "../internal/redisConnection.ts"
import { isReply } from "../internal/redisFailure.ts"
import { type Problem, problem } from "./problem.ts"
import { addressText, type RedisAddress } from "./redisAddress.ts"

/** Milliseconds. Nothing is tried twice: whoever waits at a terminal wants to hear of trouble at once. */
const impatient = {
  lazyConnect: true,
  connectTimeout: 3_000,
  commandTimeout: 5_000,
  enableReadyCheck: false,
  maxRetriesPerRequest: 0,
  retryStrategy: () => null
}

const openServer = (url: string): Redis =>
  redisAt(url, { ...impatient, sentinelRetryStrategy: impatient.retryStrategy })

const whyOf = (error: unknown): string => {
  const { message, lastNodeError } = error as Error & { readonly lastNodeError?: Error }
  return lastNodeError?.message ?? message
}

/** What was asked of Redis, with its error as a sentence. */
export const ask = <A>(address: RedisAddress, question: () => Promise<A>): Effect.Effect<A, Problem> =>
  Effect.tryPromise({
    try: question,
    catch: (error) => {
      const verb = error instanceof Error && isReply(error) ? "refuses" : "does not answer"
      return problem(`Redis at ${addressText(address)} ${verb}: ${whyOf(error)}`)
    }
  })

const visit = <Client extends Redis | Cluster>(
  address: RedisAddress,
  open: () => Client
): Effect.Effect<Client, Problem, Scope.Scope> =>
  Effect.acquireRelease(Effect.sync(open), (client) => Effect.sync(() => client.disconnect())).pipe(
    Effect.tap((client) => {
      let trouble: unknown
      client.on("error", (error) => {
        trouble = error
      })
      return ask(address, () => connectToDatabase(client).catch((error) => Promise.reject(trouble ?? error)))
    })
  )

/** Whoever may not ask what kind of server it is has to say so by `--cluster`. */
const unlessForbidden = (error: Error): string | Promise<never> =>
  error.message.startsWith("NOPERM") ? "" : Promise.reject(error)

/** The address as it turns out: a server that is a node of a cluster is asked as one, if it is reached as others are. */
export const recognized = (address: RedisAddress): Effect.Effect<RedisAddress, Problem> =>
  address.isCluster
    ? Effect.succeed(address)
    : Effect.scoped(
        Effect.gen(function* () {
          const server = yield* visit(address, () => openServer(address.urls[0]))
          const info = yield* ask(address, () => server.info("cluster").catch(unlessForbidden))
          return { ...address, isCluster: /cluster_enabled:1/.test(info) && isRedisUrl(address.urls[0]) }
        })
      )

export const primaries = (address: RedisAddress): Effect.Effect<ReadonlyArray<Redis>, Problem, Scope.Scope> => {
  if (!address.isCluster) {
    return Effect.map(
      visit(address, () => openServer(address.urls[0])),
      (server) => [server]
    )
  }
  const { retryStrategy, lazyConnect, ...ofNodes } = impatient
  return Effect.map(
    visit(
      address,
      () =>
        new Cluster([...address.urls], {
          lazyConnect,
          // A cluster that is not in order would be asked again and again.
          enableReadyCheck: ofNodes.enableReadyCheck,
          clusterRetryStrategy: retryStrategy,
          redisOptions: { ...ofNodes, ...nodeOptions(address.urls) }
        })
    ),
    (cluster) => cluster.nodes("master")
  )
}
