/**
 * A token bucket under the decisions of `src/internal/bucket.ts`, in seconds and tokens, with its whole history.
 */
import { Result } from "effect"
import * as Bucket from "../../src/internal/bucket.ts"
import { bucketConfig } from "../../src/internal/options.ts"
import type { TokenBucketOptions } from "../../src/TokenBucket.ts"

/** The simulation begins in the middle of a day, so that windows of whole minutes are where they should be. */
const epoch = Date.UTC(2026, 0, 1, 12) * 1000

const second = 1_000_000

/** How finely the history is sampled, in seconds. */
const step = 0.01

const toMillisecond = (time: number): number => Math.round(time * 1000) / 1000

/** A request, and what the bucket said to it. */
export interface Decision {
  readonly came: number
  /** Undefined if it was refused. */
  readonly starts: number | undefined
  readonly requiredSleep: number
  readonly reservation: Bucket.Reservation | undefined
}

type Point = readonly [time: number, value: number]

export class Simulation {
  private readonly rules: Bucket.Rules
  private readonly maxWait: number
  private readonly isSmooth: boolean
  private state: Bucket.State | undefined
  private now = 0
  private readonly levels: Array<Point> = []
  private readonly available: Array<Point> = []

  constructor(options: Omit<TokenBucketOptions, "name">) {
    const { rules, maxSleep } = Result.getOrThrow(bucketConfig({ name: "picture", ...options }, epoch / 1000))
    this.rules = rules
    this.maxWait = maxSleep
    this.isSmooth = options.refill === "continuous"
    this.record()
  }

  private at(time: number): Bucket.State {
    return Bucket.load(this.state, this.rules, epoch + Math.round(time * second)).state
  }

  private record(): void {
    const state = this.at(this.now)
    this.levels.push([this.now, state.level / Bucket.unitsPerToken])
    this.available.push([this.now, Bucket.look(state, 0).available / Bucket.unitsPerToken])
  }

  /** Lets time pass. */
  advance(until: number): this {
    while (this.now < toMillisecond(until)) {
      this.now = toMillisecond(Math.min(until, this.now + step))
      if (!this.isSmooth) this.repeat()
      this.record()
    }
    return this
  }

  /** Until now all was as before: what comes at once shows as a step, not as a slope. */
  private repeat(): void {
    for (const history of [this.levels, this.available]) {
      const [, value] = history.at(-1) ?? [0, 0]
      history.push([this.now, value])
    }
  }

  private change(state: Bucket.State): void {
    this.state = state
    this.record()
  }

  /** Asks for tokens now. */
  request(tokens = 1): Decision {
    const { state, outcome } = Bucket.reserve(this.at(this.now), tokens * Bucket.unitsPerToken, this.maxWait)
    this.change(state)
    const came = this.now
    if (outcome._tag === "Empty") return { came, starts: undefined, requiredSleep: Infinity, reservation: undefined }
    const wait = outcome.wait / second
    return outcome._tag === "Reserved"
      ? { came, starts: toMillisecond(came + wait), requiredSleep: wait, reservation: outcome.reservation }
      : { came, starts: undefined, requiredSleep: wait, reservation: undefined }
  }

  /** Corrects what a request took to what it really cost. */
  settle({ reservation }: Decision, actual: number): void {
    if (reservation === undefined) throw new Error("There is nothing to settle of a request that was refused.")
    const difference = reservation.amount - actual * Bucket.unitsPerToken
    const state = this.at(this.now)
    this.change(
      difference >= 0 ? Bucket.giveBack(state, reservation, difference).state : Bucket.charge(state, -difference)
    )
  }

  pause(seconds: number): void {
    this.change(Bucket.pause(this.at(this.now), seconds * second))
  }

  /** Tokens in the bucket less what is promised, over time. */
  get levelHistory(): ReadonlyArray<Point> {
    return corners(this.levels)
  }

  /** Tokens that could be taken at once, over time. */
  get availableHistory(): ReadonlyArray<Point> {
    return corners(this.available)
  }
}

/** Only the points where a line begins, ends or turns. */
const corners = (points: ReadonlyArray<Point>): ReadonlyArray<Point> =>
  points
    .filter(([time, value], index) => time !== points[index - 1]?.[0] || value !== points[index - 1]?.[1])
    .filter(([time, value], index, points) => {
      const before = points[index - 1]
      const after = points[index + 1]
      if (before === undefined || after === undefined) return true
      const turn = (value - before[1]) * (after[0] - time) - (after[1] - value) * (time - before[0])
      const isTip = (value - before[1]) * (after[1] - value) < 0
      return Math.abs(turn) > 1e-6 || isTip
    })
