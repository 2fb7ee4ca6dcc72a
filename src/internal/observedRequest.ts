/**
 * A request to a limiter, counted from when it is made until its permits are back.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { LimiterMeters, RefusalReason } from "./limiterMeters.ts"
import { monotonicMicros } from "./time.ts"

const reasonOf = (exit: Exit.Exit<unknown, unknown>): RefusalReason => {
  if (Exit.isSuccess(exit)) return "Unavailable"
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause)) as { readonly _tag: RefusalReason } | undefined
  return error?._tag ?? "Interrupted"
}

export class ObservedRequest {
  private readonly meters: LimiterMeters
  private readonly permits: number
  private readonly clock: Clock.Clock
  private readonly asked: number
  private grantedAt: number | undefined

  constructor(meters: LimiterMeters, permits: number, clock: Clock.Clock) {
    this.meters = meters
    this.permits = permits
    this.clock = clock
    this.asked = monotonicMicros(clock)
    meters.asked()
  }

  granted(): void {
    this.grantedAt = monotonicMicros(this.clock)
    this.meters.granted(this.permits, this.grantedAt - this.asked)
  }

  /** As `granted`, for a request that is told how many microseconds to wait, and not held up. */
  reserved(wait: number): void {
    this.grantedAt = this.asked
    this.meters.granted(this.permits, wait)
  }

  /** With the exit of whatever asked, its work is over, if there was any. */
  ended(exit: Exit.Exit<unknown, unknown>): void {
    if (this.grantedAt === undefined) this.meters.refused(reasonOf(exit))
    else this.meters.released(this.permits, monotonicMicros(this.clock) - this.grantedAt)
  }
}

/** Does what a request is made for, and tells it what came of that. */
export const observeRequest = <A, E, R, R2 = never>(
  meters: LimiterMeters,
  permits: number,
  ask: (request: ObservedRequest) => Effect.Effect<A, E, R>,
  onExit: (request: ObservedRequest, exit: Exit.Exit<A, E>) => Effect.Effect<void, never, R2> | undefined
): Effect.Effect<A, E, R | R2> =>
  Effect.suspend(() => {
    let request: ObservedRequest | undefined
    // Made only once nothing can end it without its knowledge.
    const asking = Effect.clockWith((clock) => {
      request = new ObservedRequest(meters, permits, clock)
      return ask(request)
    })
    return Effect.onExitPrimitive(asking, (exit) => (request === undefined ? undefined : onExit(request, exit)))
  })
