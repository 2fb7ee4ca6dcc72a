/**
 * Token buckets in Redis. All requests of this process that are meant for the same server go out together: while one
 * call is on its way those that arrive wait for the next, and a request that comes alone goes at once.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { BackendError } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import { maxSpan, type Reservation } from "./bucket.ts"
import { BucketCall } from "./bucketCall.ts"
import type { Answer, BucketHome, BucketStore, JointAnswer, JointPart } from "./bucketLimiter.ts"
import { bucketsOf, fail, type Numbers, Other, type OtherOperation, type Request, Reserve } from "./bucketRequests.ts"
import type { Restore } from "./bucketWaiters.ts"
import { JointReserve, type RedisBucket, type RedisPart } from "./jointReserve.ts"
import { type Asked, closed, Lane, type Traffic, type Trouble } from "./lane.ts"
import type { BucketConfig } from "./options.ts"
import { tokenBucketScript } from "./redisScripts.ts"
import { monotonicMicros } from "./time.ts"
import { Watch } from "./watch.ts"

/** Requests that don't wait for tokens wait for an answer no longer than this: five seconds. */
const patience = 5_000_000

/** How long to go on asking whether a call ran that nobody waits for any more, so as to give back what it took. */
const aftermath = 10_000_000

/** The buckets of a standalone server are spread over so many lanes, whose calls overlap. */
const standaloneLanes = 4

/** A call carries no more requests, though most of them be alike. */
const maxRequests = 1024

/** A layer that closes waits so long for what is under way. */
const lastWait = "1 second"

/** Whoever asks for these waits for what Redis says. */
const wantsAnswer: ReadonlySet<string> = new Set(["reserve", "pause", "look"])

/** As the script tells that a reservation runs when its bucket alone would have it. */
const notHeldOff = { level: 0, ahead: -1 }

/** A number as the shorter text of 1000000 and 1e+6, for Redis's Lua reads every byte of the rules several times. */
const shortest = (number: number): string => {
  const [digits, power] = [String(number), number.toExponential()]
  return power.length < digits.length ? power : digits
}

/** What a request is answered with; one that is interrupted before is abandoned. */
const answerOf = <A>(request: Asked<A>, restore: Restore): Effect.Effect<A, BackendError> =>
  Effect.onExitPrimitive(restore(request.answered), (exit) => {
    if (Exit.isFailure(exit)) request.abandon()
    return undefined
  })

/** A bucket that can be told what was taken from it elsewhere. */
export interface RedisBucketStore extends BucketStore {
  /** At Redis. */
  readonly key: string
  /** Takes `amount` from it, once Redis is there, whether or not anybody waits for that. */
  readonly charge: (amount: number) => Effect.Effect<void, BackendError>
}

/**
 * The buckets of one layer.
 */
export class RedisBuckets {
  private readonly client: RedisClient["Service"]
  private readonly clientId: string
  private readonly clock: Clock.Clock
  /** By slot on Cluster, where one call reaches one slot. */
  private readonly lanes = new Map<number, Lane<Request>>()
  private readonly buckets = new WeakMap<BucketConfig, RedisBucket>()
  private readonly parts = new WeakMap<ReadonlyArray<JointPart>, ReadonlyArray<RedisPart>>()
  /** By slot on Cluster as well. */
  private readonly homes = new Map<number, BucketHome>()
  private readonly busy = new Set<Lane<Request>>()
  private readonly traffic: Traffic<Request>
  private readonly deadlines: Watch
  private calls = 0
  /** The server's clock less ours, by its latest reply. */
  private serverAhead: number | undefined
  private isClosed = false
  private onDrained: () => void = () => {}

  constructor(
    client: RedisClient["Service"],
    clientId: string,
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.client = client
    this.clientId = clientId
    this.clock = clock
    this.traffic = {
      clock,
      fork,
      maxRequests,
      call: (requests, onTrouble) => this.call(requests, onTrouble),
      onIdle: (lane) => {
        this.busy.delete(lane)
        if (this.busy.size === 0) this.onDrained()
      }
    }
    this.deadlines = new Watch(clock, fork, () => {
      let next: number | undefined
      for (const lane of this.busy) {
        next = Math.min(
          next ?? Number.POSITIVE_INFINITY,
          lane.expire((request, why) => fail(request, why))
        )
      }
      return next
    })
  }

