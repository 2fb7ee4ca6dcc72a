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
import type { Answer, BucketStore } from "./bucketLimiter.ts"
import { Asked, Lane, type Traffic, type Trouble } from "./lane.ts"
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

const closed: Trouble = { reason: "Closed", cause: undefined }

/** A layer that closes waits so long for what is under way. */
const lastWait = "1 second"

interface Bucket {
  readonly name: string
  readonly key: string
  readonly rules: string
}

/** What is asked of a bucket. */
abstract class OfBucket<A> extends Asked<A> {
  readonly bucket: Bucket
  readonly operation: string

  constructor(bucket: Bucket, operation: string, deadline: number, undo?: (answer: A) => void) {
    super(deadline, undo)
    this.bucket = bucket
    this.operation = operation
  }
}

/** Asks for tokens. Those who ask alike, one after the other, are told as one and answered as one, as far as possible. */
class Reserve extends OfBucket<Answer> {
  readonly amount: number
  private readonly maxWait: number

  constructor(bucket: Bucket, amount: number, maxWait: number, deadline: number, undo: (answer: Answer) => void) {
    super(bucket, "reserve", deadline, undo)
    this.amount = amount
    this.maxWait = maxWait
  }

  isLike(other: Request | undefined): boolean {
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

  constructor(bucket: Bucket, operation: keyof typeof answerLength, words: Numbers, deadline: number) {
    super(bucket, operation, deadline)
    this.words = words
    this.answers = answerLength[operation]
  }
}

type Request = Reserve | Other

/** Whoever asks for these waits for what Redis says. */
const wantsAnswer: ReadonlySet<string> = new Set(["reserve", "pause", "look"])

/** How many numbers the script answers. */
const answerLength = { giveBack: 1, charge: 0, pause: 0, look: 3, reset: 0 }

type Numbers = ReadonlyArray<number>

/** As the script tells that a reservation runs when its bucket alone would have it. */
const notHeldOff = { level: 0, ahead: -1 }

/** The operations of a bucket as the script reads them; never empty, which would stand for those of another bucket. */
const textOf = (requests: ReadonlyArray<Request>, now: number): string => {
  let text = " "
  let last: Reserve | undefined
  let lastWait = 0
  let times = 0
  const endRow = () => {
    if (times > 0) text += `reserve ${last?.amount} ${lastWait} ${times} `
    times = 0
  }
  for (const request of requests) {
    if (request instanceof Reserve) {
      const wait = request.waitFrom(now)
      if (last?.amount !== request.amount || lastWait !== wait) endRow()
      last = request
      lastWait = wait
      times++
    } else {
      endRow()
      text += `${request.operation} ${request.words.join(" ")} `
    }
  }
  endRow()
  return text
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

/** A bucket that can be told what was taken from it elsewhere. */
export interface RedisBucketStore extends BucketStore {
  /** At Redis. */
  readonly key: string
  /** Takes `amount` from it, once Redis is there, whether or not anybody waits for that. */
  readonly charge: (amount: number) => Effect.Effect<void, BackendError>
}

/** The requests of a call by the key of their bucket, and those that have to go in the next. */
interface Batch {
  readonly buckets: ReadonlyMap<string, ReadonlyArray<Request>>
  readonly left: ReadonlyArray<Request>
}

/** One call knows a bucket with one set of rules only, and has to be short. */
const batchOf = (requests: ReadonlyArray<Request>): Batch => {
  const buckets = new Map<string, Array<Request>>()
  let operations = 0
  for (const [index, request] of requests.entries()) {
    const others = buckets.get(request.bucket.key)
    const isRepeated = request instanceof Reserve && request.isLike(others?.at(-1))
    if (!isRepeated) operations++
    const disagrees = others !== undefined && others[0]?.bucket.rules !== request.bucket.rules
    if (disagrees || operations > maxOperations) return { buckets, left: requests.slice(index) }
    if (others === undefined) buckets.set(request.bucket.key, [request])
    else others.push(request)
  }
  return { buckets, left: [] }
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
        if (wantsAnswer.has(request.operation) && concerns(request.bucket.key)) this.fail(request, why)
      }
    }
  }

  store({ name, rules, maxSleep }: BucketConfig): RedisBucketStore {
    const key = this.client.key({ kind: "TokenBucket", name })
    const { capacity, amount, interval, origin, initial, expiry } = rules
    const bucket = { name, key, rules: [capacity, amount, interval, origin, initial, expiry].join(" ") }
    const lane = this.laneOf(key)

    const send = <R extends Request>(request: R): R => {
      if (this.isClosed) this.fail(request, closed)
      else {
        this.busy.add(lane)
        lane.add(request)
        this.deadlines.at(request.deadline)
      }
      return request
    }

    const after = (wait: number) => (wait < maxSpan ? monotonicMicros(this.clock) + wait : Number.POSITIVE_INFINITY)

    const ask = (operation: keyof typeof answerLength, words: Numbers, wait = patience) =>
      send(new Other(bucket, operation, words, after(wait)))

    const giveBack = (
      { amount: reserved, serial, beforeSerial, beforeGap, taken, before = notHeldOff }: Reservation,
      amount: number
    ) => {
      const { level, ahead } = before
      return ask("giveBack", [amount, reserved, serial, beforeSerial, beforeGap, taken, level, ahead], aftermath)
    }

    const undo = ({ outcome }: Answer) => {
      if (outcome._tag === "Reserved") giveBack(outcome.reservation, outcome.reservation.amount)
    }

    return {
      key,
      charge: (amount) => Effect.asVoid(ask("charge", [amount], maxSpan).answered),
      reserve: (amount, maxWait, restore, onAnswer) =>
        Effect.suspend(() => {
          const wait = maxWait === 0 ? Math.min(maxSleep, patience) : maxWait
          const request = send(new Reserve(bucket, amount, maxWait, after(wait), undo))
          const answered = Effect.onExitPrimitive(restore(request.answered), (exit) => {
            if (Exit.isFailure(exit)) request.abandon()
            return undefined
          })
          return Effect.flatMap(answered, onAnswer)
        }),
      giveBack: (reservation, amount) => Effect.sync(() => void giveBack(reservation, amount)),
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
    const { operation, bucket } = request
    request.answer(Exit.fail(new BackendError({ operation, name: bucket.name, reason, cause })))
  }

  private call(
    requests: ReadonlyArray<Request>,
    onTrouble: (trouble: Trouble) => void
  ): Effect.Effect<ReadonlyArray<Request>> {
    const { buckets, left } = batchOf(requests)
    const now = monotonicMicros(this.clock)
    const deadline = Math.max(...requests.map((request) => request.deadline))
    const notAfter =
      deadline === Number.POSITIVE_INFINITY || this.serverAhead === undefined ? 0 : deadline + this.serverAhead
    const args: Array<string | number> = [0, this.clientId, ++this.calls, notAfter]
    let rules = ""
    let operations = ""
    for (const ofBucket of buckets.values()) {
      const ownRules = ofBucket[0]?.bucket.rules ?? ""
      const ownOperations = textOf(ofBucket, now)
      args.push(ownRules === rules ? "" : ownRules, ownOperations === operations ? "" : ownOperations)
      rules = ownRules
      operations = ownOperations
    }
    const ran = this.client.run(tokenBucketScript, Array.from(buckets.keys()), args, {
      operation: "token bucket call",
      requests: requests.length - left.length,
      deadline: deadline + aftermath,
      retryLost: true,
      onRetry: onTrouble
    })
    return Effect.match(ran, {
      onFailure: (error) => {
        for (const ofBucket of buckets.values()) for (const request of ofBucket) this.fail(request, error)
        return left
      },
      onSuccess: (reply) => {
        const serverNow = reply.number()
        const decided = reply.number()
        this.serverAhead = serverNow - monotonicMicros(this.clock)
        if (decided === 0) return requests
        this.distribute(reply, serverNow - decided, buckets)
        return left
      }
    })
  }

  private distribute(reply: TokenBucketReply, elapsed: number, buckets: Batch["buckets"]): void {
    for (const requests of buckets.values()) {
      const known = reply.number()
      if (known === 2) {
        const failure = failedReply(new Error(reply.text(reply.number())))
        for (const request of requests) this.fail(request, failure)
        continue
      }
      const nextReserved = readReserved(reply, elapsed, known === 1)
      for (const request of requests) {
        if (request instanceof Reserve) request.answer(Exit.succeed(nextReserved(request.amount)))
        else request.answer(Exit.succeed(Array.from({ length: request.answers }, reply.number)))
      }
    }
  }
}
