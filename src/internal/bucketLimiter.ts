/**
 * The verbs of a token bucket over any store: reserve, wait, run, and give back what was not used.
 */
import type * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { type BackendError, type InvalidOptions, MaxSleepExceeded, NoTokensAvailable } from "../Errors.ts"
import type {
  Reservation as PublicReservation,
  TokenBucketError,
  TokenBucketLimiter,
  TokenBucketPermit,
  TokenBucketState
} from "../TokenBucket.ts"
import type { AwayState } from "../WhenAway.ts"
import { fillTime, type JointOutcome, maxSpan, type Outcome, type Reservation, type View } from "./bucket.ts"
import type { BucketWaiters, Promised, Restore } from "./bucketWaiters.ts"
import { type Claim, claiming } from "./claim.ts"
import { limiterIdentity } from "./limiterKeys.ts"
import { member } from "./memberLimiter.ts"
import { actualArgument, type BucketConfig, durationArgument, durationOf, tokensArgument, tokensOf } from "./options.ts"
import { fiberMicros } from "./time.ts"
import { wrapWith } from "./wrapWith.ts"

/** A store's answer to a request, and whether it knew the bucket with other options. */
export interface Answer {
  readonly outcome: Outcome
  readonly disagreed: boolean
}

/** What one request needs of one of several buckets. */
export interface JointPart {
  readonly config: BucketConfig
  /** Tells it from all other buckets of its layer. */
  readonly identity: string
  readonly amount: number
  /** Whether the request may wait because of this one, and not only because of others. */
  readonly mayWait: boolean
}

/** The answer to a request to several buckets, and which of them were known with other options. */
export interface JointAnswer {
  readonly outcome: JointOutcome
  readonly disagreed: ReadonlyArray<boolean>
}

/** Where buckets live together that are decided about in one step. */
export interface BucketHome {
  /** As `BucketStore.takeNow`, of several buckets: of all or of none. */
  readonly takeNow?: (parts: ReadonlyArray<JointPart>, clock: Clock.Clock) => boolean
  /**
   * Decides about a request to several buckets, all of which have this home, and goes on with the answer. Runs in an
   * uninterruptible region, and makes interruptible with `restore` what takes long; a request that is interrupted there
   * consumes nothing.
   */
  readonly reserve: <A, E, R>(
    parts: ReadonlyArray<JointPart>,
    minWait: number,
    maxWait: number,
    restore: Restore,
    onAnswer: (answer: JointAnswer) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | BackendError, R>
}

/** Where one bucket lives. */
export interface BucketStore {
  readonly home: BucketHome
  /**
   * Takes tokens that are there this instant, where the store can tell without asking anybody. Nobody gives them back,
   * so that work can begin in the same step.
   */
  readonly takeNow?: (amount: number, clock: Clock.Clock) => boolean
  /**
   * Decides about a request, and goes on with the answer in the same step. Until then, if that takes any longer, the
   * claim holds what comes of it.
   */
  readonly reserve: <A, E, R>(
    amount: number,
    maxWait: number,
    claim: Claim,
    onAnswer: (answer: Answer) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | BackendError, R>
  /**
   * Never fails and doesn't take long: a store that is away is told later. To be called in a fiber, in the very step in
   * which it becomes clear that nobody needs the tokens, so that nobody asks in between.
   */
  readonly giveBack: (reservation: Reservation, amount: number) => void
  readonly settle: (reservation: Reservation, actual: number) => Effect.Effect<void, BackendError>
  /** Holds off, for so many microseconds, all who ask from then on. */
  readonly pause: (duration: number) => Effect.Effect<void, BackendError>
  readonly look: (amount: number) => Effect.Effect<View, BackendError>
  /** Whether its backend is away, and it decides without; never for one that then fails. */
  readonly isAway?: () => boolean
  /** What it does without its backend, while that is away. */
  readonly away?: () => AwayState | undefined
  readonly reset: Effect.Effect<void, BackendError>
}

/** What makes up a bucket's part in a limiter of several. */
export interface BucketMember {
  readonly kind: "TokenBucket"
  readonly config: BucketConfig
  /** Tells it from all other buckets of its layer. */
  readonly identity: string
  readonly store: BucketStore
  readonly waiters: BucketWaiters
  /** Tells that it is used with other options elsewhere. */
  readonly disagreement: Effect.Effect<void>
  /** Checks a number of tokens, and gives units. */
  readonly units: (n: number) => Result.Result<number, InvalidOptions>
  readonly permitOf: (reservation: Reservation, waited: number) => TokenBucketPermit
}

/** What was reserved, once its moment has come. */
interface Admission {
  readonly reservation: Reservation
  readonly waited: number
}

/** What a waiter was promised. */
class PromisedTokens implements Promised {
  readonly due: number
  readonly reservation: Reservation
  private readonly store: BucketStore

