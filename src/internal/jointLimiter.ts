/**
 * The verbs of several limiters as one: token buckets promise a common moment, semaphores are taken when it has come,
 * and what can't be had leaves everything as it was.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { type BackendError, InvalidOptions, MaxSleepExceeded, NoTokensAvailable, type PermitLost } from "../Errors.ts"
import type { AnyLimiter, JointLimiter, JointMember, LimiterError } from "../Limiter.ts"
import type { SemaphoreState } from "../Semaphore.ts"
import type { TokenBucketState } from "../TokenBucket.ts"
import { maxSpan } from "./bucket.ts"
import { BucketWaiters, type Restore } from "./bucketWaiters.ts"
import {
  type BucketPart,
  type HomeParts,
  homesOf,
  JointPromise,
  type JointRefusal,
  promiseTogether
} from "./jointPromise.ts"
import { type Member, memberOf } from "./memberLimiter.ts"
import { durationOf, invalidPermits, isRecord, type JointMemberConfig, jointMemberConfig, tokensOf } from "./options.ts"
import type { Grant, SemaphoreMember } from "./semaphoreLimiter.ts"
import { fiberMicros, monotonicMicros, until } from "./time.ts"
import { watchedOf } from "./watchedLimiter.ts"
import { wrapWith } from "./wrapWith.ts"

/** What work takes of one semaphore. */
interface SemaphorePart {
  readonly member: SemaphoreMember
  readonly permits: number
  readonly mayWait: boolean
}

/** What work takes of each limiter. */
interface Need {
  readonly homes: ReadonlyArray<HomeParts>
  /** By name: if all take them in one order, no two wait for each other. */
  readonly semaphores: ReadonlyArray<SemaphorePart>
}

type Held = readonly [member: SemaphoreMember, grant: Grant]

/** What work has got. */
interface Admission {
  readonly promise: JointPromise
  readonly held: ReadonlyArray<Held>
  readonly waited: number
}

type Refused = MaxSleepExceeded | NoTokensAvailable

const isRefused = (error: unknown): error is Refused =>
  error instanceof MaxSleepExceeded || error instanceof NoTokensAvailable

const isSame = (one: Member, other: Member): boolean =>
  one.kind === other.kind && one.identity === other.identity && one.store.home === other.store.home

const invalidMember = (value: unknown, rule: string): InvalidOptions => {
  const name = typeof value === "string" ? value : ""
  return new InvalidOptions({ name, field: "limiters", value, rule })
}

interface Entry {
  readonly limiter: AnyLimiter
  readonly member: Member
  /** Undefined: as many as its own `withPermit` takes. */
  readonly permits: number | undefined
  readonly mayWait: boolean
}

const asItsOwn: JointMemberConfig = { permits: undefined, wait: true }

const entriesOf = (members: ReadonlyArray<JointMember>): ReadonlyArray<Entry> => {
  if (!Array.isArray(members)) throw invalidMember(members, "an array of limiters")
  const entries: Array<Entry> = []
  for (const one of members as ReadonlyArray<JointMember>) {
    const isSaid = isRecord(one) && "limiter" in one
    const limiter = isSaid ? one.limiter : one
    const member = isRecord(limiter) ? memberOf(limiter) : undefined
    if (member === undefined) throw invalidMember(limiter?.name ?? limiter, "a limiter that was made by a layer")
    if (entries.some((other) => isSame(other.member, member))) throw invalidMember(limiter.name, "named only once")
    const { permits, wait } = isSaid ? Result.getOrThrow(jointMemberConfig(limiter.name, one)) : asItsOwn
    entries.push({ limiter, member, permits, mayWait: wait })
  }
  return entries
}

const stateOf = ({ limiter }: Entry): Effect.Effect<TokenBucketState | SemaphoreState, BackendError> => limiter.state

const release = (held: ReadonlyArray<Held>): void => {
  for (const [{ store }, grant] of held) store.release(grant)
}

/** Runs work that ends when one of its permits is lost. Called in an uninterruptible region. */
const hold = <A, E, R>(
  [first, ...others]: ReadonlyArray<Held>,
  effect: Effect.Effect<A, E, R>,
  restore: Restore
): Effect.Effect<A, E | PermitLost, R> => {
  if (first === undefined) return restore(effect)
  const [member, grant] = first
  if (others.length === 0) return member.hold(grant, effect, restore)
  let begun = false
  const inner = Effect.uninterruptibleMask((restore) => {
    begun = true
    return hold(others, effect, restore)
  })
  return Effect.onExitPrimitive(member.hold(grant, inner, restore), () => {
    if (!begun) release(others)
    return undefined
  })
}

