/**
 * Requests of an HTTP client at the pace that a limiter allows, and that the server asks for.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { type InvalidOptions, MaxSleepExceeded } from "./Errors.ts"
import { guarding, limiterFor, type SingleLimiter } from "./internal/anyLimiter.ts"
import { HoldOffs } from "./internal/holdOffs.ts"
import { limitRequestsConfig } from "./internal/options.ts"
import { retryDelay } from "./internal/rateLimitFields.ts"
import type { AnyJointLimiter, AnyKeyedLimiter, AnyLimiter, LimiterError } from "./Limiter.ts"
import type { SemaphoreLimiter } from "./Semaphore.ts"

type Request = HttpClientRequest.HttpClientRequest

type Response = HttpClientResponse.HttpClientResponse

/**
 * How `limitRequests` goes about it.
 */
export interface LimitRequestsOptions {
  /** The key of a request, for a limiter by key. Default: the host that it goes to. */
  readonly key?: ((request: Request) => string) | undefined
  /** How many tokens or permits a request takes. Default: what `withPermit` takes. */
  readonly cost?: ((request: Request) => number) | undefined
  /** The longest time for which a server can hold requests off. Default: 1 hour. */
  readonly maxPause?: Duration.Input | undefined
}

/**
 * Sends requests through a limiter, or through that of their key, and holds all of them off while the server says so.
 *
 * When a response is 429 or 503 and tells by `Retry-After`, `RateLimit` or `RateLimit-Reset` when to come back, then
 *
 * - a token bucket pauses until then, for every process that shares it, and of several limiters each token bucket;
 * - over a semaphore, whose state knows no time, the requests of this process wait until then while they hold their
 *   permits, so that fewer are left for the others. They fail with `MaxSleepExceeded` if that would be longer than
 *   `maxSleep`. It is the limited client that remembers this: make it once, and keep it.
 *
 * The response is passed on as it is: put `HttpClient.retryTransient` around, and its retries go through the limiter as
 * well. A permit is held until the head of the response is there; to hold it for longer, use the limiter around what
 * reads the body.
 *
 * Throws `InvalidOptions` if an option breaks its rule.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { HttpClient, HttpClientResponse } from "effect/http"
 * import { LocalLive, TokenBucket } from "steindamm"
 * import { limitRequests } from "steindamm/http"
 *
 * const server = HttpClient.make((request) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(request, new Response("hello")))
 * )
 *
 * const program = Effect.gen(function* () {
 *   const perHost = yield* TokenBucket.makeKeyed({ name: "hosts", capacity: 10 })
 *   const client = server.pipe(limitRequests(perHost))
 *   const response = yield* client.get("https://example.com/")
 *   yield* Effect.log(yield* response.text)
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalLive)))
 * ```
 */
export const limitRequests = <L extends AnyLimiter | AnyJointLimiter | AnyKeyedLimiter, O extends LimitRequestsOptions>(
  limiter: L,
  options?: O & (L extends AnyKeyedLimiter ? unknown : { readonly key?: undefined })
): (<E, R>(
  self: HttpClient.HttpClient.With<E, R>
) => HttpClient.HttpClient.With<
  E | LimiterError<L> | (O extends { readonly cost: (request: Request) => number } ? InvalidOptions : never),
  R
>) => {
  const {
    key = hostOf,
    cost,
    maxPause
  } = Result.getOrThrow(limitRequestsConfig(limiter, options === undefined ? {} : options))
  const holdOffs = new HoldOffs()

  const heed = (limiter: SingleLimiter, response: Response): Effect.Effect<void> =>
    Effect.clockWith((clock) => {
      const delay = retryDelay(response.headers, clock.currentTimeMillisUnsafe())
      if (delay === undefined) return Effect.void
      const pause = Duration.min(delay, maxPause)
      if (limiter.kind !== "Semaphore") return Effect.ignore(limiter.pause(pause), { log: "Warn" })
      holdOffs.extend(clock, limiter.name, pause)
      return Effect.void
    })

  /** Fails if requests have to stay away for too long. */
  const checkHoldOff = (limiter: SemaphoreLimiter): Effect.Effect<Duration.Duration, MaxSleepExceeded> =>
    Effect.clockWith((clock) => {
      const { name, kind, maxSleep } = limiter
      const requiredSleep = holdOffs.left(clock, name)
      return Duration.isGreaterThan(requiredSleep, maxSleep)
        ? Effect.fail(new MaxSleepExceeded({ name, kind, maxSleep, requiredSleep }))
        : Effect.succeed(requiredSleep)
    })

  const waitOutHoldOff = (limiter: SemaphoreLimiter): Effect.Effect<void, MaxSleepExceeded> =>
    Effect.flatMap(checkHoldOff(limiter), (left) =>
      Duration.isZero(left) ? Effect.void : Effect.andThen(Effect.sleep(left), waitOutHoldOff(limiter))
    )

  const limited = <E, R>(
    send: Effect.Effect<Response, E, R>,
    request: Request
  ): Effect.Effect<Response, E | LimiterError<SingleLimiter> | InvalidOptions, R> =>
    Effect.flatMap(
      limiterFor(limiter, () => key(request)),
      (limiter) => {
        const guarded = guarding(limiter, cost?.(request))
        const sent = Effect.onExit(send, (exit) => {
          const response = refusalIn(exit)
          return response === undefined ? Effect.void : heed(limiter, response)
        })
        return limiter.kind !== "Semaphore"
          ? guarded(sent)
          : Effect.andThen(checkHoldOff(limiter), guarded(Effect.andThen(waitOutHoldOff(limiter), sent)))
      }
    )

  // The signature above tells which failures can occur with this limiter and these options.
  return (self) => HttpClient.transform(self, limited) as never
}

const hostOf = ({ url }: Request): string => (URL.canParse(url) ? new URL(url).host : url)

/** The response that refuses the request, also if an inner client has made a failure of it. */
const refusalIn = <E>(exit: Exit.Exit<Response, E>): Response | undefined => {
  const response = Exit.isSuccess(exit)
    ? exit.value
    : Option.getOrUndefined(Option.filter(Exit.findErrorOption(exit), HttpClientError.isHttpClientError))?.response
  return response?.status === 429 || response?.status === 503 ? response : undefined
}
