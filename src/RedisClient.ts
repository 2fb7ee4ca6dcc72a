/**
 * The connection to Redis that limiters share: it runs their scripts, repeats what is safe to repeat and nothing else,
 * answers by the caller's deadline, and carries push messages.
 */
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EffectRedis from "effect/persistence/Redis"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Cluster, type ClusterNode, type ClusterOptions, Redis, type RedisOptions } from "ioredis"
import { BackendError, InvalidOptions, type LimiterKind } from "./Errors.ts"
import { defaultUrl } from "./internal/defaultUrl.ts"
import { makeEffectRedis } from "./internal/effectRedis.ts"
import { isClusterNode, nodeOptions, wrongClusterOption, wrongServerOption } from "./internal/ioredisOptions.ts"
import { keySlot } from "./internal/keySlot.ts"
import { limiterKey } from "./internal/limiterKeys.ts"
import { configOf, type FromConfig } from "./internal/limiterService.ts"
import { isRecord, replyTimeoutOf } from "./internal/options.ts"
import {
  addressRule,
  defaultKeyPrefix,
  isAddress,
  isIoredis,
  isKeyPrefix,
  keyPrefixRule,
  withoutCredentials
} from "./internal/redisAddress.ts"
import { isCluster, RedisConnection, redisAt } from "./internal/redisConnection.ts"
import { makeSubscriptions } from "./internal/redisSubscriptions.ts"
import type { RedisScript } from "./RedisScript.ts"

/**
 * What `fromClient` takes besides the client.
 */
export interface RedisClientSettings {
  /** What the keys of all limiters begin with; without braces. Default: `"steindamm:"`. */
  readonly keyPrefix?: string | undefined
  /** How long a connection may owe a reply and send nothing before it is given up. Default: 2 seconds. */
  readonly replyTimeout?: Duration.Input | undefined
}

/**
 * What `layer` takes: a `url`, or ioredis's own options (`host`, `port`, `tls`, …; `sentinels` and `name` for a Sentinel
 * group), or both; or the `nodes` of a cluster, with ioredis's options for clusters. A Sentinel group may also be a `url`:
 * `redis-sentinel://user:secret@10.0.0.1:26379,10.0.0.2:26379/0#mymaster`, with the credentials of the servers that it
 * watches; `rediss-sentinel` reaches the servers and the Sentinels over TLS. Credentials and TLS of the first of `nodes`
 * that is a URL hold for all nodes, unless `redisOptions` have others.
 *
 * How ioredis reconnects, repeats and queues is not among them: that is what `RedisClient` is for.
 */
export type RedisClientOptions = RedisClientSettings &
  (
    | ({ readonly url?: string | Redacted.Redacted<string> | undefined; readonly nodes?: undefined } & Omit<
        RedisOptions,
        "keyPrefix" | "replyMapping"
      >)
    | ({ readonly nodes: ReadonlyArray<ClusterNode>; readonly url?: undefined } & Omit<
        ClusterOptions,
        "keyPrefix" | "redisOptions"
      > & {
          readonly redisOptions?:
            | Omit<NonNullable<ClusterOptions["redisOptions"]>, "keyPrefix" | "replyMapping">
            | undefined
        })
  )

/**
 * What `layerConfig` reads.
 */
export interface RedisClientConfig extends RedisClientSettings {
  /** Default: the variable `REDIS_URL`, and without that `redis://localhost:6379`. */
  readonly url?: string | Redacted.Redacted<string> | undefined
  /** URLs of some nodes of a cluster, instead of `url`. */
  readonly nodes?: ReadonlyArray<string> | undefined
}

/**
 * A subscriber to a channel.
 */
export interface RedisSubscription {
  readonly onMessage: (message: string) => void
  /**
   * From now on messages arrive: called when the server has confirmed the subscription, for the first time and after
   * each time that it was lost. What was published in between is gone.
   */
  readonly onEstablished: () => void
}

