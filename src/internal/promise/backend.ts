/**
 * Where the limiters of plain promises have their state: all that are made without `redis` in the memory of this
 * process, and those with the same `redis` over one connection, which the first call opens and the last limiter closes.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { BackendError, InvalidOptions } from "../../Errors.ts"
import type { ConnectionOptions, IoredisClient } from "../../promise.ts"
import type { BucketStore } from "../bucketLimiter.ts"
import { BucketWaiters } from "../bucketWaiters.ts"
import { LocalBuckets } from "../localBuckets.ts"
import { LocalSemaphores } from "../localSemaphores.ts"
import type { BucketConfig, SemaphoreConfig } from "../options.ts"
import {
  addressRule,
  defaultKeyPrefix,
  isAddress,
  isIoredis,
  isKeyPrefix,
  keyPrefixRule,
  withoutCredentials
} from "../redisAddress.ts"
import type { SemaphoreStore } from "../semaphoreLimiter.ts"
import { clock } from "./clock.ts"
import { runPromise } from "./runtime.ts"

export interface Stores {
  readonly bucket: (config: BucketConfig) => BucketStore
  readonly waiters: BucketWaiters
  readonly semaphore: (config: SemaphoreConfig) => SemaphoreStore
}

/** What one limiter uses. */
export interface Backend {
  /** If they are there without being opened. */
  readonly stores: Stores | undefined
  readonly open: Effect.Effect<Stores, BackendError>
  /** To be run once, when the limiter has closed. */
  readonly leave: Effect.Effect<void>
}

let memory: Backend | undefined

const openMemory = (): Backend => {
  const buckets = new LocalBuckets(clock)
  const semaphores = new LocalSemaphores()
  const stores: Stores = {
    bucket: (config) => buckets.store(config),
    waiters: new BucketWaiters(),
    semaphore: (config) => semaphores.store(config)
  }
  return { stores, open: Effect.succeed(stores), leave: Effect.void }
}

/** One connection for all limiters that name it alike. */
class SharedRedis {
  readonly redis: string | IoredisClient
  readonly keyPrefix: string
  private readonly scope = Scope.makeUnsafe()
  private limiters = 0
  private stores: Promise<Stores> | undefined

  constructor(redis: string | IoredisClient, keyPrefix: string) {
    this.redis = redis
    this.keyPrefix = keyPrefix
  }

  join(name: string): Backend {
    this.limiters++
    return { stores: undefined, open: this.open(name), leave: this.leave }
  }

  private open(name: string): Effect.Effect<Stores, BackendError> {
    const failed = (reason: BackendError["reason"], cause?: unknown) =>
      new BackendError({ operation: "connect", name, reason, cause })
    const loaded = Effect.tryPromise({
      try: () => import("./redisStores.ts"),
      catch: (cause) => failed("NotInstalled", cause)
    })
    return Effect.flatMap(loaded, ({ openStores }) => {
      if (this.limiters === 0) return Effect.fail(failed("Closed"))
      this.stores ??= runPromise(Scope.provide(openStores(this.redis, this.keyPrefix), this.scope))
      const { stores } = this
      return Effect.promise(() => stores)
    })
  }

  private readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    if (--this.limiters > 0) return Effect.void
    connections.delete(this)
    return Scope.close(this.scope, Exit.void)
  })
}

const connections = new Set<SharedRedis>()

const shareRedis = (redis: string | IoredisClient, keyPrefix: string): SharedRedis => {
  for (const connection of connections) {
    if (connection.redis === redis && connection.keyPrefix === keyPrefix) return connection
  }
  const connection = new SharedRedis(redis, keyPrefix)
  connections.add(connection)
  return connection
}

/** The options besides those of the limiter itself. */
export const connectionFields = ["redis", "keyPrefix", "observe"] satisfies ReadonlyArray<keyof ConnectionOptions>

/** Throws `InvalidOptions`. Nothing is connected yet. */
export const backendFor = (
  name: string,
  { redis, keyPrefix = defaultKeyPrefix, observe = false }: { readonly [Field in keyof ConnectionOptions]: unknown }
): Backend => {
  const refuse = (field: string, value: unknown, rule: string) => {
    throw new InvalidOptions({ name, field, value, rule })
  }
  if (typeof observe !== "boolean") return refuse("observe", observe, "true or false")
  if (!isKeyPrefix(keyPrefix)) return refuse("keyPrefix", keyPrefix, keyPrefixRule)
  if (redis === undefined) {
    memory ??= openMemory()
    return memory
  }
  if (typeof redis === "string") {
    if (!isAddress(redis)) return refuse("redis", withoutCredentials(redis), addressRule)
  } else {
    if (!isIoredis(redis)) return refuse("redis", redis, `${addressRule}, or a client of ioredis`)
    const { keyPrefix: own = "" } = redis.options
    if (!isKeyPrefix(own)) return refuse("redis", own, `a client whose own keyPrefix is ${keyPrefixRule}`)
  }
  return shareRedis(redis, keyPrefix).join(name)
}
