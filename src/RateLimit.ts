/**
 * Routes of an HTTP server behind a limiter.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { guarding, limiterFor } from "./internal/anyLimiter.ts"
import { rateLimitConfig } from "./internal/options.ts"
import {
  formatQuotaPolicy,
  formatServiceLimit,
  type QuotaPolicy,
  type ServiceLimit,
  seconds
} from "./internal/rateLimitFields.ts"
import type { AnyKeyedLimiter, AnyLimiter } from "./Limiter.ts"

type Request = HttpServerRequest.HttpServerRequest

type Response = HttpServerResponse.HttpServerResponse

/**
 * How `rateLimit` goes about it.
 */
export interface RateLimitOptions {
  /** The key of a request, for a limiter by key. Default: `keyByAddress`. */
  readonly key?: ((request: Request) => string) | undefined
  /** How many tokens or permits a request takes. More than there ever are is a defect. Default: 1. */
  readonly cost?: ((request: Request) => number) | undefined
  /** Lets requests wait up to the limiter's `maxSleep` before they are refused. Default: false. */
  readonly wait?: boolean | undefined
  /** Serves requests without a limit when the backend can't be asked, instead of refusing them. Default: false. */
  readonly failOpen?: boolean | undefined
  /** When to come back to a semaphore, which can't tell when a permit will be free. Default: 1 second. */
  readonly retryAfter?: Duration.Input | undefined
}

/**
 * Keys requests by the address that they come from. Behind a proxy that is the proxy's, unless a middleware like
 * `HttpMiddleware.xForwardedHeaders` puts the client's in its place.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { LocalLive, TokenBucket } from "steindamm"
 * import { keyByAddress, rateLimit } from "steindamm/http"
 *
 * const limited = Effect.map(TokenBucket.makeKeyed({ name: "address" }), (limiter) =>
 *   rateLimit(limiter, { key: (request) => `${request.method} ${keyByAddress(request)}` })
 * )
 *
 * Effect.runPromise(limited.pipe(Effect.provide(LocalLive)))
 * ```
 */
export const keyByAddress = (request: Request): string => Option.getOrElse(request.remoteAddress, () => "unknown")

/**
 * Keys requests by a header field, and by their address if they don't have it. Whoever can choose the field can choose
 * its limit as well: check it before.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { LocalLive, TokenBucket } from "steindamm"
 * import { keyByHeader, rateLimit } from "steindamm/http"
 *
 * const limited = Effect.map(TokenBucket.makeKeyed({ name: "api-key" }), (limiter) =>
 *   rateLimit(limiter, { key: keyByHeader("x-api-key") })
 * )
 *
 * Effect.runPromise(limited.pipe(Effect.provide(LocalLive)))
 * ```
 */
export const keyByHeader =
  (name: string): ((request: Request) => string) =>
  (request) =>
    request.headers[name.toLowerCase()] || keyByAddress(request)

/**
 * A middleware that serves a request if the limiter, or that of the request's key, lets it this instant, and otherwise
 * answers 429 with `Retry-After`.
 *
 * Every answer, also one that the routes fail with, tells by `RateLimit-Policy` and `RateLimit`
 * (draft-ietf-httpapi-ratelimit-headers-10) how much there is and how much is left; several of these middlewares tell
 * about one limit each. A token bucket is a quota of `capacity` requests in the time in which it fills; a semaphore
 * one of concurrent requests, whose permits are held until the routes have answered. A key that is too long is answered
 * with 400; a backend that can't be asked, or a permit that is lost, with 503.
 *
 * It goes where any `HttpMiddleware` goes: around one route by `HttpRouter.middleware`, around all of them by
 * `HttpRouter.middleware(…, { global: true })`, or around a server by `HttpServer.serve`. Throws `InvalidOptions` if an
 * option breaks its rule.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 * import { LocalLive, TokenBucket } from "steindamm"
 * import { keyByHeader, rateLimit } from "steindamm/http"
 *
 * const limit = HttpRouter.middleware(
 *   Effect.map(TokenBucket.makeKeyed({ name: "user", capacity: 1, refillFrequency: "1 minute" }), (limiter) =>
 *     rateLimit(limiter, { key: keyByHeader("x-user") })
 *   )
 * )
 * const routes = HttpRouter.add("GET", "/", HttpServerResponse.text("hello")).pipe(
 *   Layer.provide(limit.layer),
 *   Layer.provide(LocalLive)
 * )
 *
 * const { handler, dispose } = HttpRouter.toWebHandler(routes, { disableLogger: true })
 * const ask = () => handler(new Request("http://localhost/", { headers: { "x-user": "ada" } }))
 * console.log((await ask()).status)
 * const refused = await ask()
 * console.log(refused.status, refused.headers.get("retry-after"), refused.headers.get("ratelimit-policy"))
 * await dispose()
 * ```
 */
