/**
 * The verbs that all limiters have, told of to a watch.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Limiter, Permit } from "../Limiter.ts"
import { type ObservedRequest, observeRequest, type Watch } from "./observedRequest.ts"
import { wrapWith } from "./wrapWith.ts"

type Verb = "withPermit" | "withPermits" | "withPermitsIfAvailable" | "acquire" | "wrap"

/** `usual`: what `withPermit` takes. */
export const observedVerbs = <E, Held, P extends Permit, S>(
  limiter: Limiter<E, Held, P, S>,
  watch: Watch,
  usual: number
): Pick<Limiter<E, Held, P, S>, Verb> => {
  const guard = <A, E1, R, B, E2>(
    permits: number,
    effect: Effect.Effect<A, E1, R>,
    verb: (work: Effect.Effect<A, E1, R>) => Effect.Effect<B, E2, R>
  ): Effect.Effect<B, E2, R> =>
    observeRequest(
      watch,
      permits,
      (request) =>
        verb(
          Effect.suspend(() => {
            request.granted()
            return request.inLogs(effect)
          })
        ),
      (request, exit) => {
        request.ended(exit)
        return undefined
      }
    )

  const keep = (request: ObservedRequest): Effect.Effect<void, never, Scope.Scope> => {
    request.granted()
    return Effect.addFinalizer((exit) => Effect.sync(() => request.ended(exit)))
  }

  const withPermit: Limiter<E, Held, P, S>["withPermit"] = (effect) => guard(usual, effect, limiter.withPermit)

  return {
    withPermit,
    withPermits: (n) => {
      const verb = limiter.withPermits(n)
      return (effect) => guard(n, effect, verb)
    },
    withPermitsIfAvailable: (n) => {
      const verb = limiter.withPermitsIfAvailable(n)
      return (effect) => guard(n, effect, verb)
    },
    acquire: (n) =>
      observeRequest(
        watch,
        n ?? usual,
        () => limiter.acquire(n),
        (request, exit) => {
          if (Exit.isSuccess(exit)) return keep(request)
          request.ended(exit)
          return undefined
        }
      ),
    wrap: wrapWith<E | Held>(limiter.name, withPermit)
  }
}
