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
import type { BucketStore } from "./bucketLimiter.ts"
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

const closed: Trouble = { reason: "Closed", cause: undefined }

/** A layer that closes waits so long for what is under way. */
const lastWait = "1 second"

type Operation = "reserve" | "giveBack" | "charge" | "pause" | "look" | "reset"

/** How many numbers the script answers. */
const answerLength: Record<Operation, number> = { reserve: 6, giveBack: 1, charge: 1, pause: 1, look: 3, reset: 1 }

/** As the script tells that a reservation runs when its bucket alone would have it. */
const notHeldOff = { level: 0, ahead: -1 }

interface Bucket {
  readonly name: string
  readonly key: string
  readonly rules: string
}

type Numbers = ReadonlyArray<number>

class Request extends Asked<Numbers> {
  readonly bucket: Bucket
  readonly operation: Operation
  /** The bucket was known with other rules. */
  disagreed = false
  private readonly numbers: Numbers

  constructor(
    bucket: Bucket,
    operation: Operation,
    numbers: Numbers,
    deadline: number,
    undo?: (answer: Numbers) => void
  ) {
    super(deadline, undo)
    this.bucket = bucket
    this.operation = operation
    this.numbers = numbers
  }

  /** What the script is told; equal requests say the same. */
  encode(now: number): ReadonlyArray<number> {
    const [amount = 0, maxWait = 0] = this.numbers
    if (this.operation !== "reserve" || maxWait === maxSpan) return this.numbers
    // The time that the request has waited for its turn counts. To the millisecond, so that those who came together are
    // equal.
    return [amount, Math.max(0, Math.min(maxWait, Math.ceil((this.deadline - now) / 1000) * 1000))]
  }
}

/** The operations of a bucket as arguments of the script: how many, and each; equal requests in a row are one. */
const encodeAll = (requests: ReadonlyArray<Request>, now: number): ReadonlyArray<string | number> => {
  const words: Array<string | number> = [0]
  let operations = 0
  let times = 0
  let last: ReadonlyArray<number> = []
  for (const request of requests) {
    const { operation } = request
    const numbers = request.encode(now)
    if (operation === "reserve" && times > 0 && numbers[0] === last[0] && numbers[1] === last[1]) {
      words[words.length - 1] = ++times
      continue
    }
    operations++
    words.push(operation, ...numbers)
    times = operation === "reserve" ? 1 : 0
    if (times > 0) words.push(times)
    last = numbers
  }
  words[0] = operations
  return words
}

/** The requests of a call by the key of their bucket, and those that have to go in the next. */
interface Batch {
  readonly buckets: ReadonlyMap<string, ReadonlyArray<Request>>
  readonly left: ReadonlyArray<Request>
}

/** One call knows a bucket with one set of rules only. */
const batchOf = (requests: ReadonlyArray<Request>): Batch => {
  const buckets = new Map<string, Array<Request>>()
  for (const [index, request] of requests.entries()) {
    const others = buckets.get(request.bucket.key)
    if (others === undefined) buckets.set(request.bucket.key, [request])
    else if (others[0]?.bucket.rules === request.bucket.rules) others.push(request)
    else return { buckets, left: requests.slice(index) }
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

  store({ name, rules, maxSleep }: BucketConfig): BucketStore {
    const key = this.client.key({ kind: "TokenBucket", name })
    const { capacity, amount, interval, origin, initial, expiry } = rules
    const bucket = { name, key, rules: [capacity, amount, interval, origin, initial, expiry].join(" ") }
    const lane = this.laneOf(key)

    const send = (operation: Operation, numbers: Numbers, wait: number, undo?: (answer: Numbers) => void) => {
      const deadline = wait < maxSpan ? monotonicMicros(this.clock) + wait : Number.POSITIVE_INFINITY
      const request = new Request(bucket, operation, numbers, deadline, undo)
      if (this.isClosed) this.fail(request, closed)
      else {
        this.busy.add(lane)
        lane.add(request)
        this.deadlines.at(deadline)
      }
      return request
    }

    const giveBack = (
      { amount: reserved, serial, beforeSerial, beforeGap, taken, before = notHeldOff }: Reservation,
      amount: number
    ) => {
      const numbers = [amount, reserved, serial, beforeSerial, beforeGap, taken, before.level, before.ahead]
      return send("giveBack", numbers, aftermath)
    }

    const outcomeOf = (
      asked: number,
      [code, value = 0, serial = 0, beforeSerial = 0, beforeGap = 0, taken = 0]: Numbers
    ): Outcome => {
      if (code === 1) return { _tag: "TooLong", wait: value }
      if (code === 2) return { _tag: "Empty", available: value }
      return { _tag: "Reserved", wait: value, reservation: { amount: asked, serial, beforeSerial, beforeGap, taken } }
    }

    const giveBackAll = (asked: number) => (answer: Numbers) => {
      const outcome = outcomeOf(asked, answer)
      if (outcome._tag === "Reserved") giveBack(outcome.reservation, asked)
    }

    return {
      reserve: (asked, maxWait, restore, onAnswer) =>
        Effect.suspend(() => {
          const wait = maxWait === 0 ? Math.min(maxSleep, patience) : maxWait
          const request = send("reserve", [asked, maxWait], wait, giveBackAll(asked))
          const answered = Effect.onExitPrimitive(restore(request.answered), (exit) => {
            if (Exit.isFailure(exit)) request.abandon()
            return undefined
          })
          return Effect.flatMap(answered, (numbers) =>
            onAnswer({ outcome: outcomeOf(asked, numbers), disagreed: request.disagreed })
          )
        }),
      giveBack: (reservation, amount) => Effect.sync(() => void giveBack(reservation, amount)),
      settle: (reservation, actual) =>
        Effect.suspend(() =>
          Effect.asVoid(
            actual <= reservation.amount
              ? giveBack(reservation, reservation.amount - actual).answered
              : send("charge", [actual - reservation.amount], patience).answered
          )
        ),
      pause: (duration) => Effect.suspend(() => Effect.asVoid(send("pause", [duration], patience).answered)),
      look: (asked) =>
        Effect.suspend(() =>
          Effect.map(send("look", [asked], patience).answered, ([available = 0, wait = 0, nextToken = 0]) => ({
            available,
            wait: wait < 0 ? Number.POSITIVE_INFINITY : wait,
            nextToken: nextToken < 0 ? Number.POSITIVE_INFINITY : nextToken
          }))
        ),
      reset: Effect.suspend(() => Effect.asVoid(send("reset", [], patience).answered))
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
    for (const ofBucket of buckets.values()) {
      args.push(ofBucket[0]?.bucket.rules ?? "", ...encodeAll(ofBucket, now))
    }
    const ran = this.client.run(tokenBucketScript, Array.from(buckets.keys()), args, {
      operation: "token bucket call",
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
        const [serverNow, late] = reply as Numbers
        this.serverAhead = (serverNow ?? 0) - monotonicMicros(this.clock)
        if (late === 1) return requests
        this.distribute(reply, buckets)
        return left
      }
    })
  }

  private distribute(reply: TokenBucketReply, buckets: Batch["buckets"]): void {
    let at = 2
    for (const requests of buckets.values()) {
      const disagreed = reply[at++]
      for (const request of requests) {
        const length = answerLength[request.operation]
        if (typeof disagreed === "string") this.fail(request, failedReply(new Error(disagreed)))
        else {
          request.disagreed = disagreed === 1
          request.answer(Exit.succeed(reply.slice(at, at + length) as Numbers))
        }
        at += length
      }
    }
  }
}
