/**
 * What token buckets in Redis are asked.
 */
import * as Exit from "effect/Exit"
import { BackendError } from "../Errors.ts"
import { maxSpan } from "./bucket.ts"
import type { Answer } from "./bucketLimiter.ts"
import { JointReserve, type RedisBucket } from "./jointReserve.ts"
import { Asked, type Trouble } from "./lane.ts"

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
export class Reserve extends OfBucket<Answer> {
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

export type Numbers = ReadonlyArray<number>

/** How many numbers the script answers. */
const answerLength = { giveBack: 1, charge: 0, pause: 0, look: 3, reset: 0 }

export type OtherOperation = keyof typeof answerLength

/** Asks for anything else, and is answered with so many numbers. */
export class Other extends OfBucket<Numbers> {
  readonly words: Numbers
  readonly answers: number

  constructor(bucket: RedisBucket, operation: OtherOperation, words: Numbers, deadline: number) {
    super(bucket, operation, deadline)
    this.words = words
    this.answers = answerLength[operation]
  }
}

/** About one bucket. */
export type SingleRequest = Reserve | Other

export type Request = SingleRequest | JointReserve

export const bucketsOf = (request: Request): ReadonlyArray<RedisBucket> =>
  request instanceof JointReserve ? request.parts.map(({ bucket }) => bucket) : [request.bucket]

/** There is no answer. */
export const fail = (request: Request, { reason, cause }: Trouble): void => {
  const name = bucketsOf(request)
    .map(({ name }) => name)
    .join(" + ")
  request.answer(Exit.fail(new BackendError({ operation: request.operation, name, reason, cause })))
}
