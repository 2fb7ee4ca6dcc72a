/**
 * Token buckets in Redis. All requests of this process that are meant for the same server go out together: while one
 * call is on its way those that arrive wait for the next, and a request that comes alone goes at once.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { BackendError } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import { maxSpan, type Outcome, type Reservation } from "./bucket.ts"
import type { Answer, BucketHome, BucketStore, JointAnswer, JointPart } from "./bucketLimiter.ts"
import type { Restore } from "./bucketWaiters.ts"
import { JointReserve, jointWords, type RedisBucket, type RedisPart, readJoint } from "./jointReserve.ts"
import { Asked, closed, Lane, type Traffic, type Trouble } from "./lane.ts"
import type { BucketConfig } from "./options.ts"
import { failedReply } from "./redisFailure.ts"
import { type TokenBucketReply, tokenBucketScript } from "./redisScripts.ts"
import { monotonicMicros } from "./time.ts"
import { Watch } from "./watch.ts"

/** Requests that don't wait for tokens wait for an answer no longer than this: five seconds. */
const patience = 5_000_000

/** How long to go on asking whether a call ran that nobody waits for any more, so as to give back what it took. */
const aftermath = 10_000_000

/** The buckets of a standalone server are spread over so many lanes, whose calls overlap. */
const standaloneLanes = 4

/** So many operations in one call take the server about a millisecond, and so many requests that are mostly alike. */
const maxOperations = 128
const maxRequests = 1024

/** A layer that closes waits so long for what is under way. */
const lastWait = "1 second"

/** What is asked of a bucket. */
abstract class OfBucket<A> extends Asked<A> {
  readonly bucket: RedisBucket
  readonly operation: string

  constructor(bucket: RedisBucket, operation: string, deadline: number, undo?: (answer: A) => void) {
    super(deadline, undo)
    this.bucket = bucket
    this.operation = operation
  }
}

/** Asks for tokens. Those who ask alike, one after the other, are told as one and answered as one, as far as possible. */
class Reserve extends OfBucket<Answer> {
  readonly amount: number
  private readonly maxWait: number

  constructor(bucket: RedisBucket, amount: number, maxWait: number, deadline: number, undo: (answer: Answer) => void) {
    super(bucket, "reserve", deadline, undo)
    this.amount = amount
    this.maxWait = maxWait
  }

  isLike(other: SingleRequest | undefined): boolean {
    return other instanceof Reserve && other.amount === this.amount && other.maxWait === this.maxWait
  }

  /**
   * The time that the request has waited for its turn counts. To the millisecond, so that those who came together ask
   * alike.
   */
  waitFrom(now: number): number {
    if (this.maxWait === maxSpan) return maxSpan
    return Math.max(0, Math.min(this.maxWait, Math.ceil((this.deadline - now) / 1000) * 1000))
  }
}

/** Asks for anything else, and is answered with so many numbers. */
class Other extends OfBucket<Numbers> {
  readonly words: Numbers
  readonly answers: number

  constructor(bucket: RedisBucket, operation: keyof typeof answerLength, words: Numbers, deadline: number) {
    super(bucket, operation, deadline)
    this.words = words
    this.answers = answerLength[operation]
  }
}

/** About one bucket. */
type SingleRequest = Reserve | Other

type Request = SingleRequest | JointReserve

const bucketsOf = (request: Request): ReadonlyArray<RedisBucket> =>
  request instanceof JointReserve ? request.parts.map(({ bucket }) => bucket) : [request.bucket]

/** Whoever asks for these waits for what Redis says. */
const wantsAnswer: ReadonlySet<string> = new Set(["reserve", "pause", "look"])

/** How many numbers the script answers. */
const answerLength = { giveBack: 1, charge: 0, pause: 0, look: 3, reset: 0 }

type Numbers = ReadonlyArray<number>

/** As the script tells that a reservation runs when its bucket alone would have it. */
const notHeldOff = { level: 0, ahead: -1 }

/** A number as the shorter text of 1000000 and 1e+6, for Redis's Lua reads every byte of the rules several times. */
const shortest = (number: number): string => {
  const [digits, power] = [String(number), number.toExponential()]
  return power.length < digits.length ? power : digits
}

type Words = ReadonlyArray<string | number>