  /** Brings home what is under way, then refuses everything. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    const drained = Effect.callback<void>((resume) => {
      this.onDrained = () => resume(Effect.void)
      if (this.busy.size === 0) this.onDrained()
    })
    return Effect.andThen(
      Effect.timeoutOption(drained, lastWait),
      Effect.sync(() => {
        this.deadlines.stop()
        for (const lane of this.busy) for (const request of lane.unanswered()) fail(request, closed)
      })
    )
  })

  /**
   * Who waits for an answer about such a key hears that there is none. What is granted to them after all goes back. What
   * Redis is to be told it will be told.
   */
  giveUp(concerns: (key: string) => boolean, why: Trouble): void {
    for (const lane of this.busy) {
      for (const request of lane.unanswered()) {
        const isConcerned = bucketsOf(request).some(({ key }) => concerns(key))
        if (wantsAnswer.has(request.operation) && isConcerned) fail(request, why)
      }
    }
  }

  store(config: BucketConfig): RedisBucketStore {
    const { maxSleep } = config
    const bucket = this.bucketOf(config)
    const { key } = bucket
    const lane = this.laneOf(key)

    const ask = (operation: OtherOperation, words: Numbers, wait = patience) =>
      this.send(lane, new Other(bucket, operation, words, this.after(wait)))

    const giveBack = (reservation: Reservation, amount: number) => this.giveBack(bucket, reservation, amount)

    const undo = ({ outcome }: Answer) => {
      if (outcome._tag === "Reserved") giveBack(outcome.reservation, outcome.reservation.amount)
    }

    return {
      key,
      home: this.homeOf(key),
      charge: (amount) => Effect.asVoid(ask("charge", [amount], maxSpan).answered),
      reserve: (amount, maxWait, claim, onAnswer) => {
        const answered = Effect.callback<Answer, BackendError>((resume) => {
          const wait = maxWait === 0 ? Math.min(maxSleep, patience) : maxWait
          const request = this.send(lane, new Reserve(bucket, amount, maxWait, this.after(wait), undo))
          claim.hold(request)
          request.onAnswer(resume)
        })
        return Effect.flatMap(answered, onAnswer)
      },
      giveBack,
      settle: (reservation, actual) =>
        Effect.suspend(() =>
          Effect.asVoid(
            actual <= reservation.amount
              ? giveBack(reservation, reservation.amount - actual).answered
              : ask("charge", [actual - reservation.amount]).answered
          )
        ),
      pause: (duration) => Effect.suspend(() => Effect.asVoid(ask("pause", [duration]).answered)),
      look: (asked) =>
        Effect.suspend(() =>
          Effect.map(ask("look", [asked]).answered, ([available = 0, wait = 0, nextToken = 0]) => ({
            available,
            wait: wait < 0 ? Number.POSITIVE_INFINITY : wait,
            nextToken: nextToken < 0 ? Number.POSITIVE_INFINITY : nextToken
          }))
        ),
      reset: Effect.suspend(() => Effect.asVoid(ask("reset", []).answered))
    }
  }

  private bucketOf(config: BucketConfig): RedisBucket {
    let bucket = this.buckets.get(config)
    if (bucket === undefined) {
      const { capacity, amount, interval, origin, initial, expiry } = config.rules
      bucket = {
        name: config.name,
        key: this.client.key({ kind: "TokenBucket", ...config }),
        rules: [capacity, amount, interval, origin, initial, expiry].map(shortest).join(" ")
      }
      this.buckets.set(config, bucket)
    }
    return bucket
  }

  private partsOf(asked: ReadonlyArray<JointPart>): ReadonlyArray<RedisPart> {
    let parts = this.parts.get(asked)
    if (parts === undefined) {
      parts = asked.map(({ config, amount, mayWait }) => ({ bucket: this.bucketOf(config), amount, mayWait }))
      this.parts.set(asked, parts)
    }
    return parts
  }

