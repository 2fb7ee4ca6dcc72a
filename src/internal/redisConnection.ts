/**
 * Calls to Redis over an ioredis client of our own, standalone, Sentinel or Cluster.
 *
 * ioredis repeats calls by itself when a connection drops, queues them without bound while there is none, and waits for
 * replies for ever. All of that is switched off: here a call either runs once or not at all, and the caller learns
 * which, or that nobody can know.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Random from "effect/Random"
import { type Cluster, Command, Redis, type RedisOptions } from "ioredis"
import type { RedisScript } from "../RedisScript.ts"
import { Deadlines, type Waiting } from "./deadlines.ts"
import type { Node } from "./linkedList.ts"
import { Failure, failedReply, isNoScript, isRefusedDatabase, isReply, meaningOf } from "./redisFailure.ts"
import { sentinelOptions } from "./sentinelUrl.ts"
import { monotonicMicros } from "./time.ts"

export interface ConnectionSettings {
  readonly clock: Clock.Clock
  readonly random: Random.Random
  /** Milliseconds after which a connection that owes a reply and sends nothing is given up. */
  readonly replyTimeout: number
  /** Told of the first error after all was well. */
  readonly onTrouble: (error: Error) => void
  /** Told that all is well again. */
  readonly onRecovery: () => void
}

export const isCluster = (client: Redis | Cluster): client is Cluster => client.isCluster

/** Milliseconds; grows with the number of failures in a row, and differs between processes. */
const backoff = (failures: number, random: Random.Random): number =>
  Math.min(10 * 2 ** failures, 250) * (0.5 + random.nextDoubleUnsafe())

/**
 * Options under which a single ioredis connection does nothing on its own: what was in flight when it dropped fails,
 * what comes while it is away fails, and it comes back by itself.
 */
export const plainOptions = (settings: ConnectionSettings) => ({
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  maxRetriesPerRequest: 0,
  retryStrategy: (times: number) => backoff(times, settings.random),
  reconnectOnError: null,
  disconnectTimeout: 100,
  replyMapping: "legacy" as const,
  stringNumbers: false,
  keyPrefix: ""
})

/** For one server: by its URL or the path of its socket, or by the URL of the Sentinel group that knows it. */
export const redisAt = (address: string, options: Omit<RedisOptions, "replyMapping">): Redis => {
  const group = sentinelOptions(address)
  if (group === undefined) return new Redis(address, options)
  const tls = options.tls ?? {}
  const security = group.enableTLSForSentinelMode ? { tls, sentinelTLS: options.sentinelTLS ?? tls } : {}
  return new Redis({ ...options, ...group, ...security })
}

/**
 * Connects, and not to database 0, as ioredis would, if the server refuses the one that is wanted. A cluster has no
 * other.
 */
export const connectToDatabase = async (client: Redis | Cluster): Promise<void> => {
  if (isCluster(client)) return client.connect()
  let refused: Error | undefined
  client.on("error", (error) => {
    if (isRefusedDatabase(error)) refused = error
  })
  await client.connect()
  if (refused === undefined) return
  client.disconnect()
  throw refused
}

/** A client like `client`, with its own connections and on the terms of this module. */
const ownClient = (client: Redis | Cluster, settings: ConnectionSettings): Redis | Cluster => {
  const options = plainOptions(settings)
  if (isCluster(client)) {
    const { retryStrategy, enableOfflineQueue, lazyConnect, ...nodeOptions } = options
    const own = client.duplicate([], {
      lazyConnect,
      enableOfflineQueue,
      enableReadyCheck: false,
      keyPrefix: "",
      scaleReads: "master",
      shardedSubscribers: false,
      clusterRetryStrategy: retryStrategy,
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      retryDelayOnTryAgain: 20,
      redisOptions: { ...nodeOptions, enableReadyCheck: false }
    })
    return own as Cluster
  }
  // With Sentinel it is checked that the server is the primary. Otherwise the check would only hide why there is no
  // service: that the server is loading its data, or that the cluster is down.
  const enableReadyCheck = Array.isArray(client.options.sentinels)
  return client.duplicate({ ...options, enableReadyCheck }) as Redis
}

interface Cork {
  readonly writableCorked: number
  cork(): void
  uncork(): void
}

const uncork = (socket: Cork) => socket.uncork()

/** Sockets over which a call has gone out in this turn of the event loop. */
const busy = new WeakSet<Cork>()
const endTurn = (socket: Cork) => busy.delete(socket)