/** The operations of a bucket as the script reads them. */
const wordsOf = (requests: ReadonlyArray<SingleRequest>, now: number): Words => {
  const words: Array<string | number> = []
  let amount = 0
  let wait = 0
  let times = 0
  const endRow = () => {
    if (times > 0) words.push("reserve", amount, wait, times)
    times = 0
  }
  for (const request of requests) {
    if (request instanceof Reserve) {
      const ownWait = request.waitFrom(now)
      if (amount !== request.amount || wait !== ownWait) endRow()
      amount = request.amount
      wait = ownWait
      times++
    } else {
      endRow()
      words.push(request.operation, ...request.words)
    }
  }
  endRow()
  return words
}

const isSame = (a: Words, b: Words): boolean => a.length === b.length && a.every((word, index) => word === b[index])

/** What is asked of each bucket as the script reads it, which is told once of as many in a row as are asked alike. */
const bucketWords = (buckets: Iterable<RequestsOfBucket>, now: number): Array<string | number> => {
  const words: Array<string | number> = []
  let rules = ""
  let operations: Words = []
  let alike = 0
  let row = 0
  for (const { bucket, requests } of buckets) {
    const ownOperations = wordsOf(requests, now)
    if (bucket.rules === rules && isSame(ownOperations, operations)) words[row] = ++alike
    else {
      alike = 1
      row = words.length
      words.push(alike, bucket.rules === rules ? "" : bucket.rules, ownOperations.length, ...ownOperations)
    }
    rules = bucket.rules
    operations = ownOperations
  }
  return words
}

