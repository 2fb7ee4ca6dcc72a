import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, References, Scope } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"
import { keyByAddress, keyByHeader, rateLimit } from "steindamm/http"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { startServer } from "./support/servers.ts"

type Middleware = ReturnType<typeof rateLimit>

type Answer = Effect.Effect<Response>

/** Asks routes that are behind middlewares, the outermost last, for what they answer. */
const serving = <E, R>(
  route: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R | HttpServerRequest.HttpServerRequest>,
  ...middlewares: ReadonlyArray<Middleware>
) =>
  Effect.gen(function* () {
    const app = middlewares.reduce((app: typeof route, middleware) => middleware(app), route)
    const context = yield* Effect.context<Exclude<R, HttpServerRequest.HttpServerRequest>>()
    const { handler, dispose } = HttpRouter.toWebHandler(HttpRouter.add("GET", "/", app as never), {
      disableLogger: true
    })
    yield* Effect.addFinalizer(() => Effect.promise(dispose))
    return (headers: Record<string, string> = {}): Answer =>
      Effect.promise(() => handler(new Request("http://localhost/", { headers }), context as never))
  })

const hello = Effect.succeed(HttpServerResponse.text("hello"))

/** A field of an answer, in which a test that is slow by some seconds changes nothing. */
const field = (response: Response, name: string): string | null =>
  response.headers.get(name)?.replace(/(?<=t=|^)\d{2,}/g, (seconds) => String(Math.ceil(Number(seconds) / 10) * 10)) ??
  null

const telling = (response: Response) => [
  response.status,
  field(response, "ratelimit-policy"),
  field(response, "ratelimit"),
  field(response, "retry-after")
]

const byUser = { key: keyByHeader("x-user") }

