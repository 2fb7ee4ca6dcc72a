/**
 * What decides about a token bucket while Redis is away.
 */
import type { Outcome, Reservation, Rules, State, View } from "./bucket.ts"
import * as Bucket from "./bucket.ts"
import type { BucketConfig } from "./options.ts"

/** Decides for as long as Redis is away once. Times are monotonic microseconds. */
export interface BucketStandIn {
  /** Tokens that were given, in units. */
  readonly admitted: number
  readonly reserve: (amount: number, maxWait: number, now: number) => Outcome
  readonly giveBack: (reservation: Reservation, amount: number, now: number) => void
  readonly charge: (amount: number, now: number) => void
  readonly pause: (duration: number, now: number) => void
  readonly look: (amount: number, now: number) => View
  /** What Redis has to be charged when it is back. */
  readonly owed: (now: number) => number
  /** For how long a pause goes on. */
  readonly pausedFor: (now: number) => number
}

/** A reservation that Redis knows nothing of. */
export interface StandInReservation extends Reservation {
  readonly standIn: BucketStandIn
}

export const isStandInReservation = (reservation: Reservation): reservation is StandInReservation =>
  "standIn" in reservation

/** Lets everything through, and counts. */
export class Unlimited implements BucketStandIn {
  admitted = 0
  private readonly capacity: number
  private pausedUntil = 0

  constructor({ rules }: BucketConfig) {
    this.capacity = rules.capacity
  }

  reserve(amount: number): Outcome {
    this.admitted += amount
    const reservation: StandInReservation = { ...nothing, amount, standIn: this }
    return { _tag: "Reserved", wait: 0, reservation }
  }

  giveBack(_reservation: Reservation, amount: number): void {
    this.admitted -= amount
  }

  charge(amount: number): void {
    this.admitted += amount
  }

  /** Nobody waits for it here, but Redis is told. */
  pause(duration: number, now: number): void {
    this.pausedUntil = Math.max(this.pausedUntil, now + duration)
  }

  look(): View {
    return { available: this.capacity, wait: 0, nextToken: Number.POSITIVE_INFINITY }
  }

  owed(): number {
    return 0
  }

  pausedFor(now: number): number {
    return Math.max(0, this.pausedUntil - now)
  }
}

const nothing: Reservation = { amount: 0, serial: 0, beforeSerial: 0, beforeGap: 0, taken: 0 }

/** So many units at once refill a share: few enough to come evenly, and enough for their rate to be exact. */
const finestRefill = 1_000

/** No more often than every millisecond. */
const shortestInterval = 1_000

/**
 * The bucket of a process that has a share of one. It begins empty, and fills evenly. It holds a request at least: a
 * share of the capacity may be less.
 */
export const shareOf = (
  { rules, tokensToConsume }: Pick<BucketConfig, "rules" | "tokensToConsume">,
  share: number
): Rules => {
  const capacity = Math.max(1, tokensToConsume, Math.floor(rules.capacity * share))
  const perMicrosecond = (rules.amount / rules.interval) * share
  const refill = Math.min(finestRefill, capacity)
  const interval = Math.min(Bucket.maxSpan, Math.max(shortestInterval, Math.ceil(refill / perMicrosecond)))
  return {
    capacity,
    amount: Math.max(1, Math.min(capacity, Math.floor(perMicrosecond * interval))),
    interval,
    origin: -1,
    initial: 0,
    expiry: Bucket.maxSpan
  }
}

/**
 * A share of the bucket. It begins empty when Redis was last there, in debt by what this process was promised there, and
 * what was taken from it is owed to Redis as far as it has not been earned anew.
 */
export class Share implements BucketStandIn {
  admitted = 0
  private readonly rules: Rules
  private state: State
  private pausedUntil = 0

  constructor(config: BucketConfig, share: number, since: number, promised: number) {
    this.rules = shareOf(config, share)
    this.state = Bucket.charge(Bucket.load(undefined, this.rules, since).state, promised)
  }

  private at(now: number): State {
    this.state = Bucket.load(this.state, this.rules, now).state
    return this.state
  }

  reserve(amount: number, maxWait: number, now: number): Outcome {
    const { state, outcome } = Bucket.reserve(this.at(now), amount, maxWait)
    this.state = state
    if (outcome._tag !== "Reserved") return outcome
    this.admitted += amount
    const reservation: StandInReservation = { ...outcome.reservation, standIn: this }
    return { ...outcome, reservation }
  }

  giveBack(reservation: Reservation, amount: number, now: number): void {
    const { state, returned } = Bucket.giveBack(this.at(now), reservation, amount)
    this.state = state
    this.admitted -= returned
  }

  charge(amount: number, now: number): void {
    this.state = Bucket.charge(this.at(now), amount)
    this.admitted += amount
  }

  pause(duration: number, now: number): void {
    this.pausedUntil = Math.max(this.pausedUntil, now + duration)
    this.state = Bucket.pause(this.at(now), duration)
  }

  look(amount: number, now: number): View {
    return Bucket.look(this.at(now), amount)
  }

  /**
   * What was taken, but no more than what is missing from a full share: the rest has refilled here while the same
   * refilled at Redis.
   */
  owed(now: number): number {
    return Math.max(0, Math.min(this.admitted, this.rules.capacity - this.at(now).level))
  }

  pausedFor(now: number): number {
    return Math.max(0, this.pausedUntil - now)
  }
}
