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

export const kindFlag = Flag.Literals("kind", ["token-bucket", "semaphore"]).pipe(
  Flag.withDescription("Which one, if a token bucket and a semaphore have the same name"),
  Flag.optional
)

const kindOf: Record<KindName, LimiterKind> = { "token-bucket": "TokenBucket", semaphore: "Semaphore" }

export const nounOf: Record<KindName, string> = { "token-bucket": "token bucket", semaphore: "semaphore" }

export const quoted = (name: string): string => `"${printable(name)}"`

/** What tells a limiter from others. */
export const nameInput = {
  name: Argument.String("name").pipe(Argument.withDescription("The limiter's name")),
  tag: Flag.String("tag").pipe(
    Flag.withMetavar("<tag>"),
    Flag.withDescription("The limiter's tag, if limiters of the same name have different ones"),
    Flag.optional
  )
}

export interface Names {
  readonly name: string
  readonly kind: Option.Option<KindName>
  readonly tag: Option.Option<string>
}

export interface Known {
  readonly limiter: LimiterAddress
  readonly report: LimiterReport
}

/** No name has more than a few: one of each kind with each tag. */
const most = 100

/**
 * All that have the name: with the tag that is named, or without any, or if there are none, those with whatever tag.
 * Fails if Redis remembers none.
 */
export const limitersNamed = Effect.fnUntraced(function* ({
  name,
  kind,
  tag
}: Names): Effect.fn.Return<ReadonlyArray<Known>, Problem, Limiters> {
  const limiters = yield* Limiters
  const kinds = Option.match(kind, { onNone: () => Object.values(kindOf), onSome: (one) => [kindOf[one]] })
  const look = (addresses: ReadonlyArray<LimiterAddress>) =>
    Effect.map(
      Effect.forEach(addresses, (limiter) =>
        Effect.map(limiters.report(limiter), (report) => (report === undefined ? [] : [{ limiter, report }]))
      ),
      (known) => known.flat()
    )
  const tagged = Option.isSome(tag) ? { tag: tag.value } : {}
  const named = yield* look(kinds.map((kind) => ({ kind, name, ...tagged })))
  if (named.length > 0) return named
  const found = yield* limiters.find({
    accepts: (limiter) => Option.isNone(tag) && limiter.name === name && kinds.includes(limiter.kind),
    most
  })
  const others = yield* look(found.limiters)
  if (others.length > 0) return others
  return yield* unknown({ name, kind, tag }, found.isCut)
})

const unknown = Effect.fnUntraced(function* ({ name, kind, tag }: Names, isCut: boolean) {
  const { redis, prefix } = yield* Limiters
  const noun = Option.match(kind, { onNone: () => "limiter", onSome: (one) => nounOf[one] })
  const withTag = Option.match(tag, { onNone: () => "", onSome: (one) => ` with the tag ${quoted(one)}` })
  const why = isCut
    ? "if it has a tag, name it by --tag, for there are too many keys to look through"
    : "it is not in use, or idle for so long that it was forgotten"
  return yield* problem(
    `Redis at ${redis} remembers no ${noun} ${quoted(name)}${withTag} under the prefix ${quoted(prefix)}: ${why}`
  )
})

/** The one that is meant, for what changes it. */
export const limiterNamed = Effect.fnUntraced(function* (names: Names): Effect.fn.Return<Known, Problem, Limiters> {
  const [one, ...others] = yield* limitersNamed(names)
  if (one !== undefined && others.length === 0) return one
  return yield* problem(`More than one limiter has the name ${quoted(names.name)}: say which by --kind or --tag`)
})

/** For what only semaphores can do. */
export const semaphoreNamed = (names: Omit<Names, "kind">): Effect.Effect<Known, Problem, Limiters> =>
  limiterNamed({ ...names, kind: Option.some("semaphore") })