/** A command that knows whether it has gone out: from then on it may run, whatever the client hears of it. */
class Call extends Command {
  written = false

  // The first call of a turn of the event loop goes out at once, and all others of that turn in one packet.
  override toWritable(socket: Cork): string | Buffer {
    this.written = true
    if (!busy.has(socket)) {
      busy.add(socket)
      process.nextTick(endTurn, socket)
    } else if (socket.writableCorked === 0) {
      socket.cork()
      process.nextTick(uncork, socket)
    }
    return super.toWritable(socket)
  }
}

const textual = { replyEncoding: "utf8" } as const
const binary = { replyEncoding: null } as const

/** What a caller wants, the same in every attempt. */
interface Request<A, E> {
  readonly command: string
  readonly args: Array<string | number>
  /** The script that the command names, for a server that doesn't know it. */
  readonly source?: string
  readonly isBinary: boolean
  /** Monotonic microseconds. No attempt begins after it. */
  readonly deadline: number
  readonly retryLost: boolean
  readonly decode: (reply: unknown) => A
  readonly onFailure: (failure: Failure) => E
  readonly onRetry?: ((failure: Failure) => void) | undefined
}

const closed = new Failure("Closed", "hopeless", new Error("The Redis connection is closed"))
const tooLate = new Failure("TimedOut", "notRun", new Error("The deadline had passed before the call was made"))
const noAnswer = new Error("Redis did not answer by the deadline")

/** The failures so far. */
interface History {
  readonly failures: number
  readonly last: Failure | undefined
}

/** The deadline left no time for the latest attempt, or cut it off when the server had already said what is wrong. */
const tellsMore = (last: Failure | undefined, latest: Failure): last is Failure =>
  last !== undefined &&
  (latest === tooLate || (latest.cause === noAnswer && last.cause instanceof Error && isReply(last.cause)))

const noFailure: History = { failures: 0, last: undefined }

/** One attempt at a request. It ends once: with a reply, a failure, the deadline, or when the caller has gone. */
class Attempt<A, E> implements Waiting {
  private readonly request: Request<A, E>
  private readonly history: History
  private readonly connection: RedisConnection
  private readonly resume: (effect: Effect.Effect<A, E>) => void
  private call: Call | undefined
  private place: Node<Waiting> | undefined
  private over = false

  constructor(
    connection: RedisConnection,
    request: Request<A, E>,
    history: History,
    resume: (effect: Effect.Effect<A, E>) => void
  ) {
    this.connection = connection
    this.request = request
    this.history = history
    this.resume = resume
  }

  get deadline(): number {
    return this.request.deadline
  }

  start(): void {
    const { command, args, deadline } = this.request
    if (deadline !== Number.POSITIVE_INFINITY) this.place = this.connection.deadlines.add(this)
    this.send(command, args)
  }

  private send(command: string, args: Array<string | number>): void {
    const call = new Call(command, args, this.request.isBinary ? binary : textual)
    this.call = call
    call.promise.then(this.onReply, this.onError)
    this.connection.client.sendCommand(call)
  }

  private readonly onReply = (reply: unknown): void => this.end(reply)

  private readonly onError = (error: Error): void => {
    const { source, args } = this.request
    if (source !== undefined && isNoScript(error) && this.call?.name === "evalsha") {
      if (!this.over) this.send("eval", args.with(0, source))
    } else {
      this.end(this.connection.failureOf(error, this.call?.written === true))
    }
  }

  onDeadline(): void {
    this.end(new Failure("TimedOut", this.call?.written ? "lost" : "notRun", noAnswer))
  }

  private end(outcome: unknown): void {
    if (this.over) return
    this.abandon()
    this.resume(this.connection.conclude(this.request, this.history, outcome))
  }

  abandon(): void {
    this.over = true
    if (this.place !== undefined) this.connection.deadlines.remove(this.place)
  }
}

export class RedisConnection {
  readonly client: Redis | Cluster
  readonly settings: ConnectionSettings
  readonly deadlines = new Deadlines(() => this.now())
  private trouble: Error | undefined
  /** Why the connection was given up, until there is another. */
  private whyLeft: Error | undefined
  /** How often in a row the database that is wanted was refused. */
  private refusals = 0
  private closed = false
  private readonly pausing = new Set<() => void>()