  private after(wait: number): number {
    return wait < maxSpan ? monotonicMicros(this.clock) + wait : Number.POSITIVE_INFINITY
  }

  private send<R extends Request>(lane: Lane<Request>, request: R): R {
    if (this.isClosed) fail(request, closed)
    else {
      // What comes back may be what those need who have asked but not gone yet.
      if (lane.add(request, request.operation === "giveBack")) this.busy.add(lane)
      this.deadlines.at(request.deadline)
    }
    return request
  }

  private giveBack(
    bucket: RedisBucket,
    { amount: reserved, serial, beforeSerial, beforeGap, taken, before = notHeldOff }: Reservation,
    amount: number
  ): Other {
    const words = [amount, reserved, serial, beforeSerial, beforeGap, taken, before.level, before.ahead]
    return this.send(this.laneOf(bucket.key), new Other(bucket, "giveBack", words, this.after(aftermath)))
  }

  /** One call reaches all buckets of a standalone server, and those of one slot on Cluster. */
  private homeOf(key: string): BucketHome {
    const index = this.client.mode === "cluster" ? this.client.slotOf(key) : 0
    let home = this.homes.get(index)
    if (home === undefined) {
      home = {
        reserve: (parts, minWait, maxWait, restore, onAnswer) =>
          Effect.suspend(() =>
            Effect.flatMap(answerOf(this.reserve(parts, minWait, maxWait), restore), (answer) => onAnswer(answer))
          )
      }
      this.homes.set(index, home)
    }
    return home
  }

  private reserve(asked: ReadonlyArray<JointPart>, minWait: number, maxWait: number): JointReserve {
    const parts = this.partsOf(asked)
    const lane = this.laneOf(parts[0]?.bucket.key ?? "")
    const undo = ({ outcome }: JointAnswer) => {
      if (outcome._tag !== "Reserved") return
      for (const [index, { bucket, amount }] of parts.entries()) {
        const reservation = outcome.reservations[index]
        if (reservation !== undefined) this.giveBack(bucket, reservation, amount)
      }
    }
    const maxSleep = Math.min(patience, ...asked.map(({ config }) => config.maxSleep))
    const deadline = this.after(maxWait === 0 ? maxSleep : maxWait)
    const earliest = monotonicMicros(this.clock) + minWait
    return this.send(lane, new JointReserve(parts, earliest, maxWait, deadline, undo))
  }

  private laneOf(key: string): Lane<Request> {
    const slot = this.client.slotOf(key)
    const index = this.client.mode === "cluster" ? slot : slot % standaloneLanes
    let lane = this.lanes.get(index)
    if (lane === undefined) {
      lane = new Lane(this.traffic)
      this.lanes.set(index, lane)
    }
    return lane
  }

  private call(
    requests: ReadonlyArray<Request>,
    onTrouble: (trouble: Trouble) => void
  ): Effect.Effect<() => ReadonlyArray<Request>> {
    const call = new BucketCall()
    const end = requests.findIndex((request) => !call.add(request))
    const left = end < 0 ? [] : requests.slice(end)
    const now = monotonicMicros(this.clock)
    const { deadline } = call
    const notAfter =
      deadline === Number.POSITIVE_INFINITY || this.serverAhead === undefined ? 0 : deadline + this.serverAhead
    const args = [0, this.clientId, ++this.calls, notAfter, ...call.words(now)]
    const ran = this.client.run(tokenBucketScript, call.keys, args, {
      operation: "token bucket call",
      requests: requests.length - left.length,
      deadline: deadline + aftermath,
      retryLost: true,
      onRetry: onTrouble
    })
    return Effect.match(ran, {
      onFailure: (error) => () => {
        call.fail(error)
        return left
      },
      onSuccess: (reply) => () => {
        const elapsed = Math.max(0, -reply.number())
        const decided = reply.number()
        this.serverAhead = decided + elapsed - monotonicMicros(this.clock)
        const notes = reply.number()
        if (notes < 0) return requests
        call.answer(reply, notes, elapsed)
        return left
      }
    })
  }
}