/**
 * The connection to Redis that limiters share.
 *
 * The layer is built without waiting for Redis, so that a service starts while Redis is away: calls wait for it as long
 * as their callers do. Connections are opened when they are first needed, and closed with the layer.
 *
 * The layer also provides Effect's own `Redis` service, for what `effect/persistence` builds on it. On a cluster, the keys
 * of one command or script must share a slot, which Effect leaves to whoever chooses the names:
 *
 * - `RateLimiter` keeps a token bucket in two keys: put braces around the `key`, so that each bucket has its slot. Fixed
 *   windows and adaptive limits take one key, and need none.
 * - `PersistedQueue` keeps a queue in several keys, and each element that is being worked on in one more, which is
 *   named after the store's `prefix` alone. So the braces must be in the prefix, as in `"{jobs}:"`, and all queues of
 *   that store share a slot. Without them the queue fails or, as far as it takes, never hands anything out.
 * - `Persistence` can't read or write several entries at once, or clear a store, unless the store's id is in braces.
 * - `CircuitBreaker` needs nothing.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { makeRedisScript, RedisClient } from "steindamm/redis"
 *
 * const greet = makeRedisScript({ name: "greet", source: "return 'hello ' .. ARGV[1]", decode: String })
 *
 * const program = Effect.gen(function* () {
 *   const redis = yield* RedisClient
 *   const key = redis.key({ kind: "TokenBucket", name: "github" })
 *   return yield* redis.run(greet, [key], ["world"], {
 *     operation: "greet",
 *     deadline: Number.POSITIVE_INFINITY,
 *     retryLost: true
 *   })
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(RedisClient.layerConfig()))).then(console.log)
 * ```
 */
export class RedisClient extends Context.Service<
  RedisClient,
  {
    /** What all keys begin with, as they are at Redis. */
    readonly keyPrefix: string
    /** On a cluster, a call can only touch keys of one slot. */
    readonly mode: "standalone" | "cluster"
    /** The key of a limiter. Limiters of one name, or of one `tag`, share a slot. */
    readonly key: (limiter: { readonly kind: LimiterKind; readonly name: string; readonly tag?: string }) => string
    /** The slot of a key, from 0 to 16,383. */
    readonly slotOf: (key: string) => number
    /**
     * Runs a script. Fails with `BackendError`: at once if no repetition would help, otherwise at the deadline.
     */
    readonly run: <A>(
      script: RedisScript<A>,
      keys: ReadonlyArray<string>,
      args: ReadonlyArray<string | number>,
      options: {
        /** What is being done, for the error message. */
        readonly operation: string
        /** The limiter's name, for the error message. */
        readonly name?: string
        /** When the caller wants an answer, good or bad: microseconds on the monotonic clock, or infinity. */
        readonly deadline: number
        /** Whether the script may run again when it may have run already and the reply was lost. */
        readonly retryLost: boolean
        /** How many requests the call carries, for metrics. Default: 1. */
        readonly requests?: number
        /** Told why, each time that the script is going to be tried again. */
        readonly onRetry?: ((failure: Pick<BackendError, "reason" | "cause">) => void) | undefined
      }
    ) => Effect.Effect<A, BackendError>
    /**
     * Listens to a channel until the scope closes, and subscribes again by itself. On a cluster, the channel's slot
     * decides on the node, as it does for keys.
     */
    readonly subscribe: (channel: string, subscription: RedisSubscription) => Effect.Effect<void, never, Scope.Scope>
    /**
     * For when Redis seems to be away: a network that loses packets leaves connections that look open and are silent.
     * Opens another one for a moment, and if Redis answers there, gives up those that don't. Has no effect on Cluster,
     * where they are given up after `replyTimeout` only.
     */
    readonly dropSilent: (patience: Duration.Input) => Effect.Effect<void>
    /** With which command a script publishes to subscribers. */
    readonly publishCommand: "PUBLISH" | "SPUBLISH"
  }
