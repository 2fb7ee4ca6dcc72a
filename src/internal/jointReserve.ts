/**
 * A request to several token buckets in Redis, as the script is told it and answers it.
 */
import { type JointOutcome, maxSpan, type Reservation } from "./bucket.ts"
import type { JointAnswer } from "./bucketLimiter.ts"
import { Asked } from "./lane.ts"
import type { TokenBucketReply } from "./redisScripts.ts"

/** A bucket in Redis. */
export interface RedisBucket {
  readonly name: string
  readonly key: string
  readonly rules: string
}

/** What the request needs of one bucket. */
export interface RedisPart {
  readonly bucket: RedisBucket
  readonly amount: number
  readonly mayWait: boolean
}

/** Answered by the outcome, and which of the buckets were known with other rules. */
export class JointReserve extends Asked<JointAnswer> {
  readonly operation = "reserve"
  readonly parts: ReadonlyArray<RedisPart>
  /** Not before this moment of the monotonic clock. */
  private readonly earliest: number
  private readonly maxWait: number

  constructor(
    parts: ReadonlyArray<RedisPart>,
    earliest: number,
    maxWait: number,
    deadline: number,
    undo: (answer: JointAnswer) => void
  ) {
    super(deadline, undo)
    this.parts = parts
    this.earliest = earliest
    this.maxWait = maxWait
  }

  isLike(other: JointReserve | undefined): boolean {
    if (other?.maxWait !== this.maxWait) return false
    if (other.parts === this.parts) return true
    return (
      other.parts.length === this.parts.length &&
      other.parts.every(({ bucket, amount, mayWait }, index) => {
        const part = this.parts[index]
        return part?.bucket.key === bucket.key && part.amount === amount && part.mayWait === mayWait
      })
    )
  }

  /**
   * How long to wait at least, and at most: this to the millisecond, so that those who came together ask alike.
   */
  waitsFrom(now: number): readonly [minWait: number, maxWait: number] {
    const left = Math.max(0, Math.ceil((this.deadline - now) / 1000) * 1000)
    const maxWait = this.maxWait === maxSpan ? maxSpan : Math.min(this.maxWait, left)
    return [Math.max(0, this.earliest - now), maxWait]
  }
}

/** Reads the answers to requests, of which so many in a row are alike; undefined where a key answered with an error. */
export const readJoint = (
  { number }: TokenBucketReply,
  elapsed: number
): ((request: JointReserve) => JointOutcome | undefined) => {
  let [alike, code, value, place] = [0, 0, 0, 0]
  let reservations: ReadonlyArray<Reservation> = []
  const read = (amount: number): Reservation => {
    const [serial, beforeSerial, beforeGap, taken] = [number(), number(), number(), number()]
    const [level, ahead] = [number(), number()]
    const reservation = { amount, serial, beforeSerial, beforeGap, taken }
    return ahead < 0 ? reservation : { ...reservation, before: { level, ahead } }
  }
  const next = (one: Reservation): Reservation => ({
    ...one,
    serial: one.serial + 1,
    taken: one.taken + one.amount
  })
  return ({ parts }) => {
    if (alike === 0) {
      ;[alike, code, value, place] = [number(), number(), number(), number()]
      if (code === 0) reservations = parts.map(({ amount }) => read(amount))
    } else if (code === 0) reservations = reservations.map(next)
    alike--
    if (code === 1) return { _tag: "TooLong", wait: value, part: place - 1 }
    if (code === 2) return { _tag: "Empty", available: value, part: place - 1 }
    return code === 3 ? undefined : { _tag: "Reserved", wait: Math.max(0, value - elapsed), reservations }
  }
}

/** Requests as arguments of the script, for buckets that have these places in the call; equal ones in a row are one. */
export const jointWords = (
  requests: ReadonlyArray<JointReserve>,
  now: number,
  places: ReadonlyMap<string, number>
): ReadonlyArray<number> => {
  const words: Array<number> = []
  let last: JointReserve | undefined
  let row = 0
  for (const request of requests) {
    const [minWait, maxWait] = request.waitsFrom(now)
    if (request.isLike(last) && words[row] === minWait && words[row + 1] === maxWait) {
      words[row + 2] = (words[row + 2] ?? 0) + 1
      continue
    }
    row = words.length
    words.push(minWait, maxWait, 1, request.parts.length)
    for (const { bucket, amount, mayWait } of request.parts) {
      words.push(places.get(bucket.key) ?? 0, amount, mayWait ? 1 : 0)
    }
    last = request
  }
  return words
}
