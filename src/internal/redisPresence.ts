/**
 * Whether Redis is there, as seen by the calls of one layer: it listens to them, and while Redis is away it knocks four
 * times a second. On Cluster each slot is judged by itself, for one shard may be away while the others are not.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { BackendError, BackendErrorReason } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import { noAnswer, type Trouble } from "./lane.ts"
import { durationOf } from "./options.ts"
import { Presence } from "./presence.ts"
import { presenceScript } from "./redisScripts.ts"
import { monotonicMicros } from "./time.ts"
import { Watch } from "./watch.ts"

/** Milliseconds from one probe to the next, whether or not that has been answered. */
const probeEvery = 250

/** Who waits for a message from Redis asks whether it is there as often as this, in microseconds. */
const askEvery = 500_000

/** Whoever has this part of `maxSleep` left has not waited before, but only come here. */
const nearlyAll = 0.9

/** Why nobody waits for Redis any more: it has been found to be away. */
export const gone: Trouble = { reason: "TimedOut", cause: new Error("Redis is away") }

/** With these there may be a decision later; with the others something is wrong that no stand-in should hide. */
const awayReasons: ReadonlySet<BackendErrorReason> = new Set<BackendErrorReason>([
  "Unreachable",
  "TimedOut",
  "ReadOnly",
  "Loading",
  "ClusterDown",
  "TryAgain",
  "Busy",
  "Misconfigured",
  "OutOfMemory"
])

export const meansAway = ({ reason }: Pick<BackendError, "reason">): boolean => awayReasons.has(reason)

export interface PresenceListener {
  /** From now on nobody needs to ask. */
  readonly onAway: (server: Server) => void
  /** From now on Redis decides; gives how many tokens or permits were given without it. */
  readonly onReturn: (server: Server) => number
}

/** A server, as far as limiters can tell one from another. */
export class Server {
  readonly presence: Presence
  /** A key in it that nobody uses. */
  readonly key: string
  trouble = noAnswer
  /** Those who wait for news, without having asked anything that is not answered yet. */
  waiting = 0
  lastAsked = 0
  probing: Fiber.Fiber<void> | undefined

  constructor(awayAfter: number, key: string) {
    this.presence = new Presence(awayAfter)
    this.key = key
  }

  get isAway(): boolean {
    return this.presence.awaySince !== undefined
  }
}

export class RedisPresence {
  /** The layer's client, for calls that are listened to. */
  readonly client: RedisClient["Service"]
  private readonly bare: RedisClient["Service"]
  private readonly clock: Clock.Clock
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly awayAfter: number
  private readonly listener: PresenceListener
  /** By slot on Cluster. */
  private readonly servers = new Map<number, Server>()
  private readonly away = new Set<Server>()
  private readonly watch: Watch
  private admitted = 0
  private since = 0

  /** `awayAfter` in microseconds. */
  constructor(
    client: RedisClient["Service"],
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    awayAfter: number,
    listener: PresenceListener
  ) {
    this.bare = client
    this.clock = clock
    this.fork = fork
    this.awayAfter = awayAfter
    this.listener = listener
    this.watch = new Watch(clock, fork, (now) => this.look(now))
    this.client = {
      ...client,
      run: (script, keys, args, options) =>
        Effect.suspend(() => {
          const server = this.serverOf(keys[0] ?? "")
          server.lastAsked = monotonicMicros(clock)
          const call = server.presence.asked(server.lastAsked)
          this.watch.at(server.presence.nextLook)
          const ran = client.run(script, keys, args, {
            ...options,
            onRetry: (trouble) => {
              server.trouble = trouble
              options.onRetry?.(trouble)
            }
          })
          return Effect.onExitPrimitive(ran, (exit) => {
            const hasFailed = Exit.isFailure(exit) && Option.exists(Exit.findErrorOption(exit), meansAway)
            if (!hasFailed) server.presence.over(call)
            else if (server.presence.failed(call, monotonicMicros(clock))) this.leave(server)
            if (Exit.isSuccess(exit) && !server.isAway) server.trouble = noAnswer
            return undefined
          })
        })
    }
  }

