/**
 * The verbs of a semaphore over any store: take permits, run, and bring them back, whatever happens.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { type BackendError, type InvalidOptions, MaxSleepExceeded, PermitLost } from "../Errors.ts"
import type { SemaphoreError, SemaphoreLimiter, SemaphorePermit, SemaphoreState } from "../Semaphore.ts"
import type { Restore } from "./bucketWaiters.ts"
import { capacityArgument, durationOf, invalidPermits, permitsArgument, type SemaphoreConfig } from "./options.ts"

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
  /**
   * Waits for permits, up to `maxWait` microseconds; 0 only tries. Runs in an uninterruptible region, and makes its
   * wait interruptible with `restore`; a wait that is interrupted holds nothing.
   */
  readonly take: (permits: number, maxWait: number, restore: Restore) => Effect.Effect<Grant | Refusal, BackendError>
  /** Never fails and doesn't take long: a store that is away is told later. Harmless for a grant that was lost. */
  readonly release: (grant: Grant) => Effect.Effect<void> | undefined
  readonly resize: (capacity: number) => Effect.Effect<void, BackendError>
  readonly look: Effect.Effect<SemaphoreState, BackendError>
  readonly reset: Effect.Effect<void, BackendError>
}

export const makeSemaphoreLimiter = (config: SemaphoreConfig, store: SemaphoreStore): SemaphoreLimiter => {
  const { name, maxSleep, capacity } = config

  const lostError = (grant: Grant) => new PermitLost({ name, permitId: grant.id, fencingToken: grant.fencingToken })

  const take = (
    permits: number,
    maxWait: number,
    restore: Restore
  ): Effect.Effect<Grant, SemaphoreError | InvalidOptions> =>
    Effect.flatMap(store.take(permits, maxWait, restore), (answer) => {
      if (!("_tag" in answer)) return Effect.succeed(answer)
      return Effect.fail(
        answer._tag === "TimeUp"
          ? new MaxSleepExceeded({ name, kind: "Semaphore", maxSleep: durationOf(maxWait) })
          : invalidPermits(name, permits, answer.capacity)
      )
    })

  /**
   * Runs work that ends when its permit is lost. It needs a fiber of its own: one that was interrupted can't go on to
   * say why.
   */
  const hold = <A, E, R>(
    grant: Grant,
    effect: Effect.Effect<A, E, R>,
    restore: Restore
  ): Effect.Effect<A, E | PermitLost, R> => {
    const outcome = (exit: Exit.Exit<A, E>): Exit.Exit<A, E | PermitLost> =>
      grant.isLost && (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) ? Exit.fail(lostError(grant)) : exit
    const work = Effect.forkChild(restore(effect), { startImmediately: true, uninterruptible: true })
    const done = Effect.flatMap(work, (fiber) => {
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return outcome(exit)
      grant.onLost = () => fiber.interruptUnsafe()
      if (grant.isLost) fiber.interruptUnsafe()
      return Effect.onInterrupt(restore(Effect.flatMap(Fiber.await(fiber), outcome)), () => Fiber.interrupt(fiber))
    })
    return Effect.onExitPrimitive(done, () => store.release(grant))
  }

  const guard =
    (permits: number) =>
    <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SemaphoreError | InvalidOptions | PermitLost, R> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(take(permits, maxSleep, restore), (grant) => hold(grant, effect, restore))
      )

  const permitOf = (grant: Grant): SemaphorePermit => {
    const listeners = new Set<() => void>()
    grant.onLost = () => {
      for (const listener of listeners) listener()
    }
    const failed = Effect.suspend(() => Effect.fail(lostError(grant)))
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

  const permits = (n: number) => Effect.fromResult(permitsArgument(name, n, capacity))

  const acquire = (n = 1): Effect.Effect<SemaphorePermit, SemaphoreError | InvalidOptions, Scope.Scope> =>
    Effect.flatMap(Effect.andThen(permits(n), Effect.scope), (scope) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(take(n, maxSleep, restore), (grant) =>
          Effect.as(
            Scope.addFinalizer(
              scope,
              Effect.suspend(() => store.release(grant) ?? Effect.void)
            ),
            permitOf(grant)
          )
        )
      )
    )

  // One permit always fits: a capacity is at least 1.
  const withPermit = guard(1) as SemaphoreLimiter["withPermit"]

  return {
    kind: "Semaphore",
    name,
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
            Effect.matchEffect(take(n, 0, restore), {
              onFailure: (error) =>
                error._tag === "MaxSleepExceeded" ? Effect.succeed(Option.none<A>()) : Effect.fail(error),
              onSuccess: (grant) => Effect.asSome(hold(grant, effect, restore))
            })
          )
        )
    },
    acquire,
    resize: (n) => Effect.flatMap(Effect.fromResult(capacityArgument(name, n)), store.resize),
    wrap:
      (f) =>
      (...args) =>
        withPermit(Effect.suspend(() => f(...args))),
    state: store.look,
    reset: store.reset
  }
}
