/**
 * One definition of a limiter, and a limiter for each key: made when it is used, and nothing of it is kept.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { InvalidOptions, type LimiterKind } from "../Errors.ts"
import type { KeyedLimiter, Limiter, Permit } from "../Limiter.ts"
import { functionArgument, type Identity, maxNameLength, utf8Length } from "./options.ts"

/**
 * The names of the limiters of a definition: `name[key]`. The first bracket ends the name, whose own are escaped, so that
 * two names and keys never share a limiter.
 */
export const keyedNames = (name: string): ((key: string) => Result.Result<string, InvalidOptions>) => {
  const escaped = escapeName(name)
  const room = maxNameLength - utf8Length(`${escaped}[]`)
  const rule = `a non-empty string of at most ${room} UTF-8 bytes: with the name, at most ${maxNameLength}`
  return (key) =>
    typeof key === "string" && key !== "" && utf8Length(key) <= room
      ? Result.succeed(`${escaped}[${key}]`)
      : Result.fail(new InvalidOptions({ name, field: "key", value: key, rule }))
}

const escapeName = (name: string): string =>
  name.replace(/[%[]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)

/**
 * The limiter of a key among those of a definition. A tag is one by key as well, so that what belongs to one key lives
 * in one place, and different keys don't.
 */
export const ofKey = <Config extends Identity>(config: Config, name: string, key: string): Config => {
  if (config.tag === undefined) return { ...config, name }
  const tag = `${escapeName(config.tag)}[${key}]`
  return { ...config, name, tag }
}

type Keyable<E, Held, P extends Permit, S> = Limiter<E, Held, P, S> & { readonly kind: LimiterKind }

/** The verbs of `limiterFor`, by key. */
export const makeKeyedLimiter = <E, Held, P extends Permit, S, L extends Keyable<E, Held, P, S>>(
  definition: Pick<L, "kind" | "name" | "maxSleep">,
  limiterFor: (name: string, key: string) => L
): KeyedLimiter<E, Held, P, S, L> & { readonly kind: L["kind"] } => {
  const nameFor = keyedNames(definition.name)
  return keyedVerbs(definition, (key) => Effect.fromResult(Result.map(nameFor(key), (name) => limiterFor(name, key))))
}

/** The verbs of the limiters that `forKey` gives. */
export const keyedVerbs = <E, Held, P extends Permit, S, L extends Keyable<E, Held, P, S>>(
  { kind, name, maxSleep }: Pick<L, "kind" | "name" | "maxSleep">,
  forKey: (key: string) => Effect.Effect<L, InvalidOptions>
): KeyedLimiter<E, Held, P, S, L> & { readonly kind: L["kind"] } => {
  return {
    kind,
    name,
    maxSleep,
    forKey,
    withPermit: (key) => (effect) => Effect.flatMap(forKey(key), (limiter) => limiter.withPermit(effect)),
    withPermits: (key, n) => (effect) => Effect.flatMap(forKey(key), (limiter) => limiter.withPermits(n)(effect)),
    withPermitsIfAvailable: (key, n) => (effect) =>
      Effect.flatMap(forKey(key), (limiter) => limiter.withPermitsIfAvailable(n)(effect)),
    acquire: (key, n) => Effect.flatMap(forKey(key), (limiter) => limiter.acquire(n)),
    wrap: (f, key) => {
      Result.getOrThrow(functionArgument(name, "f", f))
      Result.getOrThrow(functionArgument(name, "key", key))
      return (...args) =>
        Effect.flatMap(
          Effect.suspend(() => forKey(key(...args))),
          (limiter) => limiter.withPermit(Effect.suspend(() => f(...args)))
        )
    },
    state: (key) => Effect.flatMap(forKey(key), (limiter) => limiter.state),
    reset: (key) => Effect.flatMap(forKey(key), (limiter) => limiter.reset)
  }
}