>()("steindamm/RedisClient") {
  /**
   * Opens its own connections, and closes them with the layer. Fails with `InvalidOptions` if the options are wrong,
   * never because Redis is away.
   *
   * @example
   * ```ts
   * import { RedisClient } from "steindamm/redis"
   *
   * const single = RedisClient.layer({ url: "rediss://user:secret@redis.example.com:6380/1" })
   * const sentinel = RedisClient.layer({ sentinels: [{ host: "10.0.0.1", port: 26379 }], name: "mymaster" })
   * const cluster = RedisClient.layer({ nodes: ["redis://:secret@10.0.0.1:7000", "redis://10.0.0.2:7000"] })
   * ```
   */
  static layer(options: RedisClientOptions = {}): Layer.Layer<RedisClient | EffectRedis.Redis, InvalidOptions> {
    return Layer.effectContext(
      Effect.flatMap(templateOf(options), (template) => {
        const { keyPrefix, replyTimeout } = options
        return make(template, { keyPrefix, replyTimeout })
      })
    )
  }

  /**
   * As `layer`, with options any of which may be a `Config`. By default the URL is that of the variable `REDIS_URL`, and
   * without that `redis://localhost:6379`. Fails with `ConfigError` if what is to be read is missing.
   *
   * @example
   * ```ts
   * import { Config } from "effect"
   * import { RedisClient } from "steindamm/redis"
   *
   * const layer = RedisClient.layerConfig({ url: Config.Redacted("LIMITS_URL"), keyPrefix: "limits:" })
   * ```
   */
  static layerConfig(
    config: FromConfig<RedisClientConfig> = {}
  ): Layer.Layer<RedisClient | EffectRedis.Redis, InvalidOptions | Config.ConfigError> {
    return Layer.unwrap(
      Effect.gen(function* () {
        const read = yield* configOf(config)
        const given: unknown = read
        if (!isRecord(given)) return yield* invalid("options", withoutCredentials(given), "an object")
        const { url, nodes, ...settings } = read
        if (nodes !== undefined) return RedisClient.layer({ ...settings, nodes })
        return RedisClient.layer({ ...settings, url: url ?? (yield* defaultUrl) })
      })
    )
  }

  /**
   * Borrows a client that the app already has, and never closes it.
   *
   * The calls of limiters go over connections of their own, with the client's address and credentials: ioredis would by
   * default run a call again after a reconnection, and a connection that falls silent has to be dropped, neither of
   * which is for the app's commands to suffer. The client's ioredis `keyPrefix` comes before ours. Fails with
   * `InvalidOptions` if it is no client of ioredis, or a setting is wrong.
   *
   * @example
   * ```ts
   * import { Redis } from "ioredis"
   * import { RedisClient } from "steindamm/redis"
   *
   * const client = new Redis("redis://localhost:6379", { lazyConnect: true })
   * const layer = RedisClient.fromClient(client, { keyPrefix: "limits:" })
   * ```
   */
  static fromClient(
    client: Redis | Cluster,
    settings: RedisClientSettings = {}
  ): Layer.Layer<RedisClient | EffectRedis.Redis, InvalidOptions> {
    const connected = isIoredis(client) ? make(client, settings) : invalid("client", client, "a client of ioredis")
    return Layer.effectContext(connected)
  }
}