describe("a server behind a token bucket", () => {
  it.live("serves what the bucket of a key lets through, and answers 429 to the rest", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.makeKeyed({ name: "search", capacity: 2, refillFrequency: "1 minute" })
      const ask = yield* serving(hello, rateLimit(limiter, byUser))
      const policy = '"search";q=2;w=120'
      assert.deepStrictEqual(telling(yield* ask({ "x-user": "ada" })), [200, policy, '"search";r=1;t=60', null])
      assert.deepStrictEqual(telling(yield* ask({ "x-user": "ada" })), [200, policy, '"search";r=0;t=60', null])
      const refused = yield* ask({ "x-user": "ada" })
      assert.deepStrictEqual(telling(refused), [429, policy, '"search";r=0;t=60', "60"])
      assert.strictEqual(refused.headers.get("content-type"), "application/problem+json")
      assert.deepInclude(yield* Effect.promise(() => refused.json() as Promise<object>), {
        status: 429,
        "violated-policies": ["search"]
      })
      assert.deepStrictEqual(telling(yield* ask({ "x-user": "grace" })), [200, policy, '"search";r=1;t=60', null])
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("tells a quota that never refills without any time, and no reset when nothing was taken", () =>
    Effect.gen(function* () {
      const quota = yield* TokenBucket.make({ name: "trial", capacity: 1, refillAmount: 0, refillFrequency: 0 })
      const ask = yield* serving(hello, rateLimit(quota))
      assert.deepStrictEqual(telling(yield* ask()), [200, '"trial";q=1', '"trial";r=0', null])
      assert.deepStrictEqual(telling(yield* ask()), [429, '"trial";q=1', '"trial";r=0', null])
      const free = yield* serving(hello, rateLimit(yield* TokenBucket.make({ name: "free" }), { cost: () => 0 }))
      assert.deepStrictEqual(telling(yield* free()), [200, '"free";q=5;w=5', '"free";r=5', null])
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("tells whole tokens only", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "odd", capacity: 3.5, refillFrequency: "1 minute" })
      const ask = yield* serving(hello, rateLimit(limiter))
      assert.deepStrictEqual(telling(yield* ask()), [200, '"odd";q=3;w=240', '"odd";r=2;t=60', null])
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("takes what a request costs, and tells when that much will be there", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "units", capacity: 5, refillFrequency: "1 minute" })
      const cost = (request: HttpServerRequest.HttpServerRequest) => Number(request.headers["x-cost"])
      const ask = yield* serving(hello, rateLimit(limiter, { cost }))
      assert.deepStrictEqual(telling(yield* ask({ "x-cost": "3" })).slice(2), ['"units";r=2;t=60', null])
      assert.deepStrictEqual(telling(yield* ask({ "x-cost": "4" })).slice(2), ['"units";r=2;t=60', "120"])
      assert.strictEqual((yield* ask({ "x-cost": "2" })).status, 200)
      assert.strictEqual((yield* ask({ "x-cost": "6" })).status, 500)
    }).pipe(Effect.provide(LocalLive), Effect.provideService(References.MinimumLogLevel, "None"))
  )

  it.live("waits up to maxSleep if it is asked to", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "waits", capacity: 1, refillFrequency: 1000, maxSleep: 1500 })
      const ask = yield* serving(hello, rateLimit(limiter, { wait: true }))
      const begun = performance.now()
      const answers = yield* Effect.all([ask(), ask(), ask()], { concurrency: "unbounded" })
      assert.sameMembers(
        answers.map(({ status }) => status),
        [200, 200, 429]
      )
      assert.isAtLeast(performance.now() - begun, 995)
      const refused = answers.find(({ status }) => status === 429)
      assert.strictEqual(refused?.headers.get("retry-after"), "2")
      const quota = yield* TokenBucket.make({ name: "trial", initialTokens: 0, refillAmount: 0, refillFrequency: 0 })
      const empty = yield* serving(hello, rateLimit(quota, { wait: true }))
      assert.deepStrictEqual(telling(yield* empty()), [429, '"trial";q=5', '"trial";r=0', null])
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("tells several limits as one list each", () =>
    Effect.gen(function* () {
      const burst = yield* TokenBucket.make({ name: "burst", capacity: 1, refillFrequency: "1 minute" })
      const day = yield* TokenBucket.make({ name: "day", capacity: 9, refillAmount: 9, refillFrequency: "1 day" })
      const ask = yield* serving(hello, rateLimit(burst), rateLimit(day))
      const listed = (response: Response, name: string) => field(response, name)?.split(", ").sort()
      const policies = ['"burst";q=1;w=60', '"day";q=9;w=86400']
      const served = yield* ask()
      assert.deepStrictEqual(listed(served, "ratelimit-policy"), policies)
      assert.deepStrictEqual(listed(served, "ratelimit"), ['"burst";r=0;t=60', '"day";r=8;t=86400'])
      const refused = yield* ask()
      assert.deepStrictEqual([refused.status, field(refused, "retry-after")], [429, "60"])
      assert.deepStrictEqual(listed(refused, "ratelimit-policy"), policies)
      assert.deepStrictEqual(listed(refused, "ratelimit"), ['"burst";r=0;t=60', '"day";r=7;t=86400'])
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("tells its limit also when the routes fail, and takes no failure of theirs for its own", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "outer", capacity: 9, refillFrequency: "1 minute" })
      const inner = yield* TokenBucket.make({ name: "inner", initialTokens: 0, maxSleep: 1 })
      const missing = yield* serving(Effect.succeed(HttpServerResponse.empty({ status: 404 })), rateLimit(limiter))
      assert.deepStrictEqual(telling(yield* missing()).slice(0, 3), [404, '"outer";q=9;w=540', '"outer";r=8;t=60'])
      for (const options of [{}, { wait: true }]) {
        const failing = yield* serving(inner.withPermit(hello), rateLimit(limiter, options))
        const answer = yield* failing()
        assert.strictEqual(answer.status, 500)
        assert.match(String(answer.headers.get("ratelimit")), /^"outer";r=/)
      }
    }).pipe(Effect.provide(LocalLive), Effect.provideService(References.MinimumLogLevel, "None"))
  )

  it.live("answers 400 to a key that is too long", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.makeKeyed({ name: "search" })
      const ask = yield* serving(hello, rateLimit(limiter, byUser))
      assert.strictEqual((yield* ask({ "x-user": "a".repeat(600) })).status, 400)
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("keys by header, or by address where there is none", () =>
    Effect.gen(function* () {
      const request = (headers: Record<string, string>) =>
        HttpServerRequest.fromWeb(new Request("http://localhost/", { headers })).modify({
          remoteAddress: { _tag: "Some", value: "192.0.2.1" } as never
        })
      assert.strictEqual(keyByAddress(request({})), "192.0.2.1")
      assert.strictEqual(keyByHeader("X-User")(request({ "x-user": "ada" })), "ada")
      assert.strictEqual(keyByHeader("X-User")(request({})), "192.0.2.1")
      assert.strictEqual(keyByHeader("X-User")(request({ "x-user": "" })), "192.0.2.1")
      assert.strictEqual(keyByAddress(HttpServerRequest.fromWeb(new Request("http://localhost/"))), "unknown")
    })
  )
})