export const makeJointLimiter = <const Members extends ReadonlyArray<JointMember>>(
  members: Members
): JointLimiter<Members> => {
  type Joint = JointLimiter<ReadonlyArray<JointMember>>

  const entries = entriesOf(members)
  const name = entries.map(({ limiter }) => limiter.name).join(" + ")
  const maxSleep = Math.min(maxSpan, ...entries.map(({ member }) => member.config.maxSleep))
  const buckets = entries.flatMap(({ member }) => (member.kind === "TokenBucket" ? [member] : []))
  const isAtomic = new Set(buckets.map(({ store }) => store.home)).size <= 1
  // With waiters of other limiters of the same buckets they are interchangeable only where all buckets are of one home.
  const waiters = (isAtomic ? buckets[0]?.waiters : undefined) ?? new BucketWaiters()

  const needOf = (n: number): Result.Result<Need, InvalidOptions> => {
    // Whatever is multiplied becomes a number, of whose value nobody has said anything.
    if (typeof n !== "number") {
      return Result.fail(new InvalidOptions({ name, field: "permits", value: n, rule: "a number" }))
    }
    const buckets: Array<BucketPart> = []
    const semaphores: Array<SemaphorePart> = []
    for (const { member, permits, mayWait } of entries) {
      if (member.kind === "Semaphore") {
        const checked = member.permits(n * (permits ?? 1))
        if (Result.isFailure(checked)) return Result.fail(checked.failure)
        semaphores.push({ member, permits: checked.success, mayWait })
      } else {
        const { config, identity } = member
        const checked = member.units(n * (permits ?? tokensOf(config.tokensToConsume)))
        if (Result.isFailure(checked)) return Result.fail(checked.failure)
        if (checked.success > 0) buckets.push({ member, config, identity, amount: checked.success, mayWait })
      }
    }
    semaphores.sort((one, other) => (one.member.identity < other.member.identity ? -1 : 1))
    return Result.succeed({ homes: homesOf(buckets), semaphores })
  }

  const tooLong = ({ member, mayWait }: BucketPart | SemaphorePart, wait?: number) =>
    new MaxSleepExceeded({
      name: member.config.name,
      kind: member.kind,
      maxSleep: durationOf(mayWait ? maxSleep : 0),
      ...(wait === undefined ? {} : { requiredSleep: durationOf(wait) })
    })

  const refusal = ({ outcome, parts }: JointRefusal): Refused => {
    const part = parts[outcome.part] as BucketPart
    if (outcome._tag === "TooLong") return tooLong(part, outcome.wait)
    const [available, requested] = [tokensOf(outcome.available), tokensOf(part.amount)]
    return new NoTokensAvailable({ name: part.config.name, available, requested })
  }

  // Continuations: this is the path of every request, and the place in line has to be taken in the step in which the
  // promise is made.
  const takeTokens = <A, E, R>(
    homes: ReadonlyArray<HomeParts>,
    deadline: number,
    restore: Restore,
    onTaken: (promise: JointPromise) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BackendError | Refused, R> =>
    promiseTogether(homes, deadline, restore, (answer): Effect.Effect<A, E | BackendError | Refused, R> => {
      if (!(answer instanceof JointPromise)) return Effect.fail(refusal(answer))
      const fiber = Fiber.getCurrent() as Fiber.Fiber<unknown>
      if (answer.due <= fiberMicros(fiber)) return onTaken(answer)
      const identities = answer.parts.map(({ identity }) => identity)
      const cost = JSON.stringify(answer.parts.map(({ identity, amount }) => [identity, amount]))
      const place = waiters.enter(fiber, identities, cost, answer)
      const waited = Effect.onExitPrimitive(restore(place.served), (exit) => {
        if (Exit.isFailure(exit)) place.abandon()
        return undefined
      })
      // Otherwise one of the buckets was paused, and they have to be asked anew.
      return Effect.flatMap(waited, (served): Effect.Effect<A, E | BackendError | Refused, R> => {
        if (served !== undefined) return onTaken(served)
        return deadline <= fiberMicros(fiber)
          ? Effect.fail(tooLong(answer.parts[0] as BucketPart))
          : takeTokens(homes, deadline, restore, onTaken)
      })
    })

  const takePermits = (
    part: SemaphorePart,
    deadline: number,
    restore: Restore
  ): Effect.Effect<Grant, BackendError | InvalidOptions | Refused> => {
    const { permits, mayWait } = part
    const { store, config } = part.member
    return Effect.flatMap(until(deadline), (left) =>
      store.take(permits, mayWait ? left : 0, restore, (answer): Effect.Effect<Grant, InvalidOptions | Refused> => {
        if (!("_tag" in answer)) return Effect.succeed(answer)
        return Effect.fail(
          answer._tag === "TimeUp" ? tooLong(part) : invalidPermits(config.name, permits, answer.capacity)
        )
      })
    )
  }

  /** Goes on from the `at`th semaphore; those before it are held. */
  const takeAllPermits = <A, E, R>(
    semaphores: ReadonlyArray<SemaphorePart>,
    at: number,
    held: ReadonlyArray<Held>,
    promise: JointPromise,
    deadline: number,
    restore: Restore,
    onTaken: (held: ReadonlyArray<Held>) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BackendError | InvalidOptions | Refused, R> => {
    const part = semaphores[at]
    if (part === undefined) return onTaken(held)
    const { member, permits } = part
    const goOn = (grant: Grant) =>
      takeAllPermits(semaphores, at + 1, [...held, [member, grant]], promise, deadline, restore, onTaken)
    const free = member.store.takeNow?.(permits)
    if (free !== undefined) return goOn(free)
    const taken = Effect.onExitPrimitive(takePermits(part, deadline, restore), (exit) => {
      if (Exit.isSuccess(exit)) return undefined
      release(held)
      promise.giveBack()
      return undefined
    })
    return Effect.flatMap(taken, goOn)
  }

  /** Waits for everything, or fails and has nothing. Runs in an uninterruptible region. */
  const admit = <A, E, R>(
    { homes, semaphores }: Need,
    maxWait: number,
    restore: Restore,
    onAdmitted: (admission: Admission) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BackendError | InvalidOptions | Refused, R> =>
    Effect.clockWith((clock) => {
      const asked = monotonicMicros(clock)
      const deadline = maxWait === maxSpan ? Number.POSITIVE_INFINITY : asked + maxWait
      return takeTokens(homes, deadline, restore, (promise) =>
        takeAllPermits(semaphores, 0, [], promise, deadline, restore, (held) =>
          onAdmitted({ promise, held, waited: monotonicMicros(clock) - asked })
        )
      )
    })

  /** An interruption before the first step of the work finds tokens that nobody used, which go back. */
  const run = <A, E, R>({ promise, held }: Admission, effect: Effect.Effect<A, E, R>, restore: Restore) => {
    let started = false
    const work = Effect.suspend(() => {
      started = true
      return effect
    })
    return Effect.onExitPrimitive(hold(held, work, restore), () => {
      if (!started) promise.giveBack()
      return undefined
    })
  }

  const guard =
    (need: Need) =>
    <A, E, R>(effect: Effect.Effect<A, E, R>) => {
      const admitted = Effect.uninterruptibleMask((restore) =>
        admit(need, maxSleep, restore, (admission) => run(admission, effect, restore))
      )
      const [its, ...others] = need.homes
      // What can be had this instant needs no care for what comes in between.
      if (its?.home.takeNow === undefined || others.length > 0 || need.semaphores.length > 0) return admitted
      return Effect.clockWith((clock) => (its.home.takeNow?.(its.parts, clock) ? effect : admitted))
    }

  const withPermits: Joint["withPermits"] = (n) => {
    const need = needOf(n)
    if (Result.isFailure(need)) return () => Effect.fail(need.failure)
    return guard(need.success)
  }

  const withPermitsIfAvailable: Joint["withPermitsIfAvailable"] = (n) => {
    const need = needOf(n)
    if (Result.isFailure(need)) return () => Effect.fail(need.failure)
    return (effect) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.matchEffect(admit(need.success, 0, restore, Effect.succeed), {
          onSuccess: (admission) => Effect.asSome(run(admission, effect, restore)),
          onFailure: (error) => (isRefused(error) ? Effect.succeedNone : Effect.fail(error))
        })
      )
  }

  const acquire: Joint["acquire"] = (n = 1) =>
    Effect.flatMap(Effect.all([Effect.fromResult(needOf(n)), Effect.scope]), ([need, scope]) =>
      Effect.uninterruptibleMask((restore) =>
        admit(need, maxSleep, restore, ({ promise, held, waited }) =>
          Effect.as(
            Scope.addFinalizer(
              scope,
              Effect.sync(() => release(held))
            ),
            {
              name,
              waited: durationOf(waited),
              permits: entries.map(({ member }) =>
                member.kind === "TokenBucket"
                  ? member.permitOf(promise.reservationIn(member.identity), waited)
                  : member.permitOf(held.find(([one]) => one === member)?.[1] as Grant)
              )
            }
          )
        )
      )
    )

  const withPermit = withPermits(1) as Joint["withPermit"]

  const joint: Joint = {
    kind: "Joint",
    name,
    maxSleep: durationOf(maxSleep),
    isAtomic,
    withPermit,
    withPermits,
    withPermitsIfAvailable,
    acquire,
    wrap: wrapWith<LimiterError<Joint>>(name, withPermit),
    state: Effect.forEach(entries, stateOf, { concurrency: "unbounded" }),
    pause: (duration) =>
      Effect.forEach(
        entries,
        ({ limiter }) => (limiter.kind === "TokenBucket" ? limiter.pause(duration) : Effect.void),
        { concurrency: "unbounded", discard: true }
      ),
    reset: Effect.forEach(entries, ({ limiter }) => limiter.reset, { concurrency: "unbounded", discard: true })
  }
  const its = entries.flatMap(({ limiter }) => watchedOf(limiter) ?? [])[0]
  return (its === undefined ? joint : its.observeJoint(joint, entries)) as JointLimiter<Members>
}
