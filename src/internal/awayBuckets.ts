/**
 * Token buckets in Redis that go on without it while it is away, and hand back what they did when it returns.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { BackendError } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import type { WhenAway } from "../WhenAway.ts"
import { maxSpan, type Outcome, type Reservation } from "./bucket.ts"
import type { Answer, BucketHome, BucketStore, JointAnswer, JointPart } from "./bucketLimiter.ts"
import { type BucketStandIn, isStandInReservation, Share, type StandInReservation, Unlimited } from "./bucketStandIn.ts"
import type { BucketWaiters, Promised } from "./bucketWaiters.ts"
import type { Claim } from "./claim.ts"
import { HoldOffs } from "./holdOffs.ts"
import { limiterIdentity } from "./limiterKeys.ts"
import { type BucketConfig, durationOf, tokensOf } from "./options.ts"
import { type RedisBucketStore, RedisBuckets } from "./redisBuckets.ts"
import { gone, meansAway, RedisPresence, type Server } from "./redisPresence.ts"
import { monotonicMicros } from "./time.ts"

/** Who decides about a bucket in this absence, and what is needed to hand back. */
interface Deputed {
  readonly standIn: BucketStandIn
  readonly server: Server
  readonly name: string
  readonly redis: RedisBucketStore
  readonly waiters: BucketWaiters
}

/** Who decides about a bucket instead of Redis. */
interface Deputy {
  readonly server: Server
  readonly decide: (amount: number, maxWait: number) => Outcome
  readonly giveBack: (reservation: Reservation, amount: number) => void
  /** Whether who has got that error, and had so long for an answer, asks the stand-in. */
  readonly isMissed: (error: BackendError, maxWait: number) => boolean
}

/** What stand-ins make of a request to several buckets: one after the other, and nothing if one of them refuses. */
const decideTogether = (
  deputies: ReadonlyArray<Deputy>,
  parts: ReadonlyArray<JointPart>,
  minWait: number,
  maxWait: number
): JointAnswer => {
  const disagreed = parts.map(() => false)
  const reservations: Array<Reservation> = []
  let wait = minWait
  for (const [part, deputy] of deputies.entries()) {
    const { amount, mayWait } = parts[part] as JointPart
    const outcome = deputy.decide(amount, mayWait ? maxWait : wait)
    if (outcome._tag !== "Reserved") {
      for (const [index, reservation] of reservations.entries()) {
        deputies[index]?.giveBack(reservation, reservation.amount)
      }
      return { outcome: { ...outcome, part }, disagreed }
    }
    wait = Math.max(wait, outcome.wait)
    reservations.push(outcome.reservation)
  }
  return { outcome: { _tag: "Reserved", wait, reservations }, disagreed }
}

/**
 * The buckets of one layer that don't fail when Redis is away.
 */
export class AwayBuckets {
  private readonly clock: Clock.Clock
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly presence: RedisPresence
  private readonly buckets: RedisBuckets
  private readonly awayAfter: Duration.Duration
  /** By policy and name, in this absence. */
  private readonly deputed = new Map<string, Deputed>()
  private readonly deputies = new WeakMap<BucketConfig, Deputy>()
  /** That this process made, by name: Redis may not be there to tell of them. */
  private readonly pauses = new HoldOffs()
  /** By what is home to the same buckets while Redis is there. */
  private readonly homes = new Map<BucketHome, BucketHome>()