export const rateLimit = (
  limiter: AnyLimiter | AnyKeyedLimiter,
  options: RateLimitOptions = {}
): (<E, R>(
  app: Effect.Effect<Response, E, R>
) => Effect.Effect<Response, E, R | HttpServerRequest.HttpServerRequest>) => {
  const config = Result.getOrThrow(rateLimitConfig(limiter, options))
  const { name } = limiter
  const { key = keyByAddress, cost = () => 1, wait, failOpen, retryAfter } = config

  const refuse = (told: Told, wait: Duration.Duration | undefined) => Exit.succeed(refusal(name, told, wait))

  return <E, R>(app: Effect.Effect<Response, E, R>) => {
    // The routes' exit is a value until the limiter is done, lest one of their failures be taken for the limiter's.
    type Outcome = Exit.Exit<Response, E>

    const serve = (told: Told): Effect.Effect<Outcome, never, R | HttpServerRequest.HttpServerRequest> =>
      Effect.exit(
        HttpEffect.withPreResponseHandler(app, (_request, response) => Effect.succeed(addFields(response, told)))
      )

    const pass = (limiter: AnyLimiter, n: number) => {
      const told = tellOf(limiter, name, n)
      const served = Effect.flatMap(told, serve)
      if (wait) {
        return Effect.catchTags(guarding(limiter, n)(served), {
          MaxSleepExceeded: ({ requiredSleep }) =>
            Effect.map(told, (told) => refuse(told, requiredSleep ?? retryAfter)),
          NoTokensAvailable: () => Effect.map(told, (told) => refuse(told, undefined))
        })
      }
      if (limiter.kind === "TokenBucket") {
        // Tokens are spent, and needn't be held while the request is served: both questions go out together.
        const asked = Effect.all([limiter.withPermitsIfAvailable(n)(Effect.void), told], { concurrency: 2 })
        return Effect.flatMap(asked, ([taken, told]) =>
          Option.isSome(taken) ? serve(told) : Effect.succeed(refuse(told, told.wait))
        )
      }
      return Effect.flatMap(limiter.withPermitsIfAvailable(n)(served), (outcome) =>
        Option.isSome(outcome) ? Effect.succeed(outcome.value) : Effect.map(told, (told) => refuse(told, retryAfter))
      )
    }

    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
      Effect.flatMap(
        limiterFor(limiter, () => key(request)),
        (limiter) => pass(limiter, cost(request))
      ).pipe(
        Effect.catchTags({
          BackendError: (error) =>
            failOpen
              ? Effect.andThen(Effect.logWarning("Serving a request without its limit", error), serve(nothing))
              : Effect.as(Effect.logWarning("Refusing a request whose limit is unknown", error), unavailable),
          PermitLost: () => Effect.succeed(unavailable),
          InvalidOptions: (error) => (error.field === "key" ? Effect.succeed(badRequest) : Effect.die(error))
        }),
        Effect.flatten
      )
    )
  }
}

/** What an answer tells of a limit. */
interface Told {
  readonly fields: Readonly<Record<string, string>>
  /** Before a request that is refused now would be served. */
  readonly wait?: Duration.Duration
}

const nothing: Told = { fields: {} }

const fieldsOf = (policy: QuotaPolicy, limit: ServiceLimit): Told["fields"] => ({
  "ratelimit-policy": formatQuotaPolicy(policy),
  ratelimit: formatServiceLimit(limit)
})

/** An answer that can't tell is better than none. */
const tellOf = (limiter: AnyLimiter, policy: string, n: number): Effect.Effect<Told> =>
  Effect.orElseSucceed(
    limiter.kind === "TokenBucket"
      ? Effect.map(limiter.stateFor(n), ({ tokens, capacity, wait, nextToken, fillTime }) => ({
          fields: fieldsOf(
            { policy, quota: Math.floor(capacity), window: finite(fillTime) },
            { policy, remaining: Math.floor(tokens), reset: finite(nextToken) }
          ),
          wait
        }))
      : Effect.map(limiter.state, ({ capacity, held }) => ({
          fields: fieldsOf(
            { policy, quota: capacity, unit: "concurrent-requests" },
            { policy, remaining: Math.max(0, capacity - held) }
          )
        })),
    () => nothing
  )

const finite = (duration: Duration.Duration): Duration.Duration | undefined =>
  Duration.isFinite(duration) ? duration : undefined

/** Several limits are told as one list each. */
const addFields = (response: Response, { fields }: Told): Response =>
  HttpServerResponse.setHeaders(
    response,
    Object.entries(fields).map(([name, value]) => {
      const others = response.headers[name]
      return [name, others === undefined ? value : `${others}, ${value}`] as const
    })
  )

const refusal = (policy: string, told: Told, wait: Duration.Duration | undefined): Response => {
  const response = ProblemDetails.toResponse({
    type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    title: "Too many requests",
    status: 429,
    "violated-policies": [policy]
  })
  const telling = addFields(response, told)
  return wait !== undefined && Duration.isFinite(wait)
    ? HttpServerResponse.setHeader(telling, "retry-after", `${Math.max(1, seconds(wait))}`)
    : telling
}

const unavailable = Exit.succeed(HttpServerResponse.empty({ status: 503 }))

const badRequest = Exit.succeed(
  HttpServerResponse.text("The key of this request is empty or too long", { status: 400 })
)
