/**
 * The limiters for programs of plain promises: no Effect to be seen, and the same state, in one process or in Redis.
 *
 * Times that are told, such as `waited` and `delay`, are numbers of milliseconds. Times that are passed are numbers of
 * milliseconds too, or texts such as `"30 seconds"`. What nobody waits for and somebody should know, as that Redis is out
 * of reach, is told as a warning of Node whose name is `SteindammWarning`.
 */
import type * as Duration from "effect/Duration"
import { bucketConfig, semaphoreConfig } from "./internal/options.ts"
import { checked } from "./internal/promise/arguments.ts"
import { backendFor, connectionFields } from "./internal/promise/backend.ts"
import { atCaller } from "./internal/promise/callerStack.ts"
import { clock } from "./internal/promise/clock.ts"
import { observationOf } from "./internal/promise/observation.ts"
import { runPromise } from "./internal/promise/runtime.ts"
import { makeSemaphore } from "./internal/promise/semaphore.ts"
import { makeTokenBucket } from "./internal/promise/tokenBucket.ts"
import type * as Semaphores from "./Semaphore.ts"
import type * as TokenBuckets from "./TokenBucket.ts"

export {
  BackendError,
  type BackendErrorReason,
  InvalidOptions,
  type LimiterKind,
  MaxSleepExceeded,
  NoTokensAvailable,
  PermitLost
} from "./Errors.ts"
export type { WhenAway } from "./WhenAway.ts"

/**
 * What tells a client of ioredis from others: a `Redis` or a `Cluster`.
 */
export interface IoredisClient {
  readonly isCluster: boolean
  readonly options: { readonly keyPrefix?: string | undefined }
  readonly duplicate: (...args: never) => unknown
}

/**
 * Where the state of a limiter lives, and who hears of what it does.
 */
export interface ConnectionOptions {
  /**
   * Without it, in the memory of this process, where limiters of the same name are one. With it, in that Redis, where
   * they are one for all processes: a URL, such as `redis://localhost:6379` or that of a Sentinel group,
   * `redis-sentinel://10.0.0.1:26379,10.0.0.2:26379#mymaster`, both with `rediss` for TLS; or a `Redis` or `Cluster` of
   * ioredis.
   *
   * All limiters of this process with the same `redis` share connections, which are opened by the first call and closed
   * with the last limiter. A client that is passed is only asked for its address and credentials, and never closed.
   */
  readonly redis?: string | IoredisClient | undefined
  /** What all keys in Redis begin with; without braces. Default: `"steindamm:"`. */
  readonly keyPrefix?: string | undefined
  /** Counts what the limiter does in the metrics that `prometheusMetrics` gives. Default: `false`. */
  readonly observe?: boolean | undefined
}

/** What a token bucket is like, and where its state lives. */
export interface TokenBucketOptions extends TokenBuckets.TokenBucketOptions, ConnectionOptions {}

/** What a semaphore is like, and where its state lives. */
export interface SemaphoreOptions extends Semaphores.SemaphoreOptions, ConnectionOptions {}

/**
 * How many permits or tokens are asked for, and by what the request can be stopped.
 */
export type PermitRequest =
  | number
  | {
      /** Default: 1, or a token bucket's `tokensToConsume`. */
      readonly permits?: number | undefined
      /** When it aborts, the request gives everything back and is rejected with the signal's reason. */
      readonly signal?: AbortSignal | undefined
    }

/**
 * What a callback of `withPermit` gets.
 */
export interface CallContext {
  /**
   * Aborts when the work should stop: because the caller's own signal did, a permit was lost, or the limiter doesn't
   * want to wait any more to be closed. Its reason is what `withPermit` is going to be rejected with.
   */
  readonly signal: AbortSignal
}

/** The same from a semaphore. */
export interface SemaphoreCallContext extends CallContext {
  /** Grows with every grant of the semaphore: a resource that remembers the largest can refuse a stale holder. */
  readonly fencingToken: number
}

/**
 * What every limiter for plain promises can do. Its functions need no `this`: they can be passed on by themselves.
 *
 * All of them reject with the errors that this module exports. A wrong argument is told as `InvalidOptions`, which names
 * it.
 */