const make = Effect.fnUntraced(function* (template: Redis | Cluster, settings: RedisClientSettings) {
  const replyTimeout = yield* Effect.fromResult(replyTimeoutOf(settings))
  const { keyPrefix: ours = defaultKeyPrefix } = settings
  if (!isKeyPrefix(ours)) return yield* invalid("keyPrefix", ours, keyPrefixRule)
  const keyPrefix = (template.options.keyPrefix ?? "") + ours
  if (!isKeyPrefix(keyPrefix)) return yield* invalid("keyPrefix", keyPrefix, keyPrefixRule)

  const clock = yield* Clock.Clock
  const log = Effect.runForkWith(yield* Effect.context<never>())
  const random = yield* Random.Random
  const connection = yield* Effect.acquireRelease(
    Effect.sync(
      () =>
        new RedisConnection(template, {
          clock,
          random,
          replyTimeout: Duration.toMillis(replyTimeout),
          onTrouble: (error) => log(Effect.logWarning(`Redis is out of reach, calls wait for it: ${error.message}`)),
          onRecovery: () => log(Effect.logInfo("Redis is in reach again"))
        })
    ),
    (connection) => Effect.sync(() => connection.close())
  )
  const subscriptions = yield* Effect.acquireRelease(
    Effect.sync(() => makeSubscriptions(connection)),
    (subscriptions) => Effect.sync(() => subscriptions.close())
  )
  yield* Effect.forkScoped(connection.watchSilence)
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        Effect.sleep("5 seconds"),
        Effect.sync(() => subscriptions.check())
      )
    )
  )

  const mode = isCluster(connection.client) ? "cluster" : "standalone"
  const client = RedisClient.of({
    keyPrefix,
    mode,
    key: (limiter) => limiterKey(keyPrefix, limiter),
    slotOf: keySlot,
    run: (script, keys, args, options) =>
      connection.run(script, keys, args, options, ({ reason, cause }) => {
        const { operation, name } = options
        return new BackendError({ operation, reason, cause, ...(name === undefined ? {} : { name }) })
      }),
    subscribe: (channel, subscription) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const listener = { ...subscription }
          subscriptions.add(channel, listener)
          return listener
        }),
        (listener) => Effect.sync(() => subscriptions.remove(channel, listener))
      ),
    dropSilent: (patience) => connection.dropSilent(Duration.toMillis(patience)),
    publishCommand: mode === "cluster" ? "SPUBLISH" : "PUBLISH"
  })
  return Context.make(RedisClient, client).pipe(Context.add(EffectRedis.Redis, yield* makeEffectRedis(connection)))
})

/** An ioredis client that is never connected: its options are what our connections are opened with. */
const templateOf = (options: RedisClientOptions): Effect.Effect<Redis | Cluster, InvalidOptions> => {
  const given: unknown = options
  if (!isRecord(given)) return invalid("options", withoutCredentials(given), "an object")
  if (options.nodes !== undefined) {
    const { nodes, url: _, keyPrefix: __, replyTimeout: ___, redisOptions = {}, ...clusterOptions } = options
    if (!Array.isArray(nodes) || nodes.length === 0) {
      return invalid("nodes", withoutCredentials(nodes), "an array of at least one node of the cluster")
    }
    for (const node of nodes as ReadonlyArray<unknown>) {
      if (!isClusterNode(node)) return invalid("nodes", withoutCredentials(node), "URLs, ports or { host, port }")
    }
    const wrong = wrongClusterOption(clusterOptions, redisOptions)
    if (wrong !== undefined) return invalid(wrong.field, wrong.value, wrong.rule)
    const ofNodes = { ...nodeOptions(nodes), ...redisOptions }
    return Effect.sync(() => new Cluster([...nodes], { ...clusterOptions, redisOptions: ofNodes, lazyConnect: true }))
  }
  const { url, nodes: _, keyPrefix: __, replyTimeout: ___, ...redisOptions } = options
  const address = Redacted.isRedacted(url) ? Redacted.value(url) : url
  if (address !== undefined && !isAddress(address)) return invalid("url", withoutCredentials(address), addressRule)
  const wrong = wrongServerOption(redisOptions)
  if (wrong !== undefined) return invalid(wrong.field, wrong.value, wrong.rule)
  const settings = { ...redisOptions, lazyConnect: true }
  return Effect.sync(() => (address === undefined ? new Redis(settings) : redisAt(address, settings)))
}

const invalid = (field: string, value: unknown, rule: string): InvalidOptions =>
  new InvalidOptions({ name: "RedisClient", field, value, rule })