  /** `awayAfter` in microseconds. */
  constructor(
    client: RedisClient["Service"],
    clientId: string,
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    awayAfter: number
  ) {
    this.clock = clock
    this.fork = fork
    this.awayAfter = durationOf(awayAfter)
    this.presence = new RedisPresence(client, clock, fork, awayAfter, {
      onAway: (server) => this.buckets.giveUp((key) => this.presence.serverOf(key) === server, gone),
      onReturn: (server) => this.onReturn(server)
    })
    this.buckets = new RedisBuckets(this.presence.client, clientId, clock, fork)
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.presence.close()
    return this.buckets.close
  })

  store(config: BucketConfig, whenAway: Exclude<WhenAway, "fail">, waiters: BucketWaiters): BucketStore {
    const name = limiterIdentity("TokenBucket", config)
    const redis = this.buckets.store(config)
    const server = this.presence.serverOf(redis.key)
    const deputyKey = `${whenAway === "allow" ? whenAway : "local"} ${name}`

    const makeStandIn = () => {
      if (whenAway === "allow") return new Unlimited(config)
      const promised = waiters.promised(name)
      const now = this.now()
      // While some wait for what Redis promised them, all that refills is what others of them had.
      return new Share(config, whenAway.local, promised > 0 ? now : (server.presence.awaySince ?? now), promised)
    }

    const standIn = (): BucketStandIn => {
      let deputed = this.deputed.get(deputyKey)
      if (deputed === undefined) {
        deputed = { standIn: makeStandIn(), server, name, redis, waiters }
        this.deputed.set(deputyKey, deputed)
        const paused = Duration.toMicros(this.pauses.left(this.clock, name))
        if (paused > 0) deputed.standIn.pause(paused, this.now())
      }
      return deputed.standIn
    }

    const decide = (amount: number, maxWait: number): Outcome => standIn().reserve(amount, maxWait, this.now())

    /** Whether what the stand-in decided has not been handed back yet. */
    const isUpTo = (standIn: BucketStandIn): boolean => this.deputed.get(deputyKey)?.standIn === standIn

    /** An attempt that does not wait for tokens waits for an answer as others do. */
    const isMissed = (error: BackendError, maxWait: number): boolean =>
      this.presence.isMissed(server, error, maxWait || undefined, config.maxSleep)

    const reserve = <A, E, R>(
      amount: number,
      maxWait: number,
      claim: Claim,
      onAnswer: (answer: Answer) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | BackendError, R> =>
      Effect.suspend(() => {
        if (server.isAway) return onAnswer({ outcome: decide(amount, maxWait), disagreed: false })
        const asked = this.now()
        return Effect.matchEffect(redis.reserve(amount, maxWait, claim, Effect.succeed), {
          onSuccess: onAnswer,
          onFailure: (error) => {
            if (!isMissed(error, maxWait)) return Effect.fail(error)
            const left = maxWait === maxSpan ? maxSpan : Math.max(0, maxWait - (this.now() - asked))
            return reserve(amount, left, claim, onAnswer)
          }
        })
      })

    const orElse = <A>(ask: Effect.Effect<A, BackendError>, instead: () => A): Effect.Effect<A, BackendError> =>
      Effect.suspend(() =>
        server.isAway
          ? Effect.sync(instead)
          : Effect.catch(ask, (error) =>
              this.presence.isMissed(server, error) ? orElse(ask, instead) : Effect.fail(error)
            )
      )

    /** Redis hears of it, and the caller need not wait until it has. */
    const tell = (told: Effect.Effect<void, BackendError>): Effect.Effect<void, BackendError> =>
      Effect.asVoid(
        Effect.timeoutOption(
          Effect.catchIf(told, meansAway, () => Effect.void),
          this.awayAfter
        )
      )

    const settleStandIn = (reservation: StandInReservation, actual: number): void => {
      const { amount, standIn } = reservation
      if (!isUpTo(standIn)) {
        if (actual > amount && whenAway !== "allow") redis.charge(actual - amount)
      } else if (actual > amount) standIn.charge(actual - amount, this.now())
      else standIn.giveBack(reservation, amount - actual, this.now())
    }

    const giveBack = (reservation: Reservation, amount: number): void => {
      if (!isStandInReservation(reservation)) redis.giveBack(reservation, amount)
      else if (isUpTo(reservation.standIn)) reservation.standIn.giveBack(reservation, amount, this.now())
    }

    this.deputies.set(config, { server, decide, giveBack, isMissed })

    return {
      home: this.homeOf(redis.home),
      takeNow: (amount) => server.isAway && decide(amount, 0)._tag === "Reserved",
      reserve,
      giveBack,
      settle: (reservation, actual) =>
        Effect.suspend(() => {
          if (isStandInReservation(reservation)) return Effect.sync(() => settleStandIn(reservation, actual))
          const { amount } = reservation
          return tell(actual > amount ? redis.charge(actual - amount) : redis.settle(reservation, actual))
        }),
      pause: (duration) =>
        Effect.suspend(() => {
          this.pauses.extend(this.clock, name, durationOf(duration))
          return orElse(redis.pause(duration), () => standIn().pause(duration, this.now()))
        }),
      look: (amount) => orElse(redis.look(amount), () => standIn().look(amount, this.now())),
      reset: Effect.tap(redis.reset, () => Effect.sync(() => this.pauses.end(name))),
      isAway: () => server.isAway,
      away: () => {
        const since = server.presence.awaySince
        if (since === undefined) return undefined
        const admitted = this.deputed.get(deputyKey)?.standIn.admitted ?? 0
        return { duration: durationOf(this.now() - since), admitted: tokensOf(admitted) }
      }
    }
  }

  /** Home to the same buckets as Redis is. While it is away, their stand-ins are asked one after the other. */
  private homeOf(redis: BucketHome): BucketHome {
    let home = this.homes.get(redis)
    if (home !== undefined) return home
    const reserve: BucketHome["reserve"] = (parts, minWait, maxWait, restore, onAnswer) =>
      Effect.suspend(() => {
        const deputies = parts.map(({ config }) => this.deputies.get(config)).filter((one) => one !== undefined)
        const [deputy] = deputies
        if (deputy === undefined || deputy.server.isAway)
          return onAnswer(decideTogether(deputies, parts, minWait, maxWait))
        const asked = this.now()
        return Effect.matchEffect(redis.reserve(parts, minWait, maxWait, restore, Effect.succeed), {
          onSuccess: onAnswer,
          onFailure: (error) => {
            if (!deputies.some(({ isMissed }) => isMissed(error, maxWait))) return Effect.fail(error)
            const elapsed = this.now() - asked
            const left = maxWait === maxSpan ? maxSpan : Math.max(0, maxWait - elapsed)
            return reserve(parts, Math.max(0, minWait - elapsed), left, restore, onAnswer)
          }
        })
      })
    home = { reserve }
    this.homes.set(redis, home)
    return home
  }

  /** Redis is told what was taken without it before anybody asks it anything. Who waits here asks there, in order. */
  private onReturn(server: Server): number {
    const now = this.now()
    let admitted = 0
    const asking: Array<() => void> = []
    for (const [key, deputed] of this.deputed) {
      if (deputed.server !== server) continue
      const { standIn, name, redis, waiters } = deputed
      const isOurs = (promised: Promised) => {
        const reservation = promised.reservationIn(name)
        return promised.due > now && isStandInReservation(reservation) && reservation.standIn === standIn
      }
      const { promises, askAnew } = waiters.recall(name, isOurs)
      for (const promised of promises.toReversed()) promised.giveBack()
      this.deputed.delete(key)
      const owed = standIn.owed(now)
      if (owed > 0) redis.charge(owed)
      const paused = standIn.pausedFor(now)
      if (paused > 0) this.fork(Effect.ignore(redis.pause(paused)))
      asking.push(askAnew)
      admitted += tokensOf(standIn.admitted)
    }
    for (const askAnew of asking) askAnew()
    return admitted
  }

  private now(): number {
    return monotonicMicros(this.clock)
  }
}
