/**
 * The limiters that a person means by a name.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { LimiterKind } from "../Errors.ts"
import type { LimiterAddress } from "../internal/limiterKeys.ts"
import { Limiters } from "./limiters.ts"
import { type Problem, problem } from "./problem.ts"
import { printable } from "./render/quantities.ts"
import type { KindName, LimiterReport } from "./report.ts"

export const nameArgument = Argument.String("name").pipe(Argument.withDescription("The limiter's name"))

export const kindFlag = Flag.Literals("kind", ["token-bucket", "semaphore"]).pipe(
  Flag.withDescription("Which one, if a token bucket and a semaphore have the same name"),
  Flag.optional
)

const kindOf: Record<KindName, LimiterKind> = { "token-bucket": "TokenBucket", semaphore: "Semaphore" }

export const nounOf: Record<KindName, string> = { "token-bucket": "token bucket", semaphore: "semaphore" }

export const quoted = (name: string): string => `"${printable(name)}"`

export interface Known {
  readonly limiter: LimiterAddress
  readonly report: LimiterReport
}

/** No name has more than a few: one of each kind, alone and with each tag. */
const most = 100

/**
 * All that have the name: those that stand alone, and if there are none those that share a tag with others. Fails if
 * Redis remembers none.
 */
export const limitersNamed = Effect.fnUntraced(function* (
  name: string,
  kind: Option.Option<KindName>
): Effect.fn.Return<ReadonlyArray<Known>, Problem, Limiters> {
  const limiters = yield* Limiters
  const kinds = Option.match(kind, { onNone: () => Object.values(kindOf), onSome: (one) => [kindOf[one]] })
  const look = (addresses: ReadonlyArray<LimiterAddress>) =>
    Effect.map(
      Effect.forEach(addresses, (limiter) =>
        Effect.map(limiters.report(limiter), (report) => (report === undefined ? [] : [{ limiter, report }]))
      ),
      (known) => known.flat()
    )
  const alone = yield* look(kinds.map((kind) => ({ kind, name })))
  if (alone.length > 0) return alone
  const found = yield* limiters.find({
    accepts: (limiter) => limiter.name === name && limiter.tag !== undefined && kinds.includes(limiter.kind),
    most
  })
  const tagged = yield* look(found.limiters)
  if (tagged.length > 0) return tagged
  const noun = Option.match(kind, { onNone: () => "limiter", onSome: (one) => nounOf[one] })
  return yield* problem(
    `Redis at ${limiters.redis} remembers no ${noun} ${quoted(name)} under the prefix ${quoted(limiters.prefix)}: it is not in use, or idle for so long that it was forgotten`
  )
})

/** The one that is meant, for what changes it. */
export const limiterNamed = Effect.fnUntraced(function* (
  name: string,
  kind: Option.Option<KindName>
): Effect.fn.Return<Known, Problem, Limiters> {
  const [one, ...others] = yield* limitersNamed(name, kind)
  if (one !== undefined && others.length === 0) return one
  return yield* problem(`More than one limiter has the name ${quoted(name)}: say which by --kind`)
})
