/**
 * A moment that several token buckets promise together.
 *
 * Buckets of one home decide in one step. Homes are asked one after the other, and give back what they promised if one
 * of them refuses; those who promised a sooner moment than others are asked once more.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { BackendError } from "../Errors.ts"
import type { JointOutcome, Reservation } from "./bucket.ts"
import { type BucketHome, type BucketMember, type JointPart, nothing } from "./bucketLimiter.ts"
import type { Promised, Restore } from "./bucketWaiters.ts"
import { currentClock, currentMicros, monotonicMicros, until } from "./time.ts"

/** Where others come in between, homes may not come to promise one moment; they are not asked anew more often. */
const mostRounds = 3

/** What work takes of one bucket. */
export interface BucketPart extends JointPart {
  readonly member: BucketMember
}

/** Tokens of several buckets, to be had at one moment. */
export class JointPromise implements Promised {
  readonly due: number
  readonly parts: ReadonlyArray<BucketPart>
  /** One for each part. */
  private readonly reservations: ReadonlyArray<Reservation>

  constructor(due: number, parts: ReadonlyArray<BucketPart>, reservations: ReadonlyArray<Reservation>) {
    this.due = due
    this.parts = parts
    this.reservations = reservations
  }

  giveBack(): void {
    for (const [index, { member, amount }] of this.parts.entries()) {
      member.store.giveBack(this.reservations[index] ?? nothing, amount)
    }
  }

  reservationIn(bucket: string): Reservation {
    return this.reservations[this.parts.findIndex(({ identity }) => identity === bucket)] ?? nothing
  }

  and(other: JointPromise): JointPromise {
    const reservations = [...this.reservations, ...other.reservations]
    return new JointPromise(Math.max(this.due, other.due), [...this.parts, ...other.parts], reservations)
  }
}

/** Nothing, at once. */
const noTokens: JointPromise = new JointPromise(0, [], [])

/** Why there is no promise. */
export interface JointRefusal {
  readonly outcome: Exclude<JointOutcome, { readonly _tag: "Reserved" }>
  /** Those that were asked; the outcome tells which of them refuses. */
  readonly parts: ReadonlyArray<BucketPart>
}

/** What work takes of buckets that are decided about in one step. */
export interface HomeParts {
  readonly home: BucketHome
  readonly parts: ReadonlyArray<BucketPart>
}

/** In how long a bucket under load has what work takes of it. */
const pace = ({ config: { rules }, amount }: BucketPart): number =>
  rules.amount === 0 ? Number.POSITIVE_INFINITY : (amount * rules.interval) / rules.amount

/**
 * The slowest first, for it mostly is the one that knows when work can run; but last those that nobody may wait for, to
 * be asked when the others have told how long there is to wait anyway.
 */
export const homesOf = (parts: ReadonlyArray<BucketPart>): ReadonlyArray<HomeParts> => {
  const homes = new Map<BucketHome, Array<BucketPart>>()
  const sorted = [...parts].sort((one, other) => Number(other.mayWait) - Number(one.mayWait) || pace(other) - pace(one))
  for (const part of sorted) {
    const { home } = part.member.store
    const others = homes.get(home)
    if (others === undefined) homes.set(home, [part])
    else others.push(part)
  }
  return Array.from(homes, ([home, parts]) => ({ home, parts }))
}

type JointAnswer = JointPromise | JointRefusal

const askHome = <A, E, R>(
  { home, parts }: HomeParts,
  minWait: number,
  maxWait: number,
  restore: Restore,
  onAnswer: (answer: JointAnswer) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | BackendError, R> =>
  home.reserve(parts, minWait, maxWait, restore, ({ outcome, disagreed }) => {
    const answer =
      outcome._tag === "Reserved"
        ? new JointPromise(monotonicMicros(currentClock()) + outcome.wait, parts, outcome.reservations)
        : { outcome, parts }
    const disagreements = parts.filter((_, index) => disagreed[index]).map(({ member }) => member.disagreement)
    return disagreements.length === 0
      ? onAnswer(answer)
      : Effect.andThen(
          Effect.all(disagreements),
          Effect.suspend(() => onAnswer(answer))
        )
  })

/** Asks homes one after the other, each for no sooner than the one before, and takes nothing if one of them refuses. */
const askHomes = Effect.fnUntraced(function* (
  homes: ReadonlyArray<HomeParts>,
  deadline: number,
  restore: Restore
): Effect.fn.Return<JointAnswer, BackendError> {
  const promises: Array<JointPromise> = []
  let due = 0
  /** When some home will surely not be ready before. An answer tells how long to wait, but not since when. */
  let soonest = 0
  const ask = Effect.fnUntraced(function* (home: HomeParts) {
    const now = yield* currentMicros
    const asked = askHome(home, Math.max(0, due - now), yield* until(deadline), restore, Effect.succeed)
    const answer = yield* Effect.onExitPrimitive(asked, (exit) => {
      if (Exit.isSuccess(exit) && exit.value instanceof JointPromise) return undefined
      for (const promise of promises.toReversed()) promise.giveBack()
      return undefined
    })
    if (answer instanceof JointPromise) {
      due = Math.max(due, answer.due)
      soonest = Math.max(soonest, answer.due + now - (yield* currentMicros))
    }
    return answer
  })
  for (const home of homes) {
    const answer = yield* ask(home)
    if (!(answer instanceof JointPromise)) return answer
    promises.push(answer)
  }
  // Those who promised a sooner moment would count their tokens as taken before they are.
  for (let round = 0; round < mostRounds; round++) {
    for (const [index, home] of homes.entries()) {
      const promise = promises[index]
      if (promise === undefined || promise.due >= soonest) continue
      promises[index] = noTokens
      promise.giveBack()
      const answer = yield* ask(home)
      if (!(answer instanceof JointPromise)) return answer
      promises[index] = answer
    }
  }
  return promises.reduce((one, other) => one.and(other))
})

/**
 * Asks for tokens of several buckets at one moment, until `deadline` at the latest, and goes on with the answer. Runs in
 * an uninterruptible region, and makes interruptible with `restore` what takes long; a request that is interrupted there
 * consumes nothing.
 */
export const promiseTogether = <A, E, R>(
  homes: ReadonlyArray<HomeParts>,
  deadline: number,
  restore: Restore,
  onAnswer: (answer: JointAnswer) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | BackendError, R> => {
  const [home, ...others] = homes
  if (home === undefined) return onAnswer(noTokens)
  return others.length === 0
    ? Effect.flatMap(until(deadline), (maxWait) => askHome(home, 0, maxWait, restore, onAnswer))
    : Effect.flatMap(askHomes(homes, deadline, restore), onAnswer)
}