  constructor(template: Redis | Cluster, settings: ConnectionSettings) {
    this.settings = settings
    this.client = ownClient(template, settings)
    const onTrouble = (error: Error) => {
      if (this.trouble === undefined) settings.onTrouble(error)
      this.trouble = error
      if (!isRefusedDatabase(error)) return
      this.refusals++
      this.leave(error)
    }
    const onReady = () => {
      if (!isCluster(this.client) && this.client.stream === this.left) return
      this.refusals = 0
      if (this.trouble !== undefined) settings.onRecovery()
      this.trouble = undefined
      this.whyLeft = undefined
      this.endPauses()
    }
    this.client.on("error", onTrouble).on("node error", onTrouble).on("ready", onReady)
    if (isCluster(this.client)) {
      const cluster = this.client
      cluster.on("-node", () => {
        if (cluster.status === "ready") cluster.refreshSlotsCache()
      })
    } else {
      // ioredis counts a connection whose database was refused as one that succeeded.
      this.client.options.retryStrategy = (times) => backoff(Math.max(times, this.refusals), settings.random)
    }
  }

  /** Monotonic microseconds. */
  now(): number {
    return monotonicMicros(this.settings.clock)
  }

  /**
   * Runs a script, and again after a failure that allows for it, until the deadline. A server that doesn't know the
   * script yet is sent its source.
   */
  run<A, E>(
    script: RedisScript<A>,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>,
    options: {
      readonly deadline: number
      readonly retryLost: boolean
      readonly onRetry?: ((failure: Failure) => void) | undefined
    },
    onFailure: (failure: Failure) => E
  ): Effect.Effect<A, E> {
    return this.attempt(
      {
        command: "evalsha",
        args: [script.sha1, keys.length, ...keys, ...args],
        source: script.source,
        isBinary: script.isBinary === true,
        deadline: options.deadline,
        retryLost: options.retryLost,
        decode: script.decode,
        onFailure,
        onRetry: options.onRetry
      },
      noFailure
    )
  }

  /** Sends any command. Nobody knows what it does, so it is sent again only if it did not run. */
  command<E>(
    command: string,
    args: ReadonlyArray<string>,
    deadline: number,
    onFailure: (failure: Failure) => E
  ): Effect.Effect<unknown, E> {
    return this.attempt(
      { command, args: [...args], isBinary: false, deadline, retryLost: false, decode: (reply) => reply, onFailure },
      noFailure
    )
  }

  private attempt<A, E>(request: Request<A, E>, history: History): Effect.Effect<A, E> {
    return Effect.callback<A, E>((resume) => {
      const impossible = this.closed ? closed : this.isOver(request.deadline) ? tooLate : undefined
      if (impossible !== undefined) return resume(this.conclude(request, history, impossible))
      const attempt = new Attempt(this, request, history, resume)
      attempt.start()
      return Effect.sync(() => attempt.abandon())
    })
  }

  private isOver(deadline: number): boolean {
    return deadline !== Number.POSITIVE_INFINITY && deadline <= this.now()
  }

  /** What comes of an attempt: an answer, an error, or another attempt. */
  conclude<A, E>(request: Request<A, E>, history: History, outcome: unknown): Effect.Effect<A, E> {
    if (!(outcome instanceof Failure)) {
      try {
        return Effect.succeed(request.decode(outcome))
      } catch (cause) {
        return Effect.fail(request.onFailure(new Failure("Script", "hopeless", cause)))
      }
    }
    const failure = tellsMore(history.last, outcome) ? history.last : outcome
    const again = outcome.outcome === "notRun" || (outcome.outcome === "lost" && request.retryLost)
    if (!again || this.isOver(request.deadline)) return Effect.fail(request.onFailure(failure))
    request.onRetry?.(outcome)
    return Effect.flatMap(this.pause(history.failures, outcome, request.deadline), () =>
      this.isOver(request.deadline)
        ? Effect.fail(request.onFailure(failure))
        : this.attempt(request, { failures: history.failures + 1, last: failure })
    )
  }

  /** Waits before the next attempt, which shall have as long a time as the pause; otherwise until the deadline. */
  private pause(failures: number, failure: Failure, deadline: number): Effect.Effect<void> {
    const { clock, random } = this.settings
    const left = (deadline - this.now()) / 1000
    const millis = backoff(failures, random)
    const sleep = clock.sleep(Duration.millis(2 * millis < left ? millis : left))
    return failure.reason === "Unreachable" ? Effect.raceFirst(sleep, this.connected) : sleep
  }

  /** The next time that a connection is there. */
  private readonly connected: Effect.Effect<void> = Effect.callback((resume) => {
    const wake = () => resume(Effect.void)
    this.pausing.add(wake)
    return Effect.sync(() => this.pausing.delete(wake))
  })

