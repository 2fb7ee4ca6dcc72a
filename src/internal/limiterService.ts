/**
 * A limiter as a service of its own: what `TokenBucket.Service` and `Semaphore.Service` share.
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

export const limiterService =
  <R, Options, L>(make: (options: Options) => Effect.Effect<L, InvalidOptions, R>) =>
  <Self>() =>
  <const Id extends string>(
    id: Id,
    options: Options | Config.Config<Options>
  ): LimiterServiceClass<Self, Id, L, InvalidOptions | Config.ConfigError, R> => {
    const service = Context.Service<Self, L>()(id)
    const resolved = Config.isConfig(options) ? options : Effect.succeed(options)
    return Object.assign(service, {
      layer: Layer.effect(service, Effect.flatMap(resolved, make))
    })
  }