export interface Limiter<Context extends CallContext = CallContext, P extends AsyncDisposable = AsyncDisposable> {
  /** The name under which this limiter's state is shared. */
  readonly name: string
  /**
   * Runs a callback once the limiter lets it, and gives what it gives. Its own errors pass through as they are.
   *
   * If the signal aborts before the callback has begun, it never begins. Afterwards, the callback is told by its own
   * signal, and its permit stays taken until it has settled; then the promise is rejected with the signal's reason,
   * whatever the callback gave. The same holds when a permit is lost, with `PermitLost`.
   *
   * @example
   * ```ts
   * import { createSemaphore } from "steindamm/promise"
   *
   * const limiter = createSemaphore({ name: "downloads", capacity: 3 })
   *
   * const download = (url: string) =>
   *   limiter.withPermit(({ signal }) => fetch(url, { signal }), { signal: AbortSignal.timeout(5000) })
   *
   * const [page, missing] = await Promise.allSettled([download("data:,hello"), download("wrong://address")])
   * console.log(page.status, missing.status)
   * ```
   */
  readonly withPermit: <A>(
    callback: (context: Context) => A | PromiseLike<A>,
    request?: PermitRequest | undefined
  ) => Promise<A>
  /**
   * Waits for permits or tokens, for work that is no single callback. The signal is about the wait only.
   *
   * @example
   * ```ts
   * import { createSemaphore } from "steindamm/promise"
   *
   * const limiter = createSemaphore({ name: "printer", capacity: 2 })
   * {
   *   await using permit = await limiter.acquire({ permits: 2 })
   *   console.log(`printing, after ${permit.waited} milliseconds`)
   * }
   * console.log((await limiter.state()).held)
   * ```
   */
  readonly acquire: (request?: PermitRequest | undefined) => Promise<P>
  /**
   * As `acquire`, but never waits: gives `undefined` if the permits can't be had this instant.
   *
   * @example
   * ```ts
   * import { createSemaphore } from "steindamm/promise"
   *
   * const limiter = createSemaphore({ name: "nightly", capacity: 1 })
   *
   * const rebuild = async () => {
   *   await using permit = await limiter.tryAcquire()
   *   return permit === undefined ? "another one is at it" : "rebuilt"
   * }
   *
   * console.log(await Promise.all([rebuild(), rebuild()]))
   * ```
   */
  readonly tryAcquire: (request?: PermitRequest | undefined) => Promise<P | undefined>
  /**
   * A function like `f` whose every call goes through the limiter. It passes `this` on, so that it decorates methods as
   * well.
   *
   * @example
   * ```ts
   * import { createTokenBucket } from "steindamm/promise"
   *
   * const limiter = createTokenBucket({ name: "greetings", capacity: 2, refillFrequency: "50 millis" })
   * const greet = limiter.wrap(async (name: string) => `hello ${name}`)
   *
   * console.log(await Promise.all(["Ada", "Grace", "Edsger"].map((name) => greet(name))))
   * ```
   */
  readonly wrap: <This, Args extends Array<unknown>, A>(
    f: (this: This, ...args: Args) => A | PromiseLike<A>
  ) => (this: This, ...args: Args) => Promise<A>
  /** Starts anew, as if the limiter had never been used. Permits that are held are lost. */
  readonly reset: () => Promise<void>
}

/**
 * What can be closed.
 */
export interface Closable extends AsyncDisposable {
  /**
   * Closes the limiter, which from then on refuses everything with a `BackendError` whose `reason` is `"Closed"`. Those
   * who wait for a permit are refused as well. What has begun is waited for: callbacks, and permits until they are
   * released. After `timeout`, if there is one, the signals of callbacks and permits abort, and nobody waits any longer.
   *
   * Others that share the name are not closed. Of limiters around one another, close the outer one first. The last limiter
   * over a Redis closes its connections. A limiter in memory needs no closing to let a process end.
   *
   * @example
   * ```ts
   * import { createTokenBucket } from "steindamm/promise"
   *
   * const limiter = createTokenBucket({ name: "mails", capacity: 10 })
   * process.once("SIGTERM", () => limiter.close({ timeout: "10 seconds" }))
   *
   * await limiter.withPermit(async () => console.log("sent"))
   * await limiter.close()
   * await limiter.withPermit(async () => console.log("never sent")).catch((error) => console.log(error.message))
   * ```
   */
  readonly close: (options?: { readonly timeout?: Duration.Input | undefined }) => Promise<void>
}

/**
 * Permits of a semaphore that somebody holds until they are released, at the latest at the end of the block with
 * `await using` or `using`.
 */
export interface SemaphorePermit extends AsyncDisposable, Disposable {
  /** The semaphore's. */
  readonly name: string
  readonly id: string
  /** How many. */
  readonly permits: number
  /** Grows with every grant of the semaphore: a resource that remembers the largest can refuse a stale holder. */
  readonly fencingToken: number
  /** How long they were waited for, in milliseconds. */
  readonly waited: number
  /** Aborts with `PermitLost` when the lease could not be kept: then others may hold the permits. */
  readonly signal: AbortSignal
  /** Gives them back. Only the first call counts. */
  readonly release: () => void
}