  private endPauses(): void {
    const waking = [...this.pausing]
    this.pausing.clear()
    for (const wake of waking) wake()
  }

  /** `written`: whether the call had gone out. */
  failureOf(error: Error, written: boolean): Failure {
    if (isReply(error)) {
      const failure = failedReply(error)
      if (failure.reason === "ReadOnly") this.leave(error)
      return failure.reason === "WrongNode" && !isCluster(this.client)
        ? new Failure("WrongNode", "hopeless", error)
        : failure
    }
    if (error.message.startsWith("Too many Cluster redirections")) return failedReply(error)
    if (this.closed) return closed
    if (written) {
      const cause = this.trouble ?? new Error("The connection dropped before Redis replied", { cause: error })
      return new Failure(cause instanceof Silence ? "TimedOut" : "Unreachable", "lost", cause)
    }
    // Why there is no connection: the server may have refused the handshake.
    const cause = this.trouble ?? this.whyLeft ?? error
    if (isRefusedDatabase(cause)) return failedReply(cause)
    const [reason, outcome] = meaningOf(cause) ?? ["Unreachable", "notRun"]
    return new Failure(reason, outcome, cause)
  }

  /** The connection that was given up. */
  private left: unknown

  /**
   * Gives up a connection to what has become a replica: reconnecting asks Sentinel or DNS for the primary. Or one to
   * another database than the one that is wanted. Once per connection is enough.
   */
  private leave(error: Error): void {
    if (isCluster(this.client) || this.left === this.client.stream) return
    this.left = this.client.stream
    this.whyLeft = error
    this.client.disconnect(true)
  }

  private get connections(): ReadonlyArray<Redis> {
    return isCluster(this.client) ? this.client.nodes() : [this.client]
  }

  /** Gives up connections that owe a reply and have sent nothing for `replyTimeout`. */
  readonly watchSilence: Effect.Effect<never> = Effect.suspend(() => {
    const { clock, replyTimeout } = this.settings
    const heard = new WeakMap<object, { bytes: number; at: number }>()
    const look = Effect.sync(() => {
      const now = this.now()
      for (const { stream, commandQueue } of this.connections) {
        if (stream === undefined || stream.destroyed) continue
        const last = heard.get(stream)
        if (last === undefined || commandQueue.length === 0 || stream.bytesRead !== last.bytes) {
          heard.set(stream, { bytes: stream.bytesRead, at: now })
        } else if (now - last.at >= replyTimeout * 1000) {
          stream.destroy(new Silence(`Redis has sent nothing for ${replyTimeout} ms`))
        }
      }
    })
    return Effect.forever(Effect.flatMap(clock.sleep(Duration.millis(replyTimeout / 4)), () => look))
  })

  /**
   * Opens another connection, for up to so many milliseconds. If the server answers there, the one that owes a reply and
   * has sent nothing meanwhile has fallen silent, and is given up. A cluster's connections are left to `watchSilence`.
   */
  dropSilent(patience: number): Effect.Effect<void> {
    const { client } = this
    const millis = Math.min(patience, this.settings.replyTimeout)
    if (isCluster(client) || this.closed) return Effect.void
    const ask = async (other: Redis) => {
      const { stream } = client
      const bytes = stream?.bytesRead
      await other.connect()
      await other.ping()
      const isWaiting = client.status !== "ready" || client.commandQueue.length > 0
      if (stream === undefined || stream !== client.stream || !isWaiting || stream.bytesRead !== bytes) return
      stream.destroy(new Silence("Redis answers on a new connection, and has sent nothing on this one"))
    }
    const another = Effect.sync(() => {
      const options = { ...plainOptions(this.settings), retryStrategy: () => null, connectTimeout: millis }
      return (client.duplicate(options) as Redis).on("error", () => {})
    })
    return Effect.acquireUseRelease(
      another,
      (other) => Effect.timeoutOption(Effect.ignore(Effect.tryPromise(() => ask(other))), millis),
      (other) =>
        Effect.sync(() => {
          const { stream } = other
          other.disconnect()
          stream?.destroy()
        })
    )
  }

  close(): void {
    this.closed = true
    this.deadlines.close()
    this.endPauses()
    const { connections } = this
    this.client.disconnect()
    for (const { stream } of connections) stream?.destroy()
  }
}

/** Why a connection was given up. */
class Silence extends Error {}
