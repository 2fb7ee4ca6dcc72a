import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer, Schedule } from "effect"
import {
  FetchHttpClient,
  HttpClient,
  HttpClientError,
  HttpClientRequest,
  HttpClientResponse,
  HttpRouter,
  HttpServer,
  HttpServerResponse
} from "effect/http"
import { TestClock } from "effect/testing"
import { Limiter, LocalLive, Semaphore, TokenBucket, type TokenBucketLimiter } from "steindamm"
import { limitRequests } from "steindamm/http"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import { driven } from "./support/driven.ts"
import { start } from "./support/fibers.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

/** A server in this process that answers in turn, the last answer for ever, and remembers when it was asked. */
const server = (...answers: ReadonlyArray<ResponseInit & { readonly takes?: number }>) => {
  const asked: Array<number> = []
  const client = HttpClient.make((request) =>
    Effect.gen(function* () {
      const answer = answers[Math.min(asked.length, answers.length - 1)]
      asked.push(yield* Clock.currentTimeMillis)
      yield* Effect.sleep(answer?.takes ?? 0)
      return HttpClientResponse.fromWeb(request, new Response(null, answer))
    })
  )
  return { asked, client }
}

const ok = { status: 200 }

const refusing = (fields: Record<string, string>, status = 429) => ({ status, headers: fields })

const url = "https://api.example/"

const times = <A, E, R>(n: number, effect: Effect.Effect<A, E, R>) =>
  Effect.all(
    Array.from({ length: n }, () => effect),
    { concurrency: "unbounded" }
  )