/**
 * Permits of a semaphore that are in use.
 */
export interface Holder {
  readonly id: string
  readonly permits: number
  readonly fencingToken: number
  /** How long they are kept without renewal, in milliseconds. `Infinity` in memory, where holders can't die alone. */
  readonly leaseLeft: number
}

/**
 * What a look at a semaphore shows.
 */
export interface SemaphoreState {
  readonly capacity: number
  /** Permits in use. More than `capacity` only after a `resize` to less. */
  readonly held: number
  /** Requests that wait. */
  readonly waiting: number
  readonly holders: ReadonlyArray<Holder>
  /** While Redis is away and `whenAway` goes on without it: then the fields above tell of this process alone. */
  readonly away?: AwayState | undefined
}

/**
 * What a semaphore can do, be it one of its own or that of a key.
 */
export interface SemaphoreVerbs extends Limiter<SemaphoreCallContext, SemaphorePermit> {
  /** Looks, and changes nothing. */
  readonly state: () => Promise<SemaphoreState>
  /**
   * Changes the number of permits for everyone who shares the semaphore. Up: waiters run at once. Down: no new grant
   * until enough permits are back.
   */
  readonly resize: (capacity: number) => Promise<void>
}

/**
 * A semaphore: so many permits, each given back when its work is done. Requests are served strictly in order of arrival.
 */
export interface Semaphore extends SemaphoreVerbs, Closable {
  /**
   * The semaphore of one key, be it a user, a tenant or a host: with the same options and permits of its own. A key that
   * is unused takes no room. It closes with this limiter.
   *
   * @example
   * ```ts
   * import { createSemaphore } from "steindamm/promise"
   *
   * const perHost = createSemaphore({ name: "crawler", capacity: 2 })
   * const visit = (url: URL) => perHost.forKey(url.host).withPermit(async () => url.pathname)
   *
   * console.log(await Promise.all([visit(new URL("http://a.example/1")), visit(new URL("http://b.example/2"))]))
   * ```
   */
  readonly forKey: (key: string) => SemaphoreVerbs
}

/**
 * Tokens that were taken. They are spent, so that there is nothing to release; `await using` works all the same.
 */
export interface TokenBucketPermit extends AsyncDisposable, Disposable {
  /** The bucket's. */
  readonly name: string
  /** How many were taken. */
  readonly tokens: number
  /** How long they were waited for, in milliseconds. */
  readonly waited: number
  /**
   * Charges or returns the difference between the tokens taken and what the work really cost, once it is known. Only
   * the first call counts.
   */
  readonly settle: (actual: number) => Promise<void>
  /** Does nothing. */
  readonly release: () => void
}

/**
 * Tokens taken now for work that may run after `delay`.
 */
export interface Reservation {
  /** The bucket's. */
  readonly name: string
  readonly tokens: number
  /** How long to wait before the work may run, in milliseconds; counted from the moment of the reservation. */
  readonly delay: number
  /** Waits for that moment. If the signal aborts before, the reservation is cancelled. */
  readonly wait: (options?: { readonly signal?: AbortSignal | undefined }) => Promise<void>
  /**
   * Gives back all tokens that later reservations don't already count on. Only the first call of this or `settle`
   * counts.
   */
  readonly cancel: () => Promise<void>
  /** As `TokenBucketPermit.settle`. */
  readonly settle: (actual: number) => Promise<void>
}

/**
 * What a look at a token bucket shows. Times are milliseconds, and `Infinity` if no wait would help.
 */
export interface TokenBucketState {
  /** Tokens that could be taken this instant; 0 while others wait, and in a pause. */
  readonly tokens: number
  readonly capacity: number
  /** How long the request would wait if it were made now. */
  readonly wait: number
  /** How long until one more whole token can be taken than now. */
  readonly nextToken: number
  /** In how long an empty bucket fills. */
  readonly fillTime: number
  /** While Redis is away and `whenAway` goes on without it: then the fields above tell of this process alone. */
  readonly away?: AwayState | undefined
}

/**
 * What a limiter has done without Redis, while that is away.
 */
export interface AwayState {
  /** For how long nobody has had an answer, in milliseconds. */
  readonly duration: number
  /** Tokens or permits that this process gave meanwhile, without asking Redis. */
  readonly admitted: number
}

/**
 * What a token bucket can do, be it one of its own or that of a key.
 */
