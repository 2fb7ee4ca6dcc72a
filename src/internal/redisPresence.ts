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
import type { Trouble } from "./lane.ts"
import { durationOf } from "./options.ts"
import { Presence } from "./presence.ts"
import { presenceScript } from "./redisScripts.ts"
import { monotonicMicros } from "./time.ts"
import { Watch } from "./watch.ts"

/** Milliseconds from one probe to the next, whether or not that has been answered. */
const probeEvery = 250

const noAnswer: Trouble = { reason: "TimedOut", cause: undefined }

/** Who waits for a message from Redis asks whether it is there as often as this, in microseconds. */
const askEvery = 500_000

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
  readonly onAway: (place: Place) => void
  /** From now on Redis decides; gives how many tokens or permits were given without it. */
  readonly onReturn: (place: Place) => number
}

/** A server, as far as limiters can tell one from another. */
export class Place {
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
  private readonly places = new Map<number, Place>()
  private readonly away = new Set<Place>()
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
          const place = this.placeOf(keys[0] ?? "")
          place.lastAsked = monotonicMicros(clock)
          const call = place.presence.asked(place.lastAsked)
          this.watch.at(place.presence.nextLook)
          const ran = client.run(script, keys, args, {
            ...options,
            onRetry: (trouble) => {
              place.trouble = trouble
              options.onRetry?.(trouble)
            }
          })
          return Effect.onExitPrimitive(ran, (exit) => {
            if (exit._tag === "Success") {
              if (!place.isAway) place.trouble = noAnswer
            } else if (Option.exists(Exit.findErrorOption(exit), meansAway)) this.missed(place)
            place.presence.over(call)
            return undefined
          })
        })
    }
  }

  placeOf(key: string): Place {
    const slot = this.client.mode === "cluster" ? this.client.slotOf(key) : 0
    let place = this.places.get(slot)
    if (place === undefined) {
      place = new Place(this.awayAfter, `${key}:presence`)
      this.places.set(slot, place)
    }
    return place
  }

  /** Somebody waits for a message from Redis, and nothing else would show that none can come. */
  expectMessage(place: Place): void {
    place.waiting++
    this.watch.at(monotonicMicros(this.clock) + askEvery)
  }

  expectNoMessage(place: Place): void {
    place.waiting--
  }

  /** Somebody could wait no longer. */
  missed(place: Place): void {
    if (place.presence.missed(monotonicMicros(this.clock))) this.leave(place)
  }

  close(): void {
    this.watch.stop()
    for (const { probing } of this.away) probing?.interruptUnsafe()
    this.away.clear()
  }

  private look(now: number): number | undefined {
    let next = Number.POSITIVE_INFINITY
    for (const place of this.places.values()) {
      if (place.presence.look(now)) this.leave(place)
      next = Math.min(next, place.presence.nextLook)
      if (place.waiting === 0 || place.isAway) continue
      if (now >= place.lastAsked + askEvery) this.fork(Effect.ignore(this.ask(this.client, place, now)))
      next = Math.min(next, place.lastAsked + askEvery)
    }
    return next === Number.POSITIVE_INFINITY ? undefined : next
  }

  private leave(place: Place): void {
    if (this.away.size === 0) {
      this.since = place.presence.awaySince ?? 0
      const { reason } = place.trouble
      this.log(Effect.logWarning(`Redis is away (${reason}): limiters go on without it as their whenAway says`))
    }
    this.away.add(place)
    place.probing = this.fork(this.probeAgainAndAgain(place))
    this.listener.onAway(place)
  }

  private comeBack(place: Place): void {
    place.probing?.interruptUnsafe()
    place.trouble = noAnswer
    this.away.delete(place)
    this.admitted += this.listener.onReturn(place)
    if (this.away.size > 0) return
    const duration = Duration.format(Duration.millis(Math.round((monotonicMicros(this.clock) - this.since) / 1000)))
    this.log(Effect.logInfo(`Redis is back after ${duration}; ${this.admitted} permits were given without it`))
    this.admitted = 0
  }

  private log(effect: Effect.Effect<void>): void {
    this.fork(effect)
  }

  // A server that is only slow answers late, and so may a connection to it.
  private probeAgainAndAgain(place: Place): Effect.Effect<never> {
    const asked = Effect.sync(() => this.fork(this.probe(place)))
    const pause = this.clock.sleep(Duration.millis(probeEvery))
    const dropped = Effect.sync(() => this.fork(this.bare.dropSilent(durationOf(this.awayAfter))))
    return Effect.forever(Effect.all([asked, pause, dropped, asked, pause], { discard: true }))
  }

  /** Whoever refuses us for good is there: what is wrong then, those who ask shall hear. */
  private probe(place: Place): Effect.Effect<void> {
    return Effect.suspend(() => {
      const sent = monotonicMicros(this.clock)
      const answered = Effect.matchEager(this.ask(this.bare, place, sent), {
        onFailure: (error) => !meansAway(error),
        onSuccess: () => true
      })
      return Effect.map(answered, (isAnswer) => {
        const isNews = isAnswer && this.away.has(place)
        if (isNews && place.presence.probed(sent, monotonicMicros(this.clock))) this.comeBack(place)
      })
    })
  }

  private ask(client: RedisClient["Service"], place: Place, now: number): Effect.Effect<unknown, BackendError> {
    return client.run(presenceScript, [place.key], [], {
      operation: "presence probe",
      deadline: now + this.awayAfter,
      retryLost: true
    })
  }
}
