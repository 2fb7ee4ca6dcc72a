/**
 * Calls to a real server of which one can be held up while others overtake it, as they may when connections break and
 * each call is tried again after a pause of its own.
 */
import { Deferred, Effect, Layer } from "effect"
import { RedisClient } from "steindamm/redis"

export interface HeldUp {
  /** A call is being held up. */
  readonly stopped: Effect.Effect<void>
  /** Lets it go, and waits until it has been answered. */
  readonly letGo: Effect.Effect<void>
}

export interface Detour {
  readonly layer: Layer.Layer<RedisClient>
  /**
   * Holds up the next call with such an operation: before it has reached the server or, if its reply is lost, before
   * it goes again.
   */
  readonly holdUp: (operation: string, options?: { readonly isReplyLost?: boolean }) => Effect.Effect<HeldUp>
}

type Run = RedisClient["Service"]["run"]

const nextTurn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

export const makeDetour = <E>(client: Layer.Layer<RedisClient, E>): Effect.Effect<Detour> =>
  Effect.sync(() => {
    let wanted: { readonly operation: string; readonly take: (run: ReturnType<Run>) => ReturnType<Run> } | undefined
    const detoured = (service: RedisClient["Service"]): RedisClient["Service"] => ({
      ...service,
      run: (script, keys, args, options) => {
        const ran = service.run(script, keys, args, options)
        if (wanted === undefined || !args.includes(wanted.operation)) return ran
        const { take } = wanted
        wanted = undefined
        return take(ran) as typeof ran
      }
    })
    return {
      layer: Layer.effect(RedisClient, Effect.map(RedisClient, detoured)).pipe(Layer.provide(client), Layer.orDie),
      holdUp: (operation, { isReplyLost = false } = {}) =>
        Effect.gen(function* () {
          const [stopped, go, answered] = [
            yield* Deferred.make<void>(),
            yield* Deferred.make<void>(),
            yield* Deferred.make<void>()
          ]
          wanted = {
            operation,
            take: (ran) =>
              Effect.gen(function* () {
                if (isReplyLost) yield* ran
                yield* Deferred.succeed(stopped, undefined)
                yield* Deferred.await(go)
                return yield* Effect.ensuring(ran, Deferred.succeed(answered, undefined))
              })
          }
          return {
            stopped: Deferred.await(stopped),
            letGo: Deferred.succeed(go, undefined).pipe(
              Effect.andThen(Deferred.await(answered)),
              Effect.andThen(nextTurn)
            )
          }
        })
    }
  })
