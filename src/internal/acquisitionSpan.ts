/**
 * The span of a request to a limiter: from when it is made until it is given permits, or nothing.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import type { RefusalReason } from "./limiterMeters.ts"

/** What spans and log lines tell about something. */
export type Attributes = Readonly<Record<string, unknown>>

const name = "steindamm.acquire"

/** What spans and log lines call what metrics have as a label or a number. */
export const attributesOf = (told: Readonly<Record<string, unknown>>): Attributes =>
  Object.fromEntries(Object.entries(told).map(([what, value]) => [`steindamm.${what}`, value]))

export class AcquisitionSpan {
  private readonly span: Tracer.Span
  private readonly now: () => bigint

  constructor(span: Tracer.Span, now: () => bigint) {
    this.span = span
    this.now = now
  }

  end(outcome: "Granted" | RefusalReason, waitSeconds: number, exit: Exit.Exit<unknown, unknown>): void {
    this.span.attribute("steindamm.outcome", outcome)
    this.span.attribute("steindamm.wait_seconds", waitSeconds)
    this.span.end(this.now(), exit)
  }
}

/** Goes on with a span that has begun, or with none if there is nobody to see it. */
export const beginSpan = <A, E, R>(
  attributes: Attributes,
  onSpan: (span: AcquisitionSpan | undefined) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    if (fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer) return onSpan(undefined)
    const isTimed = fiber.getRef(References.TracerTimingEnabled)
    return Effect.clockWith((clock) =>
      Effect.flatMap(Effect.makeSpan(name, { attributes }), (span) =>
        onSpan(new AcquisitionSpan(span, () => (isTimed ? clock.currentTimeNanosUnsafe() : 0n)))
      )
    )
  })