describe("a client behind a token bucket", () => {
  it.effect("sends requests at its rate", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api", capacity: 2, refillFrequency: 100 })
      const { asked, client } = server(ok)
      yield* driven(times(4, client.pipe(limitRequests(limiter)).get(url)))
      assert.deepStrictEqual(asked, [0, 0, 100, 200])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("keeps to several limits at once, all of which stay away when the server says so", () =>
    Effect.gen(function* () {
      const perSecond = yield* TokenBucket.make({ name: "second", capacity: 2, refillFrequency: 100 })
      const perDay = yield* TokenBucket.make({ name: "day", capacity: 10, refillFrequency: "1 day" })
      const connections = yield* Semaphore.make({ name: "connections", capacity: 1 })
      const { asked, client } = server(ok, refusing({ "retry-after": "2" }), ok)
      const limited = client.pipe(limitRequests(Limiter.all([perSecond, perDay, connections])))
      yield* driven(Effect.forEach([1, 2, 3], () => limited.get(url)))
      assert.deepStrictEqual(asked, [0, 0, 2000])
      assert.strictEqual((yield* perDay.state).tokens, 7)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("keeps to one limit for each host, or for each key", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.makeKeyed({ name: "api", capacity: 1, refillFrequency: 100 })
      const { asked, client } = server(ok)
      const perHost = client.pipe(limitRequests(limiter))
      const urls = ["https://a.example/x", "https://b.example/", "https://a.example/y"]
      yield* driven(Effect.forEach(urls, (url) => perHost.get(url), { concurrency: "unbounded" }))
      assert.deepStrictEqual(asked, [0, 0, 100])
      assert.strictEqual((yield* limiter.state("a.example")).tokens, 0)
      const perPath = client.pipe(limitRequests(limiter, { key: (request) => new URL(request.url).pathname }))
      yield* perPath.get("https://a.example/z")
      assert.strictEqual((yield* limiter.state("/z")).tokens, 0)
      const noKey = client.pipe(limitRequests(limiter, { key: () => "" }))
      assert.deepInclude(yield* Effect.flip(noKey.get(url)), { _tag: "InvalidOptions", field: "key" })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("takes what a request costs", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api", capacity: 5 })
      const { client } = server(ok)
      const limited = client.pipe(limitRequests(limiter, { cost: (request) => Number(request.headers["x-cost"]) }))
      yield* limited.execute(HttpClientRequest.get(url).pipe(HttpClientRequest.setHeader("x-cost", "3")))
      assert.strictEqual((yield* limiter.state).tokens, 2)
      const tooMuch = limited.execute(HttpClientRequest.get(url).pipe(HttpClientRequest.setHeader("x-cost", "6")))
      assert.deepInclude(yield* Effect.flip(tooMuch), { _tag: "InvalidOptions", field: "permits" })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("stays away for as long as a response that refuses says", () =>
    Effect.gen(function* () {
      const until = (millis: number) => new Date(millis).toUTCString()
      for (const [refusal, pause] of [
        [refusing({ "retry-after": "5" }), 5000],
        [refusing({ "retry-after": until(7000), date: until(0) }), 7000],
        [refusing({ "retry-after": "2" }, 503), 2000],
        [refusing({ ratelimit: '"default";r=0;t=3' }), 3000],
        [refusing({ "ratelimit-remaining": "0", "ratelimit-reset": "4" }), 4000],
        [refusing({}), 0],
        [refusing({ "retry-after": "5" }, 500), 0],
        [{ status: 200, headers: { ratelimit: '"default";r=0;t=3' } }, 0]
      ] as const) {
        const limiter = yield* TokenBucket.make({ name: JSON.stringify(refusal), capacity: 10 })
        const { asked, client } = server(refusal, ok)
        const limited = client.pipe(limitRequests(limiter))
        const start = yield* Clock.currentTimeMillis
        assert.strictEqual((yield* limited.get(url)).status, refusal.status)
        yield* driven(limited.get(url), 100)
        assert.deepStrictEqual(
          asked.map((time) => time - start),
          [0, pause],
          JSON.stringify(refusal)
        )
      }
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("makes requests that wait already wait longer, and retries of others' making go through it", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api", capacity: 1, refillFrequency: 100 })
      const { asked, client } = server({ ...refusing({ "retry-after": "2" }), takes: 50 }, ok)
      const limited = client.pipe(
        limitRequests(limiter),
        HttpClient.retryTransient({ schedule: Schedule.spaced(0), times: 3 })
      )
      const responses = yield* driven(times(3, limited.get(url)), 10)
      assert.deepStrictEqual(
        responses.map(({ status }) => status),
        [200, 200, 200]
      )
      // Refused at 0, told at 50; the bucket has saved up one token when the pause ends.
      assert.deepStrictEqual(asked, [0, 2050, 2100, 2200])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("is held off for no longer than maxPause", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api", maxSleep: 0 })
      const { asked, client } = server(refusing({ "retry-after": "999999999999" }), ok)
      const limited = client.pipe(limitRequests(limiter, { maxPause: "3 seconds" }))
      yield* limited.get(url)
      yield* driven(limited.get(url), 100)
      assert.deepStrictEqual(asked, [0, 3000])
      const trusting = server(refusing({ "retry-after": "999999999999" })).client.pipe(limitRequests(limiter))
      yield* trusting.get(url)
      assert.deepStrictEqual((yield* limiter.state).wait, Duration.hours(1))
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("heeds a refusal that an inner client has made an error of", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "api" })
      const { client } = server(refusing({ "retry-after": "5" }))
      const limited = client.pipe(HttpClient.filterStatusOk, limitRequests(limiter))
      const error = yield* Effect.flip(limited.get(url))
      assert.isTrue(HttpClientError.isHttpClientError(error))
      assert.deepStrictEqual((yield* limiter.state).wait, Duration.seconds(5))
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("pauses the key that was refused, and no other", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.makeKeyed({ name: "api" })
      const { client } = server(refusing({ "retry-after": "5" }))
      yield* client.pipe(limitRequests(limiter)).get("https://a.example/")
      assert.deepStrictEqual((yield* limiter.state("a.example")).wait, Duration.seconds(5))
      assert.deepStrictEqual((yield* limiter.state("b.example")).wait, Duration.zero)
    }).pipe(Effect.provide(LocalLive))
  )
})

describe("a client behind a semaphore", () => {
  it.effect("has as many requests under way as there are permits", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "api", capacity: 2 })
      const { asked, client } = server({ ...ok, takes: 100 })
      yield* driven(times(5, client.pipe(limitRequests(limiter)).get(url)))
      assert.deepStrictEqual(asked, [0, 0, 100, 100, 200])
      assert.strictEqual((yield* limiter.state).held, 0)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("stays away with the permits that it gets while a response that refused says so", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "api", capacity: 2 })
      const { asked, client } = server({ ...refusing({ "retry-after": "5" }), takes: 10 }, { ...ok, takes: 10 })
      const limited = client.pipe(limitRequests(limiter))
      yield* driven(limited.get(url))
      const fiber = yield* start(times(3, limited.get(url)))
      yield* TestClock.adjust(4000)
      assert.deepStrictEqual(asked, [0])
      assert.deepInclude(yield* limiter.state, { held: 2, waiting: 1 })
      yield* driven(Fiber.join(fiber))
      assert.deepStrictEqual(asked, [0, 5010, 5010, 5020])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("fails what finds out only with its permit that it would have to stay away for too long", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "api", capacity: 1, maxSleep: "10 seconds" })
      const { asked, client } = server({ ...refusing({ "retry-after": "60" }), takes: 100 }, ok)
      const limited = client.pipe(limitRequests(limiter))
      const exits = yield* driven(times(2, Effect.result(limited.get(url))))
      assert.deepStrictEqual(
        exits.map(({ _tag }) => _tag),
        ["Success", "Failure"]
      )
      assert.strictEqual(asked.length, 1)
      assert.strictEqual((yield* limiter.state).held, 0)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("stays away until the latest of several refusals says", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "api", capacity: 2 })
      const later = { ...refusing({ "retry-after": "1" }), takes: 20 }
      const { asked, client } = server({ ...refusing({ "retry-after": "5" }), takes: 10 }, later, ok)
      const limited = client.pipe(limitRequests(limiter))
      yield* driven(times(2, limited.get(url)))
      yield* driven(limited.get(url))
      assert.deepStrictEqual(asked, [0, 0, 5010])
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("fails at once what would have to stay away for too long, though it would wait for a permit as well", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "api", capacity: 1, maxSleep: "10 seconds" })
      const limited = server(refusing({ "retry-after": "60" })).client.pipe(limitRequests(limiter))
      yield* limited.get(url)
      yield* start(limiter.withPermit(Effect.never))
      const error = yield* Effect.flip(limited.get(url))
      assert.deepInclude({ ...error }, { _tag: "MaxSleepExceeded", requiredSleep: Duration.minutes(1) })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("keeps to one limit for each host, and away from the host that refused", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.makeKeyed({ name: "api", capacity: 1 })
      const { asked, client } = server({ ...refusing({ "retry-after": "1" }), takes: 100 }, { ...ok, takes: 100 })
      const limited = client.pipe(limitRequests(limiter))
      const urls = ["https://a.example/", "https://b.example/", "https://a.example/"]
      yield* driven(Effect.forEach(urls, (url) => limited.get(url), { concurrency: "unbounded" }))
      assert.deepStrictEqual(asked, [0, 0, 1100])
    }).pipe(Effect.provide(LocalLive))
  )
})

describe.each([
  ["a token bucket", TokenBucket.make],
  ["a semaphore", Semaphore.make]
] as const)("a client behind %s", (_, make) => {
  it.effect("fails at once what would have to stay away for longer than maxSleep", () =>
    Effect.gen(function* () {
      const limiter = yield* make({ name: "api", maxSleep: "10 seconds" })
      const { asked, client } = server(refusing({ "retry-after": "60" }), ok)
      const limited = client.pipe(limitRequests(limiter))
      yield* limited.get(url)
      const error = yield* Effect.flip(limited.get(url))
      assert.deepInclude({ ...error }, { _tag: "MaxSleepExceeded", requiredSleep: Duration.minutes(1) })
      yield* TestClock.adjust("50 seconds")
      yield* driven(limited.get(url), 100)
      assert.deepStrictEqual(asked, [0, 60_000])
    }).pipe(Effect.provide(LocalLive))
  )
})

describe("two processes that call one API", () => {
  it.live("are both slowed when one of them is refused", () =>
    Effect.gen(function* () {
      const asked: Array<number> = []
      const route = Effect.sync(() => {
        asked.push(performance.now())
        return asked.length === 1
          ? HttpServerResponse.empty({ status: 429, headers: { "retry-after": "1" } })
          : HttpServerResponse.text("hello")
      })
      const routes = HttpRouter.add("GET", "/", route)
      const app = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
      )
      const context = yield* Layer.build(app)
      const address = yield* Effect.provideContext(HttpServer.addressFormattedWith(Effect.succeed), context)

      const live = RedisLive.pipe(
        Layer.provide(RedisClient.layer({ url: inject("redisUrl"), keyPrefix: freshKeyPrefix() }))
      )
      /** With connections of its own. */
      const process = Effect.gen(function* () {
        const context = yield* Layer.build(Layer.fresh(live))
        const limiter: TokenBucketLimiter = yield* Effect.provideContext(
          TokenBucket.make({ name: "api", capacity: 10, refillFrequency: 100 }),
          context
        )
        return (yield* HttpClient.HttpClient).pipe(limitRequests(limiter))
      })
      const [told, other] = [yield* process, yield* process]
      assert.strictEqual((yield* told.get(address)).status, 429)
      const statuses = yield* Effect.all([other.get(address), told.get(address)], { concurrency: "unbounded" })
      assert.deepStrictEqual(
        statuses.map(({ status }) => status),
        [200, 200]
      )
      const [refused = 0, ...later] = asked
      for (const time of later) assert.isAtLeast(time - refused, 995)
      assert.isBelow(Math.max(...later) - refused, 5000)
    }).pipe(Effect.provide(FetchHttpClient.layer), Effect.scoped)
  )
})
