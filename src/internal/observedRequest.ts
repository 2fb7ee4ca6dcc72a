/**
 * A request to a limiter, watched from when it is made until its permits are back.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { type AcquisitionSpan, type Attributes, beginSpan } from "./acquisitionSpan.ts"
import type { RefusalReason, RequestMeters } from "./limiterMeters.ts"
import { monotonicMicros } from "./time.ts"

const microsPerSecond = 1_000_000

/** How requests to a limiter are watched. */
export interface Watch {
  readonly meters: RequestMeters
  /** Whether the backend is away, for limiters that go on without it. */
  readonly isAway: (() => boolean) | undefined
  /** What spans tell of the limiter, if there are to be any. */
  readonly spans: Attributes | undefined
  /** What the log lines of guarded work tell of the limiter, if they are to. */
  readonly logs: Attributes | undefined
}

/** Why there are no permits, and whose error it is. */
const refusalOf = (exit: Exit.Exit<unknown, unknown>): readonly [reason: RefusalReason, by?: string | undefined] => {
  if (Exit.isSuccess(exit)) return ["Unavailable"]
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (error === undefined) return ["Interrupted"]
  const { _tag, name } = error as { readonly _tag: RefusalReason; readonly name?: string }
  return [_tag, name]
}

/** `waited` in seconds. */
export const tellGranted = (
  { meters, isAway }: Pick<Watch, "meters" | "isAway">,
  permits: number,
  waited: number
): void => {
  meters.granted(permits, waited)
  if (isAway?.() === true) meters.grantedAway(permits)
}

export class ObservedRequest {
  private readonly watch: Watch
  readonly permits: number
  private readonly clock: Clock.Clock
  private readonly span: AcquisitionSpan | undefined
  private readonly asked: number
  private grantedAt: number | undefined
  private waited = 0

  constructor(watch: Watch, permits: number, clock: Clock.Clock, span?: AcquisitionSpan) {
    this.watch = watch
    this.permits = permits
    this.clock = clock
    this.span = span
    this.asked = monotonicMicros(clock)
    watch.meters.asked()
  }

  private secondsSince(moment: number): number {
    return (monotonicMicros(this.clock) - moment) / microsPerSecond
  }

  get heldSeconds(): number {
    return this.secondsSince(this.grantedAt ?? this.asked)
  }

  /** `wait`: the seconds that it was told to wait, if it was not held up; otherwise it has waited until now. */
  granted(wait?: number): void {
    this.grantedAt = monotonicMicros(this.clock)
    this.waited = wait ?? (this.grantedAt - this.asked) / microsPerSecond
    tellGranted(this.watch, this.permits, this.waited)
    this.span?.end("Granted", this.waited, Exit.void)
  }

  /** Lets the log lines of guarded work tell of it. */
  inLogs<A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    const { logs } = this.watch
    if (logs === undefined) return work
    return Effect.annotateLogs(work, {
      ...logs,
      "steindamm.permits": this.permits,
      "steindamm.wait_seconds": this.waited
    })
  }

  /** With the exit of whatever asked, its work is over, if there was any. */
  ended(exit: Exit.Exit<unknown, unknown>): void {
    if (this.grantedAt !== undefined) this.watch.meters.released(this)
    else {
      const [reason, by] = refusalOf(exit)
      this.watch.meters.refused(reason, by)
      this.span?.end(reason, this.secondsSince(this.asked), exit)
    }
  }
}

/** Does what a request is made for, and tells it what came of that. */
export const observeRequest = <A, E, R, R2 = never>(
  watch: Watch,
  permits: number,
  ask: (request: ObservedRequest) => Effect.Effect<A, E, R>,
  onExit: (request: ObservedRequest, exit: Exit.Exit<A, E>) => Effect.Effect<void, never, R2> | undefined
): Effect.Effect<A, E, R | R2> => {
  const spans = watch.spans === undefined ? undefined : { ...watch.spans, "steindamm.permits": permits }
  return Effect.suspend(() => {
    let request: ObservedRequest | undefined
    // Made only once nothing can end it without its knowledge.
    const begin = (span?: AcquisitionSpan) =>
      Effect.clockWith((clock) => {
        request = new ObservedRequest(watch, permits, clock, span)
        return ask(request)
      })
    const asking = spans === undefined ? begin() : beginSpan(spans, begin)
    return Effect.onExitPrimitive(asking, (exit) => (request === undefined ? undefined : onExit(request, exit)))
  })
}
