/**
 * A limiter as a service of its own: what `Service` and `KeyedService` of token buckets and semaphores share.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { InvalidOptions } from "../Errors.ts"

/**
 * A service class whose `layer` makes the limiter that it provides.
 */
export interface LimiterServiceClass<in out Self, in out Id extends string, in out L, E, R>
  extends Context.ServiceClass<Self, Id, L> {
  readonly layer: Layer.Layer<Self, E, R>
}

/**
 * Options of which some, or all at once, are read from the configuration.
 */
export type FromConfig<Options> =
  | Config.Config<Options>
  | { readonly [Field in keyof Options]: Options[Field] | Config.Config<Options[Field]> }

/**
 * Makes service classes for a limiter `L` with these options over the backend `R`.
 */
export type LimiterServiceFactory<Options, L, R> = <Self>() => {
  <const Id extends string>(id: Id, options: Options): LimiterServiceClass<Self, Id, L, InvalidOptions, R>
  <const Id extends string>(
    id: Id,
    options: FromConfig<Options>
  ): LimiterServiceClass<Self, Id, L, InvalidOptions | Config.ConfigError, R>
}

export const limiterService =
  <R, Options extends object, L>(
    make: (options: Options) => Effect.Effect<L, InvalidOptions, R>
  ): LimiterServiceFactory<Options, L, R> =>
  <Self>() =>
  <const Id extends string>(
    id: Id,
    options: Options | FromConfig<Options>
  ): LimiterServiceClass<Self, Id, L, InvalidOptions, R> => {
    const service = Context.Service<Self, L>()(id)
    // The signatures above tell whether anything is read, and so whether reading can fail.
    const made = Effect.flatMap(configOf(options), make) as Effect.Effect<L, InvalidOptions, R>
    return Object.assign(service, { layer: Layer.effect(service, made) })
  }

export const configOf = <Options extends object>(options: Options | FromConfig<Options>): Config.Config<Options> => {
  if (Config.isConfig(options)) return options as Config.Config<Options>
  if (typeof options !== "object" || options === null) return Config.succeed(options)
  const fields = Object.entries(options).map(([field, value]) => [
    field,
    Config.isConfig(value) ? value : Config.succeed(value)
  ])
  return Config.all(Object.fromEntries(fields)) as Config.Config<Options>
}