  serverOf(key: string): Server {
    const slot = this.client.mode === "cluster" ? this.client.slotOf(key) : 0
    let server = this.servers.get(slot)
    if (server === undefined) {
      server = new Server(this.awayAfter, `${key}:presence`)
      this.servers.set(slot, server)
    }
    return server
  }

  /** Somebody waits for a message from Redis, and nothing else would show that none can come. */
  expectMessage(server: Server): void {
    server.waiting++
    this.watch.at(monotonicMicros(this.clock) + askEvery)
  }

  expectNoMessage(server: Server): void {
    server.waiting--
  }

  /**
   * Whether who has got that error, after so long without an answer, goes on without Redis. It is away when somebody could
   * wait no longer; but what is left of `maxSleep` to those who have waited before may be too short to tell.
   */
  isMissed(server: Server, error: BackendError, waited = Number.POSITIVE_INFINITY, maxSleep = waited): boolean {
    if (!meansAway(error)) return false
    if (server.isAway || error.cause === gone.cause) return true
    if (waited < Math.min(this.awayAfter, nearlyAll * maxSleep)) return false
    if (server.presence.missed(monotonicMicros(this.clock))) this.leave(server)
    return server.isAway
  }

  close(): void {
    this.watch.stop()
    for (const { presence } of this.servers.values()) presence.close()
    for (const { probing } of this.away) probing?.interruptUnsafe()
    this.away.clear()
  }

  private look(now: number): number | undefined {
    let next = Number.POSITIVE_INFINITY
    for (const server of this.servers.values()) {
      if (server.presence.look(now)) this.leave(server)
      next = Math.min(next, server.presence.nextLook)
      if (server.waiting === 0 || server.isAway) continue
      if (now >= server.lastAsked + askEvery) this.fork(Effect.ignore(this.ask(this.client, server, now)))
      next = Math.min(next, server.lastAsked + askEvery)
    }
    return next === Number.POSITIVE_INFINITY ? undefined : next
  }

  private leave(server: Server): void {
    if (this.away.size === 0) {
      this.since = server.presence.awaySince ?? 0
      const { reason } = server.trouble
      this.log(Effect.logWarning(`Redis is away (${reason}): limiters go on without it as their whenAway says`))
    }
    this.away.add(server)
    server.probing = this.fork(this.probeAgainAndAgain(server))
    this.listener.onAway(server)
  }

  private comeBack(server: Server): void {
    server.probing?.interruptUnsafe()
    server.trouble = noAnswer
    this.away.delete(server)
    this.admitted += this.listener.onReturn(server)
    if (this.away.size > 0) return
    const duration = Duration.format(Duration.millis(Math.round((monotonicMicros(this.clock) - this.since) / 1000)))
    this.log(Effect.logInfo(`Redis is back after ${duration}; ${this.admitted} permits were given without it`))
    this.admitted = 0
  }

  private log(effect: Effect.Effect<void>): void {
    this.fork(effect)
  }

  // A connection is suspected only once a probe has had time to be answered there.
  private probeAgainAndAgain(server: Server): Effect.Effect<never> {
    const asked = Effect.sync(() => this.fork(this.probe(server)))
    const pause = this.clock.sleep(Duration.millis(probeEvery))
    const dropped = Effect.sync(() => this.fork(this.bare.dropSilent(durationOf(this.awayAfter))))
    return Effect.forever(Effect.all([asked, pause, dropped, asked, pause], { discard: true }))
  }

  /** Whoever refuses us for good is there: what is wrong then, those who ask shall hear. */
  private probe(server: Server): Effect.Effect<void> {
    return Effect.suspend(() => {
      const sent = monotonicMicros(this.clock)
      const answered = Effect.matchEager(this.ask(this.bare, server, sent), {
        onFailure: (error) => !meansAway(error),
        onSuccess: () => true
      })
      return Effect.map(answered, (isAnswer) => {
        const isNews = isAnswer && this.away.has(server)
        if (isNews && server.presence.probed(sent, monotonicMicros(this.clock))) this.comeBack(server)
      })
    })
  }

  private ask(client: RedisClient["Service"], server: Server, now: number): Effect.Effect<unknown, BackendError> {
    return client.run(presenceScript, [server.key], [], {
      operation: "presence probe",
      deadline: now + this.awayAfter,
      retryLost: true
    })
  }
}
