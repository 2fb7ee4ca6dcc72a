/**
 * Watches the work of one run. It only looks on: what runs when is up to the limiter.
 */
import * as Effect from "effect/Effect"
import { monotonicSeconds } from "../monotonic.ts"
import type { Outcome, Run } from "./run.ts"

/** Something that decides when work may run: `limiter.withPermit`, or nothing at all. */
export type Guard<out E> = <A, E1, R>(work: Effect.Effect<A, E1, R>) => Effect.Effect<A, E | E1, R>

export class Recorder {
  private readonly total: number
  private phase: Run["phase"] = "next"
  private began = 0
  private ended = 0
  private good = 0
  private bad = 0
  private waiting = 0
  private inFlight = 0
  private peakInFlight = 0
  private longestWait = 0
  private slowest = 0
  private readonly admissions: Array<{ at: number; outcome: Outcome | undefined }> = []
  private readonly levels: Array<{ at: number; inFlight: number }> = []

  constructor(total: number) {
    this.total = total
  }

  private readonly now = Effect.map(monotonicSeconds, (now) => now - this.began)

  /** The run lasts as long as `work`. */
  during<E, R>(work: Effect.Effect<void, E, R>): Effect.Effect<void, E, R> {
    return Effect.gen({ self: this }, function* () {
      this.began = yield* monotonicSeconds
      this.phase = "running"
      yield* work
      this.ended = yield* this.now
      this.phase = "over"
    })
  }

  /** Follows one piece of work from its arrival over its wait to its end. */
  follow<E, E1, R>(
    work: Effect.Effect<Outcome, E1, R>,
    options: { readonly guard: Guard<E>; readonly weight: number }
  ): Effect.Effect<void, E | E1, R> {
    return Effect.gen({ self: this }, function* () {
      const arrived = yield* this.now
      let waits = true
      const leaveQueue = Effect.sync(() => {
        if (waits) this.waiting--
        waits = false
      })
      yield* Effect.acquireUseRelease(
        Effect.sync(() => this.waiting++),
        () => options.guard(Effect.andThen(leaveQueue, this.admit(work, options.weight, arrived))),
        () => leaveQueue
      )
    })
  }

  private admit<E, R>(work: Effect.Effect<Outcome, E, R>, weight: number, arrived: number): Effect.Effect<void, E, R> {
    return Effect.gen({ self: this }, function* () {
      const admission: { at: number; outcome: Outcome | undefined } = { at: yield* this.now, outcome: undefined }
      this.admissions.push(admission)
      this.longestWait = Math.max(this.longestWait, admission.at - arrived)
      const outcome = yield* Effect.acquireUseRelease(
        this.changeInFlight(weight),
        () => work,
        () => this.changeInFlight(-weight)
      )
      admission.outcome = outcome
      this[outcome]++
      this.slowest = Math.max(this.slowest, (yield* this.now) - admission.at)
    })
  }

  private changeInFlight(by: number): Effect.Effect<void> {
    return Effect.map(this.now, (at) => {
      this.inFlight += by
      this.peakInFlight = Math.max(this.peakInFlight, this.inFlight)
      this.levels.push({ at, inFlight: this.inFlight })
    })
  }

  /** The run at this moment. */
  readonly view: Effect.Effect<Run> = Effect.map(this.now, (now) => ({
    phase: this.phase,
    total: this.total,
    elapsed: this.phase === "running" ? now : this.ended,
    good: this.good,
    bad: this.bad,
    waiting: this.waiting,
    inFlight: this.inFlight,
    peakInFlight: this.peakInFlight,
    longestWait: this.longestWait,
    slowest: this.slowest,
    admissions: this.admissions,
    levels: this.levels
  }))
}
