/**
 * A third-party API that allows 100 calls a minute, and a client that keeps to it.
 *
 * The API is a stand-in within this process. With `RedisLive` instead of `LocalLive`, any number of processes keep to
 * the 100 calls together, and all of them stay away when one is told to.
 *
 *     npx node --conditions steindamm-source examples/third-party-api.ts
 */
import { Clock, Console, Effect, Layer } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServerResponse } from "effect/http"
import { LocalLive, TokenBucket } from "steindamm"
import { limitRequests, rateLimit } from "steindamm/http"

const perMinute = (calls: number) =>
  ({ capacity: calls, refillAmount: calls, refillFrequency: "1 minute", refill: "continuous" }) as const

const api = HttpRouter.toWebHandler(
  HttpRouter.add("GET", "/weather", HttpServerResponse.text("sunny")).pipe(
    Layer.provide(
      HttpRouter.middleware(
        Effect.map(TokenBucket.make({ name: "api", ...perMinute(100) }), (limiter) => rateLimit(limiter))
      ).layer
    ),
    Layer.provide(LocalLive)
  ),
  { disableLogger: true }
)

const url = "https://weather.example/weather"

const program = Effect.gen(function* () {
  const begun = yield* Clock.currentTimeMillis
  const say = (message: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`${((now - begun) / 1000).toFixed(1)} s  ${message}`))

  // Some calls fewer than allowed: they take longer to get there at one time than at another.
  const limiter = yield* TokenBucket.make({ name: "weather", ...perMinute(95) })
  const unlimited = yield* HttpClient.HttpClient
  const client = unlimited.pipe(limitRequests(limiter))

  yield* say("97 calls, of which 95 may be made at once")
  yield* Effect.forEach(
    Array.from({ length: 97 }, (_, index) => index + 1),
    (n) =>
      Effect.gen(function* () {
        const { status, headers } = yield* client.get(url)
        if (n >= 95) yield* say(`call ${n}: ${status}, and the API says ${headers["ratelimit"]}`)
      }),
    { concurrency: "unbounded" }
  )

  yield* Effect.sleep("700 millis")
  yield* say("somebody else uses up what is left of the account")
  yield* Effect.repeat(unlimited.get(url), { until: ({ status }) => status === 429 })

  const refused = yield* client.get(url)
  yield* say(`call 98: ${refused.status}, come back in ${refused.headers["retry-after"]} s`)
  const served = yield* client.get(url)
  yield* say(`call 99: ${served.status}`)
})

const fetchFromApi = FetchHttpClient.layer.pipe(
  Layer.provide(
    Layer.succeed(FetchHttpClient.Fetch, (input, init) => api.handler(new Request(input, init as RequestInit)))
  )
)

await Effect.runPromise(program.pipe(Effect.provide(fetchFromApi), Effect.provide(LocalLive)))
await api.dispose()
