/**
 * An HTTP server that allows each user three searches a minute, and one report at a time.
 *
 * The server runs on a free port of this machine and is asked by a client in this process. With `RedisLive` instead of
 * `LocalLive`, any number of servers count together.
 *
 *     npx node --conditions steindamm-source examples/per-user-http-server.ts
 */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"
import { keyByHeader, rateLimit } from "steindamm/http"

// Whoever can choose the user can choose the limit: in earnest, take the user from a session that was checked before.
const byUser = { key: keyByHeader("x-user") }

const searches = HttpRouter.middleware(
  Effect.map(
    TokenBucket.makeKeyed({ name: "searches", capacity: 3, refillAmount: 3, refillFrequency: "1 minute" }),
    (limiter) => rateLimit(limiter, byUser)
  )
)

const reports = HttpRouter.middleware(
  Effect.map(Semaphore.makeKeyed({ name: "reports", capacity: 1 }), (limiter) => rateLimit(limiter, byUser))
)

const routes = Layer.merge(
  HttpRouter.add("GET", "/search", HttpServerResponse.text("found")).pipe(Layer.provide(searches.layer)),
  HttpRouter.add("GET", "/report", Effect.as(Effect.sleep("200 millis"), HttpServerResponse.text("done"))).pipe(
    Layer.provide(reports.layer)
  )
)

const server = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provide(LocalLive),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
)

const program = Effect.gen(function* () {
  const client = yield* HttpClient.HttpClient
  const address = yield* HttpServer.addressFormattedWith(Effect.succeed)

  const ask = (user: string, path: string) =>
    Effect.gen(function* () {
      const { status, headers } = yield* client.get(`${address}${path}`, { headers: { "x-user": user } })
      const wait = headers["retry-after"]
      yield* Console.log(
        `${user} ${path}: ${status}, ${headers["ratelimit"]}${wait === undefined ? "" : `, come back in ${wait} s`}`
      )
    })

  for (let n = 0; n < 4; n++) yield* ask("ada", "/search")
  yield* ask("grace", "/search")
  yield* Effect.all([ask("ada", "/report"), ask("ada", "/report"), ask("grace", "/report")], {
    concurrency: "unbounded"
  })
})

await Effect.runPromise(program.pipe(Effect.provide(Layer.merge(server, FetchHttpClient.layer))))
