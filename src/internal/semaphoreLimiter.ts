/**
 * The verbs of a semaphore over any store: take permits, run, and bring them back, whatever happens.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { type BackendError, type InvalidOptions, MaxSleepExceeded, PermitLost } from "../Errors.ts"
import type { SemaphoreError, SemaphoreLimiter, SemaphorePermit, SemaphoreState } from "../Semaphore.ts"
import type { Restore } from "./bucketWaiters.ts"
import { tell } from "./handover.ts"
import { limiterIdentity } from "./limiterKeys.ts"
import { member } from "./memberLimiter.ts"
import { capacityArgument, durationOf, invalidPermits, permitsArgument, type SemaphoreConfig } from "./options.ts"
import { wrapWith } from "./wrapWith.ts"

/** Permits that this process holds. */
export interface Grant {
  readonly id: string
  readonly permits: number
  readonly fencingToken: number
  /** Microseconds. */
  readonly waited: number
  /** Whether the lease could not be kept. */
  isLost: boolean
  /** Called once if that happens. */
  onLost: (() => void) | undefined
}

/** Why there is no grant: the time was up, or the semaphore has become smaller than the request. */
export type Refusal = { readonly _tag: "TimeUp" } | { readonly _tag: "TooLarge"; readonly capacity: number }