/** Reads the answers to requests for tokens, of which so many in a row are alike. */
const readReserved = (reply: TokenBucketReply, elapsed: number, disagreed: boolean): ((amount: number) => Answer) => {
  const { number } = reply
  let [alike, code, value, serial, beforeSerial, beforeGap, taken] = [0, 0, 0, 0, 0, 0, 0]
  const outcome = (amount: number): Outcome => {
    if (code === 1) return { _tag: "TooLong", wait: value }
    if (code === 2) return { _tag: "Empty", available: value }
    return {
      _tag: "Reserved",
      wait: Math.max(0, value - elapsed),
      reservation: { amount, serial: serial++, beforeSerial, beforeGap, taken }
    }
  }
  return (amount) => {
    if (alike === 0) {
      ;[alike, code, value] = [number(), number(), number()]
      ;[serial, beforeSerial, beforeGap, taken] = [number(), number(), number(), number()]
    } else taken += amount
    alike--
    return { outcome: outcome(amount), disagreed }
  }
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

interface RequestsOfBucket {
  readonly bucket: RedisBucket
  readonly requests: Array<SingleRequest>
}

/** The requests of a call by the key of their bucket, and those that have to go in the next. */
interface Batch {
  readonly buckets: ReadonlyMap<string, RequestsOfBucket>
  readonly joint: ReadonlyArray<JointReserve>
  readonly left: ReadonlyArray<Request>
}

/** One call knows a bucket with one set of rules only, decides last about several at once, and has to be short. */
const batchOf = (requests: ReadonlyArray<Request>): Batch => {
  const buckets = new Map<string, RequestsOfBucket>()
  const joint: Array<JointReserve> = []
  let operations = 0
  const enter = (bucket: RedisBucket): RequestsOfBucket | undefined => {
    const known = buckets.get(bucket.key)
    if (known !== undefined) return known.bucket.rules === bucket.rules ? known : undefined
    const entered = { bucket, requests: [] }
    buckets.set(bucket.key, entered)
    return entered
  }
  const fits = (request: Request): boolean => {
    if (request instanceof JointReserve) {
      if (!request.isLike(joint.at(-1))) operations += request.parts.length
      if (operations > maxOperations && joint.length > 0) return false
      if (!request.parts.every(({ bucket }) => enter(bucket) !== undefined)) return false
      joint.push(request)
      return true
    }
    const ofBucket = joint.length === 0 ? enter(request.bucket) : undefined
    const isRepeated = request instanceof Reserve && request.isLike(ofBucket?.requests.at(-1))
    if (!isRepeated) operations++
    if (ofBucket === undefined || operations > maxOperations) return false
    ofBucket.requests.push(request)
    return true
  }
  for (const [index, request] of requests.entries()) {
    if (!fits(request)) return { buckets, joint, left: requests.slice(index) }
  }
  return { buckets, joint, left: [] }
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
          lane.expire((request, why) => this.fail(request, why))
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
        for (const lane of this.busy) for (const request of lane.unanswered()) this.fail(request, closed)
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
        if (wantsAnswer.has(request.operation) && isConcerned) this.fail(request, why)
      }
    }
  }

  store(config: BucketConfig): RedisBucketStore {
    const { maxSleep } = config
    const bucket = this.bucketOf(config)
    const { key } = bucket
    const lane = this.laneOf(key)

    const ask = (operation: keyof typeof answerLength, words: Numbers, wait = patience) =>
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
    if (this.isClosed) this.fail(request, closed)
    else {
      this.busy.add(lane)
      // What comes back may be what those need who have asked but not gone yet.
      lane.add(request, request.operation === "giveBack")
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

  private fail(request: Request, { reason, cause }: Trouble): void {
    const name = bucketsOf(request)
      .map(({ name }) => name)
      .join(" + ")
    request.answer(Exit.fail(new BackendError({ operation: request.operation, name, reason, cause })))
  }

  private call(
    requests: ReadonlyArray<Request>,
    onTrouble: (trouble: Trouble) => void
  ): Effect.Effect<() => ReadonlyArray<Request>> {
    const batch = batchOf(requests)
    const { buckets, joint, left } = batch
    const now = monotonicMicros(this.clock)
    const deadline = Math.max(...requests.map((request) => request.deadline))
    const notAfter =
      deadline === Number.POSITIVE_INFINITY || this.serverAhead === undefined ? 0 : deadline + this.serverAhead
    const args = [0, this.clientId, ++this.calls, notAfter, ...bucketWords(buckets.values(), now)]
    if (joint.length > 0) {
      const places = new Map(Array.from(buckets.keys(), (key, index) => [key, index + 1]))
      args.push(...jointWords(joint, now, places))
    }
    const ran = this.client.run(tokenBucketScript, Array.from(buckets.keys()), args, {
      operation: "token bucket call",
      requests: requests.length - left.length,
      deadline: deadline + aftermath,
      retryLost: true,
      onRetry: onTrouble
    })
    return Effect.match(ran, {
      onFailure: (error) => () => {
        for (const { requests } of buckets.values()) for (const request of requests) this.fail(request, error)
        for (const request of joint) this.fail(request, error)
        return left
      },
      onSuccess: (reply) => () => {
        const elapsed = Math.max(0, -reply.number())
        const decided = reply.number()
        this.serverAhead = decided + elapsed - monotonicMicros(this.clock)
        const notes = reply.number()
        if (notes < 0) return requests
        this.distribute(reply, elapsed, notes, batch)
        return left
      }
    })
  }

  private distribute(reply: TokenBucketReply, elapsed: number, notes: number, { buckets, joint }: Batch): void {
    const failures = new Map<string, Trouble>()
    const disagreed = new Set<string>()
    const keys = notes > 0 ? Array.from(buckets.keys()) : []
    for (let note = 0; note < notes; note++) {
      const key = keys[reply.number() - 1] ?? ""
      if (reply.number() === 1) disagreed.add(key)
      else failures.set(key, failedReply(new Error(reply.text(reply.number()))))
    }
    for (const { bucket, requests } of buckets.values()) {
      const failure = failures.get(bucket.key)
      if (failure !== undefined) {
        for (const request of requests) this.fail(request, failure)
        continue
      }
      const nextReserved = readReserved(reply, elapsed, disagreed.has(bucket.key))
      for (const request of requests) {
        if (request instanceof Reserve) request.answer(Exit.succeed(nextReserved(request.amount)))
        else request.answer(Exit.succeed(Array.from({ length: request.answers }, reply.number)))
      }
    }
    const nextJoint = readJoint(reply, elapsed)
    for (const request of joint) {
      const outcome = nextJoint(request)
      const keys = request.parts.map(({ bucket }) => bucket.key)
      const failure = keys.map((key) => failures.get(key)).find((failure) => failure !== undefined)
      if (failure !== undefined) this.fail(request, failure)
      else if (outcome !== undefined) {
        request.answer(Exit.succeed({ outcome, disagreed: keys.map((key) => disagreed.has(key)) }))
      }
    }
  }
}