describe("a server behind a semaphore", () => {
  it.live("serves as many requests of a key at once as there are permits", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.makeKeyed({ name: "reports", capacity: 1 })
      const started = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      const report = Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(end))
      const ask = yield* serving(Effect.andThen(report, hello), rateLimit(limiter, byUser))
      const first = yield* Effect.forkChild(ask({ "x-user": "ada" }))
      yield* Deferred.await(started)
      const policy = '"reports";q=1;qu="concurrent-requests"'
      assert.deepStrictEqual(telling(yield* ask({ "x-user": "ada" })), [429, policy, '"reports";r=0', "1"])
      yield* Deferred.succeed(end, undefined)
      assert.deepStrictEqual(telling(yield* Fiber.join(first)), [200, policy, '"reports";r=0', null])
      assert.strictEqual((yield* ask({ "x-user": "ada" })).status, 200)
      assert.strictEqual((yield* limiter.state("ada")).held, 0)
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("waits if it is asked to, and tells when to come back if it was in vain", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "reports", capacity: 1, maxSleep: 200 })
      const ask = yield* serving(hello, rateLimit(limiter, { wait: true, retryAfter: "7 seconds" }))
      const scope = yield* Scope.make()
      yield* Scope.provide(limiter.acquire(), scope)
      assert.strictEqual(telling(yield* ask())[3], "7")
      const waiting = yield* Effect.forkChild(ask())
      yield* Effect.sleep(50)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(waiting)).status, 200)
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("tells that nothing is left when more are held than there are, and nobody to come back at once", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "reports", capacity: 3 })
      const ask = yield* serving(hello, rateLimit(limiter, { retryAfter: 0 }))
      yield* limiter.acquire(3)
      yield* limiter.resize(1)
      const policy = '"reports";q=1;qu="concurrent-requests"'
      assert.deepStrictEqual(telling(yield* ask()), [429, policy, '"reports";r=0', "1"])
    }).pipe(Effect.provide(LocalLive))
  )

  it.live("answers 503 when the permit is lost", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "reports", capacity: 1 })
      const started = yield* Deferred.make<void>()
      const ask = yield* serving(Effect.andThen(Deferred.succeed(started, undefined), Effect.never), rateLimit(limiter))
      const asking = yield* Effect.forkChild(ask())
      yield* Deferred.await(started)
      yield* limiter.reset
      assert.strictEqual((yield* Fiber.join(asking)).status, 503)
    }).pipe(Effect.provide(LocalLive))
  )
})

describe("a server whose Redis is away", () => {
  it.live("refuses requests with 503, or serves them all if it is told to", () =>
    Effect.gen(function* () {
      const redis = yield* startServer()
      const warnings: Array<unknown> = []
      const logger = Logger.layer([Logger.make(({ message }) => void warnings.push(message))])
      const live = RedisLive.pipe(Layer.provide(RedisClient.layer({ url: redis.url })))
      yield* Effect.gen(function* () {
        const options = { name: "away", maxSleep: 100 }
        const limiters = [yield* TokenBucket.makeKeyed(options), yield* Semaphore.make(options)] as const
        yield* redis.kill
        for (const limiter of limiters) {
          const closed = yield* serving(hello, rateLimit(limiter))
          assert.strictEqual((yield* closed()).status, 503)
          const open = yield* serving(hello, rateLimit(limiter, { failOpen: true }))
          assert.deepStrictEqual(telling(yield* open()), [200, null, null, null])
        }
      }).pipe(Effect.provide(live), Effect.provide(logger))
      assert.isAtLeast(warnings.length, 4)
    }).pipe(Effect.scoped)
  )
})

describe("two servers that share a Redis", () => {
  it.live("count the requests of a key together", () =>
    Effect.gen(function* () {
      const keyPrefix = freshKeyPrefix()
      /** A server of its own, with connections of its own. */
      const start = Effect.gen(function* () {
        const limit = HttpRouter.middleware(
          Effect.map(TokenBucket.makeKeyed({ name: "api", capacity: 3, refillFrequency: "1 minute" }), (limiter) =>
            rateLimit(limiter, byUser)
          ),
          { global: true }
        )
        const routes = Layer.merge(HttpRouter.add("GET", "/", HttpServerResponse.text("hello")), limit)
        const app = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
          Layer.provide(RedisLive),
          Layer.provide(RedisClient.layer({ url: inject("redisUrl"), keyPrefix })),
          Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
        )
        const context = yield* Layer.build(Layer.fresh(app))
        return yield* Effect.provideContext(HttpServer.addressFormattedWith(Effect.succeed), context)
      })
      const urls = [yield* start, yield* start]
      const client = yield* HttpClient.HttpClient
      const statuses: Array<number> = []
      for (let i = 0; i < 6; i++) {
        const response = yield* client.get(String(urls[i % 2]), { headers: { "x-user": "ada" } })
        statuses.push(response.status)
        assert.include(response.headers["ratelimit"], `"api";r=${Math.max(0, 2 - i)};t=`)
      }
      assert.deepStrictEqual(statuses, [200, 200, 200, 429, 429, 429])
      assert.strictEqual((yield* client.get(String(urls[0]))).status, 200)
    }).pipe(Effect.provide(FetchHttpClient.layer), Effect.scoped)
  )
})