export interface TokenBucketVerbs extends Limiter<CallContext, TokenBucketPermit> {
  /** Looks, and changes nothing. `wait` is that of a request for so many tokens; default: `tokensToConsume`. */
  readonly state: (permits?: number | undefined) => Promise<TokenBucketState>
  /**
   * Takes tokens, and tells how long to wait instead of waiting.
   *
   * @example
   * ```ts
   * import { createTokenBucket } from "steindamm/promise"
   *
   * const limiter = createTokenBucket({ name: "reports", capacity: 1, refillFrequency: "20 millis" })
   * await limiter.reserve()
   *
   * const reservation = await limiter.reserve()
   * if (reservation.delay > 1000) await reservation.cancel()
   * else await reservation.wait()
   * ```
   */
  readonly reserve: (request?: PermitRequest | undefined) => Promise<Reservation>
  /**
   * Lets no work through for so long, for everyone who shares the bucket: what to do when the far end says "not before
   * then". What refills meanwhile is kept as far as it fits. A longer pause replaces a shorter one, and never the other
   * way round; `reset` ends it.
   *
   * Those who wait in this process wait longer, in their order, or are rejected with `MaxSleepExceeded` if that is too
   * long for them. Reservations, and waits in other processes, that were promised before hold.
   */
  readonly pause: (duration: Duration.Input) => Promise<void>
}

/**
 * A token bucket: work takes tokens, which refill at their own rate, and waits in order of arrival while there are too
 * few.
 */
export interface TokenBucket extends TokenBucketVerbs, Closable {
  /**
   * The token bucket of one key, be it a user, a tenant or a host: with the same options and tokens of its own. A key
   * that is unused takes no room. It closes with this limiter.
   *
   * @example
   * ```ts
   * import { createTokenBucket } from "steindamm/promise"
   *
   * const perUser = createTokenBucket({ name: "search", capacity: 1, refillFrequency: "1 minute" })
   *
   * const search = async (user: string) => {
   *   const permit = await perUser.forKey(user).tryAcquire()
   *   return permit === undefined ? 429 : 200
   * }
   *
   * console.log(await Promise.all([search("ada"), search("grace"), search("ada")]))
   * ```
   */
  readonly forKey: (key: string) => TokenBucketVerbs
}

/**
 * Makes a token bucket. Throws `InvalidOptions` if an option breaks its rule; connects to nothing before the first call.
 *
 * @example
 * ```ts
 * import { createTokenBucket, MaxSleepExceeded } from "steindamm/promise"
 *
 * const limiter = createTokenBucket({ name: "github", capacity: 1, refillFrequency: "1 minute", maxSleep: "1 second" })
 *
 * try {
 *   await limiter.withPermit(() => fetch("data:,first"))
 *   await limiter.withPermit(() => fetch("data:,second"))
 * } catch (error) {
 *   if (!(error instanceof MaxSleepExceeded)) throw error
 *   console.log(error.message)
 * }
 * ```
 */
export const createTokenBucket = (options: TokenBucketOptions): TokenBucket =>
  create(createTokenBucket, () => {
    const config = checked(bucketConfig(options, clock.currentTimeMillisUnsafe(), connectionFields))
    return makeTokenBucket(config, backendFor(config.name, options), observationOf("TokenBucket", config, options))
  })

/**
 * Makes a semaphore. Throws `InvalidOptions` if an option breaks its rule; connects to nothing before the first call.
 *
 * @example
 * ```ts
 * import { createSemaphore } from "steindamm/promise"
 *
 * await using limiter = createSemaphore({ name: "database", capacity: 5, redis: process.env["REDIS_URL"] })
 *
 * const query = limiter.wrap(async (sql: string) => `rows of ${sql}`)
 * console.log(await query("select 1"))
 * ```
 */
export const createSemaphore = (options: SemaphoreOptions): Semaphore =>
  create(createSemaphore, () => {
    const config = checked(semaphoreConfig(options, connectionFields))
    return makeSemaphore(config, backendFor(config.name, options), observationOf("Semaphore", config, options))
  })

/**
 * The metrics of all limiters with `observe`, for Prometheus to read: requests granted, refused and waiting, waits,
 * permits in use, leases lost. `docs/observability.md` tells their names. Keys count under the name of their limiter.
 *
 * Metrics of Effect programs in this process are among them.
 *
 * @example
 * ```ts
 * import { createSemaphore, prometheusMetrics } from "steindamm/promise"
 *
 * const limiter = createSemaphore({ name: "database", capacity: 5, observe: true })
 * await limiter.withPermit(async () => "rows")
 *
 * const respond = async () => new Response(await prometheusMetrics(), { headers: { "content-type": "text/plain" } })
 * console.log(await (await respond()).text())
 * ```
 */
export const prometheusMetrics = async (): Promise<string> => {
  const { format } = await import("effect/observability/PrometheusMetrics")
  return runPromise(format())
}

const create = <A>(verb: (options: never) => A, make: () => A): A => {
  try {
    return make()
  } catch (error) {
    throw atCaller(error, verb)
  }
}