  constructor(due: number, reservation: Reservation, store: BucketStore) {
    this.due = due
    this.reservation = reservation
    this.store = store
  }

  giveBack(): void {
    this.store.giveBack(this.reservation, this.reservation.amount)
  }

  reservationIn(): Reservation {
    return this.reservation
  }
}

export const nothing: Reservation = { amount: 0, serial: 0, beforeSerial: 0, beforeGap: 0, taken: 0 }

const free: Admission = { reservation: nothing, waited: 0 }

/**
 * To be run each time that a request finds a bucket used with other options than its own: logs the first, and tells
 * `onDisagreed` of all.
 */
export const disagreementOf = (name: string, onDisagreed = () => {}): Effect.Effect<void> => {
  let warned = false
  return Effect.suspend(() => {
    onDisagreed()
    if (warned) return Effect.void
    warned = true
    return Effect.logWarning(
      `Token bucket "${name}" is used with different options elsewhere: those of the latest call hold`
    )
  })
}

/** What a limiter's state says of an absence of its backend, if there is one. */
const awayField = ({ away }: Pick<BucketStore, "away">): { readonly away?: AwayState } => {
  const state = away?.()
  return state === undefined ? {} : { away: state }
}

export const makeBucketLimiter = (
  config: BucketConfig,
  store: BucketStore,
  waiters: BucketWaiters,
  disagreement: Effect.Effect<void> = disagreementOf(config.name)
): TokenBucketLimiter & { readonly [member]: BucketMember } => {
  const { name, maxSleep } = config
  const identity = limiterIdentity("TokenBucket", config)
  const buckets = [identity]
  const { capacity } = config.rules
  const tooLong = (wait: number) =>
    new MaxSleepExceeded({
      name,
      kind: "TokenBucket",
      maxSleep: durationOf(maxSleep),
      requiredSleep: durationOf(wait)
    })

  const refusal = (outcome: Exclude<Outcome, { readonly _tag: "Reserved" }>, amount: number) =>
    outcome._tag === "TooLong"
      ? tooLong(outcome.wait)
      : new NoTokensAvailable({ name, available: tokensOf(outcome.available), requested: tokensOf(amount) })

  const giveBackAll = (reservation: Reservation): void => store.giveBack(reservation, reservation.amount)

  // Continuations instead of flatMaps: this is the path of every request.
  const request = <A, E, R>(
    amount: number,
    maxWait: number,
    claim: Claim,
    onOutcome: (outcome: Outcome) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BackendError, R> =>
    store.reserve(amount, maxWait, claim, ({ outcome, disagreed }) => {
      if (!disagreed) return onOutcome(outcome)
      if (outcome._tag === "Reserved") claim.hold({ abandon: () => giveBackAll(outcome.reservation) })
      return Effect.flatMap(disagreement, () => onOutcome(outcome))
    })

  const admit = <A, E, R>(
    amount: number,
    maxWait: number,
    claim: Claim,
    onAdmitted: (admission: Admission) => Effect.Effect<A, E, R>,
    waitedBefore = 0
  ): Effect.Effect<A, E | TokenBucketError, R> => {
    if (amount === 0) return onAdmitted(free)
    // What an answer takes is waited for as well: whoever has to ask anew has so much less time.
    const begun = fiberMicros(Fiber.getCurrent() as Fiber.Fiber<unknown>)
    return request(amount, maxWait, claim, (outcome): Effect.Effect<A, E | TokenBucketError, R> => {
      if (outcome._tag !== "Reserved") return Effect.fail(refusal(outcome, amount))
      const { reservation, wait } = outcome
      if (wait === 0) return onAdmitted({ reservation, waited: waitedBefore })
      const fiber = Fiber.getCurrent() as Fiber.Fiber<unknown>
      const promised = new PromisedTokens(fiberMicros(fiber) + wait, reservation, store)
      const place = waiters.enter(fiber, buckets, amount, promised)
      claim.hold(place)
      return Effect.flatMap(place.served, (served) => {
        const waited = fiberMicros(fiber) - begun
        if (served !== undefined) {
          return onAdmitted({ reservation: served.reservation, waited: waitedBefore + waited })
        }
        const left = maxWait === maxSpan ? maxSpan : maxWait - waited
        if (left <= 0) return Effect.fail(tooLong(waitedBefore + waited))
        return admit(amount, left, claim, onAdmitted, waitedBefore + waited)
      })
    })
  }

  const { takeNow } = store

  const guard =
    (amount: number) =>
    <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | TokenBucketError, R> => {
      if (amount === 0) return effect
      const admitted = claiming((claim) =>
        admit(amount, maxSleep, claim, () => {
          claim.use()
          return effect
        })
      )
      if (takeNow === undefined) return admitted
      return Effect.clockWith((clock) => (takeNow(amount, clock) ? effect : admitted))
    }

  /** What becomes of a reservation is decided once: by whoever of `cancel` and `settle` comes first. */
  const onceFor = (reservation: Reservation) => {
    let isDecided = false
    const once = <E>(decide: Effect.Effect<void, E>): Effect.Effect<void, E> =>
      Effect.suspend(() => {
        if (isDecided) return Effect.void
        isDecided = true
        return decide
      })
    return {
      cancel: once(Effect.sync(() => giveBackAll(reservation))),
      settle: (actual: number): Effect.Effect<void, InvalidOptions | BackendError> =>
        Effect.flatMap(Effect.fromResult(actualArgument(name, actual)), (units) =>
          once(store.settle(reservation, units))
        )
    }
  }

  const permitOf = (reservation: Reservation, waited: number): TokenBucketPermit => ({
    name,
    tokens: tokensOf(reservation.amount),
    waited: durationOf(waited),
    settle: onceFor(reservation).settle
  })

  const reservationOf = (reservation: Reservation, wait: number): PublicReservation => ({
    name,
    tokens: tokensOf(reservation.amount),
    delay: durationOf(wait),
    ...onceFor(reservation)
  })

  const checkedUnits = (n: number) => tokensArgument(name, n, capacity)

  const units = (n: number) => Effect.fromResult(checkedUnits(n))

  const unitsOrDefault = (n: number | undefined): Effect.Effect<number, InvalidOptions> =>
    n === undefined ? Effect.succeed(config.tokensToConsume) : units(n)

  const acquire = (n?: number): Effect.Effect<TokenBucketPermit, TokenBucketError | InvalidOptions, Scope.Scope> =>
    Effect.flatMap(Effect.andThen(Effect.scope, unitsOrDefault(n)), (amount) =>
      claiming((claim) =>
        admit(amount, maxSleep, claim, ({ reservation, waited }) => {
          claim.use()
          return Effect.succeed(permitOf(reservation, waited))
        })
      )
    )

  const reserve = (n?: number): Effect.Effect<PublicReservation, TokenBucketError | InvalidOptions> =>
    Effect.flatMap(unitsOrDefault(n), (amount) =>
      amount === 0
        ? Effect.succeed(reservationOf(nothing, 0))
        : claiming((claim) =>
            request(amount, maxSleep, claim, (outcome): Effect.Effect<PublicReservation, TokenBucketError> => {
              if (outcome._tag !== "Reserved") return Effect.fail(refusal(outcome, amount))
              claim.use()
              return Effect.succeed(reservationOf(outcome.reservation, outcome.wait))
            })
          )
    )

  const look = (amount: number): Effect.Effect<TokenBucketState, BackendError> =>
    Effect.map(store.look(amount), ({ available, wait, nextToken }) => ({
      tokens: tokensOf(available),
      capacity: tokensOf(capacity),
      wait: durationOf(wait),
      nextToken: durationOf(nextToken),
      fillTime: durationOf(fillTime(config.rules)),
      ...awayField(store)
    }))

  // Those who wait in this process can be asked to wait longer. Before the pause their promises go back, the latest
  // first, so that nothing of them is lost; behind it they ask anew, so that no answer of the store holds them up.
  const pause = (duration: Duration.Input): Effect.Effect<void, InvalidOptions | BackendError> =>
    Effect.flatMap(Effect.fromResult(durationArgument(name, "duration", duration)), (micros) =>
      micros === 0
        ? Effect.void
        : Effect.uninterruptibleMask((restore) =>
            Effect.suspend(() => {
              const { promises, askAnew } = waiters.recall(identity)
              for (const promised of promises.toReversed()) promised.giveBack()
              return Effect.forkChild(store.pause(micros), { startImmediately: true }).pipe(
                Effect.tap(Effect.sync(askAnew)),
                Effect.flatMap((paused) => restore(Fiber.join(paused)))
              )
            })
          )
    )

  const withPermit = guard(config.tokensToConsume)

  return {
    [member]: { kind: "TokenBucket", config, identity, store, waiters, disagreement, units: checkedUnits, permitOf },
    kind: "TokenBucket",
    name,
    maxSleep: durationOf(maxSleep),
    withPermit,
    withPermits: (n) => {
      const amount = units(n)
      return (effect) => Effect.flatMap(amount, (amount) => guard(amount)(effect))
    },
    withPermitsIfAvailable: (n) => {
      const amount = units(n)
      return <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.flatMap(amount, (amount) =>
          amount === 0
            ? Effect.asSome(effect)
            : claiming((claim) =>
                request(amount, 0, claim, (outcome) => {
                  if (outcome._tag !== "Reserved") return Effect.succeedNone
                  claim.use()
                  return Effect.asSome(effect)
                })
              )
        )
    },
    acquire,
    reserve,
    pause,
    wrap: wrapWith<TokenBucketError>(name, withPermit),
    state: look(config.tokensToConsume),
    stateFor: (n) => Effect.flatMap(units(n), look),
    reset: store.reset
  }
}