/** Where one semaphore lives. */
export interface SemaphoreStore {
  /** All semaphores of a layer have one. */
  readonly home: object
  /** Takes permits that are free this instant, where the store can tell without asking anybody. */
  readonly takeNow?: (permits: number) => Grant | undefined
  /**
   * Waits for permits, up to `maxWait` microseconds; 0 only tries; and goes on with the answer. Runs in an
   * uninterruptible region, and makes its wait interruptible with `restore`; a wait that is interrupted holds nothing.
   */
  readonly take: <A, E, R>(
    permits: number,
    maxWait: number,
    restore: Restore,
    onAnswer: (answer: Grant | Refusal) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | BackendError, R>
  /** Never fails and doesn't take long: a store that is away is told later. Harmless for a grant that was lost. */
  readonly release: (grant: Grant) => void
  readonly resize: (capacity: number) => Effect.Effect<void, BackendError>
  /** Whether its backend is away, and it decides without; never for one that then fails. */
  readonly isAway?: () => boolean
  readonly look: Effect.Effect<SemaphoreState, BackendError>
  readonly reset: Effect.Effect<void, BackendError>
}

/** What makes up a semaphore's part in a limiter of several. */
export interface SemaphoreMember {
  readonly kind: "Semaphore"
  readonly config: SemaphoreConfig
  /** Tells it from all other semaphores of its layer. */
  readonly identity: string
  readonly store: SemaphoreStore
  /** Checks a number of permits. */
  readonly permits: (n: number) => Result.Result<number, InvalidOptions>
  /** Runs work on a grant, which comes back when it is done. Called in an uninterruptible region. */
  readonly hold: <A, E, R>(
    grant: Grant,
    effect: Effect.Effect<A, E, R>,
    restore: Restore
  ) => Effect.Effect<A, E | PermitLost, R>
  readonly permitOf: (grant: Grant) => SemaphorePermit
}

/** Of the fiber that runs this. */
const currentContext = <R>(): Context.Context<R> =>
  (Fiber.getCurrent() as Fiber.Fiber<unknown>).context as Context.Context<R>

export const lostError = (name: string, grant: Grant): PermitLost =>
  new PermitLost({ name, permitId: grant.id, fencingToken: grant.fencingToken })

/** For a request that was willing to wait. */
export const refusalError = (
  { name, maxSleep }: SemaphoreConfig,
  refusal: Refusal,
  permits: number
): MaxSleepExceeded | InvalidOptions =>
  refusal._tag === "TimeUp"
    ? new MaxSleepExceeded({ name, kind: "Semaphore", maxSleep: durationOf(maxSleep) })
    : invalidPermits(name, permits, refusal.capacity)

/** `onLost`: told of each lease that could not be kept. */
export const makeSemaphoreLimiter = (
  config: SemaphoreConfig,
  store: SemaphoreStore,
  onLost = () => {}
): SemaphoreLimiter & { readonly [member]: SemaphoreMember } => {
  const { name, maxSleep, capacity } = config

  const { takeNow = () => undefined } = store

  // A continuation instead of a flatMap: this is the path of every request.
  const take = <A, E, R>(
    permits: number,
    restore: Restore,
    onGranted: (grant: Grant) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | SemaphoreError | InvalidOptions, R> => {
    const grant = takeNow(permits)
    if (grant !== undefined) return onGranted(grant)
    return store.take(
      permits,
      maxSleep,
      restore,
      (answer): Effect.Effect<A, E | SemaphoreError | InvalidOptions, R> =>
        "_tag" in answer ? Effect.fail(refusalError(config, answer, permits)) : onGranted(answer)
    )
  }

  // Work that was interrupted because its permit is lost ends with that news.
  const outcome = <A, E>(grant: Grant, exit: Exit.Exit<A, E>): Exit.Exit<A, E | PermitLost> =>
    grant.isLost && (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause))
      ? Exit.fail(lostError(name, grant))
      : exit

  /**
   * Runs work that ends when its permit is lost. It needs a fiber of its own: one that was interrupted can't go on to
   * say why. Called in an uninterruptible region; work that doesn't wait for anything is over when this returns.
   */
  const hold = <A, E, R>(
    grant: Grant,
    effect: Effect.Effect<A, E, R>,
    restore: Restore
  ): Effect.Effect<A, E | PermitLost, R> => {
    // Uninterruptible from the start only if nothing was restored: switching costs a tenth of the whole call.
    const restored = restore(effect)
    const work = Effect.runForkWith(currentContext<R>())(restored, { uninterruptible: restored === effect })
    const exit = work.pollUnsafe()
    if (exit !== undefined) {
      store.release(grant)
      return outcome(grant, exit)
    }
    grant.onLost = () => {
      onLost()
      tell(() => work.interruptUnsafe(), undefined)
    }
    if (grant.isLost) grant.onLost()
    const ended = Effect.callback<A, E | PermitLost>((resume) => {
      work.addObserver((exit) => resume(outcome(grant, exit)))
    })
    return Effect.onExitPrimitive(restore(ended), () => {
      if (work.pollUnsafe() === undefined) return Effect.map(Fiber.interrupt(work), () => store.release(grant))
      store.release(grant)
      return undefined
    })
  }

  const guard =
    (permits: number) =>
    <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SemaphoreError | InvalidOptions | PermitLost, R> =>
      Effect.uninterruptibleMask((restore) => take(permits, restore, (grant) => hold(grant, effect, restore)))

  const permitOf = (grant: Grant): SemaphorePermit => {
    const listeners = new Set<() => void>()
    grant.onLost = () => {
      onLost()
      for (const listener of listeners) tell(listener, undefined)
    }
    if (grant.isLost) grant.onLost()
    const failed = Effect.suspend(() => Effect.fail(lostError(name, grant)))
    return {
      name,
      id: grant.id,
      permits: grant.permits,
      fencingToken: grant.fencingToken,
      waited: durationOf(grant.waited),
      lost: Effect.callback<never, PermitLost>((resume) => {
        if (grant.isLost) return resume(failed)
        const listener = () => resume(failed)
        listeners.add(listener)
        return Effect.sync(() => listeners.delete(listener))
      })
    }
  }

  const checkedPermits = (n: number) => permitsArgument(name, n, capacity)

  const permits = (n: number) => Effect.fromResult(checkedPermits(n))

  const acquire = (n = 1): Effect.Effect<SemaphorePermit, SemaphoreError | InvalidOptions, Scope.Scope> =>
    Effect.flatMap(Effect.andThen(permits(n), Effect.scope), (scope) =>
      Effect.uninterruptibleMask((restore) =>
        take(n, restore, (grant) =>
          Effect.as(
            Scope.addFinalizer(
              scope,
              Effect.sync(() => store.release(grant))
            ),
            permitOf(grant)
          )
        )
      )
    )

  // One permit always fits: a capacity is at least 1.
  const withPermit = guard(1) as SemaphoreLimiter["withPermit"]

  return {
    [member]: {
      kind: "Semaphore",
      config,
      identity: limiterIdentity("Semaphore", config),
      store,
      permits: checkedPermits,
      hold,
      permitOf
    },
    kind: "Semaphore",
    name,
    maxSleep: durationOf(maxSleep),
    withPermit,
    withPermits: (n) => {
      const valid = permits(n)
      return (effect) => Effect.andThen(valid, guard(n)(effect))
    },
    withPermitsIfAvailable: (n) => {
      const valid = permits(n)
      return <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.andThen(
          valid,
          Effect.uninterruptibleMask((restore) =>
            store.take(n, 0, restore, (answer): Effect.Effect<Option.Option<A>, E | PermitLost | InvalidOptions, R> => {
              if (!("_tag" in answer)) return Effect.asSome(hold(answer, effect, restore))
              return answer._tag === "TimeUp"
                ? Effect.succeedNone
                : Effect.fail(invalidPermits(name, n, answer.capacity))
            })
          )
        )
    },
    acquire,
    resize: (n) => Effect.flatMap(Effect.fromResult(capacityArgument(name, n)), store.resize),
    wrap: wrapWith<SemaphoreError | PermitLost>(name, withPermit),
    state: store.look,
    reset: store.reset
  }
}
