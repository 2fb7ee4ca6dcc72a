/**
 * One call of `lua/token-bucket.lua`: requests as the script is told them, and their answers as it gives them.
 */
import * as Exit from "effect/Exit"
import type { Outcome } from "./bucket.ts"
import { fail, type Request, Reserve, type SingleRequest } from "./bucketRequests.ts"
import { JointReserve, jointWords, type RedisBucket, readJoint } from "./jointReserve.ts"
import type { Trouble } from "./lane.ts"
import { failedReply } from "./redisFailure.ts"
import type { TokenBucketReply } from "./redisScripts.ts"

/** So many operations in one call take the server about a millisecond. */
const maxOperations = 128

type Words = ReadonlyArray<string | number>

/** What a call asks of one bucket. */
interface Asking {
  readonly bucket: RedisBucket
  readonly requests: Array<SingleRequest>
  /** It was known with other rules. */
  disagreed: boolean
  /** What its key answered with. */
  failure: Trouble | undefined
}

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

/** Reads the answers to requests for tokens, of which so many in a row are alike. */
class Outcomes {
  private readonly reply: TokenBucketReply
  private readonly elapsed: number
  private alike = 0
  private code = 0
  private value = 0
  private serial = 0
  private beforeSerial = 0
  private beforeGap = 0
  private taken = 0

  constructor(reply: TokenBucketReply, elapsed: number) {
    this.reply = reply
    this.elapsed = elapsed
  }

  next(amount: number): Outcome {
    if (this.alike === 0) this.read()
    else {
      this.serial++
      this.taken += amount
    }
    this.alike--
    const { code, value, serial, beforeSerial, beforeGap, taken } = this
    if (code === 1) return { _tag: "TooLong", wait: value }
    if (code === 2) return { _tag: "Empty", available: value }
    const wait = Math.max(0, value - this.elapsed)
    return { _tag: "Reserved", wait, reservation: { amount, serial, beforeSerial, beforeGap, taken } }
  }

  private read(): void {
    const { reply } = this
    this.alike = reply.number()
    this.code = reply.number()
    this.value = reply.number()
    this.serial = reply.number()
    this.beforeSerial = reply.number()
    this.beforeGap = reply.number()
    this.taken = reply.number()
  }
}

export class BucketCall {
  /** By key. */
  private readonly buckets = new Map<string, Asking>()
  private readonly joint: Array<JointReserve> = []
  private operations = 0
  /** Nobody waits any longer for an answer. */
  deadline = Number.NEGATIVE_INFINITY

  get keys(): ReadonlyArray<string> {
    return Array.from(this.buckets.keys())
  }

  /**
   * Gives whether the request goes with this call, which knows a bucket with one set of rules only, decides last about
   * several at once, and has to be short.
   */
  add(request: Request): boolean {
    const fits = request instanceof JointReserve ? this.addJoint(request) : this.addSingle(request)
    if (fits) this.deadline = Math.max(this.deadline, request.deadline)
    return fits
  }

  private addSingle(request: SingleRequest): boolean {
    if (this.joint.length > 0) return false
    const { bucket } = request
    const known = this.buckets.get(bucket.key)
    const isRepeated = request instanceof Reserve && request.isLike(known?.requests.at(-1))
    if (!isRepeated && ++this.operations > maxOperations) return false
    if (known === undefined) this.enter(bucket, [request])
    else if (known.bucket.rules !== bucket.rules) return false
    else known.requests.push(request)
    return true
  }

  private addJoint(request: JointReserve): boolean {
    if (!request.isLike(this.joint.at(-1))) this.operations += request.parts.length
    if (this.operations > maxOperations && this.joint.length > 0) return false
    for (const { bucket } of request.parts) {
      const known = this.buckets.get(bucket.key)
      if (known === undefined) this.enter(bucket, [])
      else if (known.bucket.rules !== bucket.rules) return false
    }
    this.joint.push(request)
    return true
  }

  private enter(bucket: RedisBucket, requests: Array<SingleRequest>): void {
    this.buckets.set(bucket.key, { bucket, requests, disagreed: false, failure: undefined })
  }

  /** Its arguments from the first bucket on. Of as many in a row as are asked alike the script is told once. */
  words(now: number): Words {
    const words: Array<string | number> = []
    let rules = ""
    let operations: Words = []
    let alike = 0
    let row = 0
    for (const { bucket, requests } of this.buckets.values()) {
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
    if (this.joint.length > 0) {
      const places = new Map(Array.from(this.buckets.keys(), (key, index) => [key, index + 1]))
      words.push(...jointWords(this.joint, now, places))
    }
    return words
  }

  /** Nothing is known of what became of it. */
  fail(trouble: Trouble): void {
    for (const { requests } of this.buckets.values()) for (const request of requests) fail(request, trouble)
    for (const request of this.joint) fail(request, trouble)
  }

  /** Reads the reply from its notes on; `elapsed` has passed since what it says was decided. */
  answer(reply: TokenBucketReply, notes: number, elapsed: number): void {
    this.readNotes(reply, notes)
    const outcomes = new Outcomes(reply, elapsed)
    for (const { requests, disagreed, failure } of this.buckets.values()) {
      for (const request of requests) {
        if (failure !== undefined) fail(request, failure)
        else if (request instanceof Reserve) {
          request.answer(Exit.succeed({ outcome: outcomes.next(request.amount), disagreed }))
        } else request.answer(Exit.succeed(Array.from({ length: request.answers }, reply.number)))
      }
    }
    const nextJoint = readJoint(reply, elapsed)
    for (const request of this.joint) {
      const outcome = nextJoint(request)
      const asked = request.parts.map(({ bucket }) => this.buckets.get(bucket.key))
      const failure = asked.find((one) => one?.failure !== undefined)?.failure
      if (failure !== undefined) fail(request, failure)
      else if (outcome !== undefined) {
        request.answer(Exit.succeed({ outcome, disagreed: asked.map((one) => one?.disagreed === true) }))
      }
    }
  }

  private readNotes(reply: TokenBucketReply, notes: number): void {
    if (notes === 0) return
    const inOrder = Array.from(this.buckets.values())
    for (let note = 0; note < notes; note++) {
      const asking = inOrder[reply.number() - 1] as Asking
      if (reply.number() === 1) asking.disagreed = true
      else asking.failure = failedReply(new Error(reply.text(reply.number())))
    }
  }
}
