/**
 * An HTTP API with a quota for each key, on a free port of this machine: 429 to whoever exceeds it.
 */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer } from "effect"
import {
  FetchHttpClient,
  HttpClient,
  HttpClientRequest,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse
} from "effect/http"
import { monotonicSeconds } from "./monotonic.ts"

export interface Quota {
  /** Calls a second. */
  readonly rate: number
  /** Calls that may come at once after a calm time. */
  readonly burst: number
}

/** The time that the API works on a call. */
const latency = "30 millis"

/** Counts the calls of one key. It is the API's own, and knows nothing of the limiters of its callers. */
class Allowance {
  private readonly quota: Quota
  private left: number
  private counted: number

  constructor(quota: Quota, now: number) {
    this.quota = quota
    this.left = quota.burst
    this.counted = now
  }

  take(now: number): boolean {
    this.left = Math.min(this.quota.burst, this.left + (now - this.counted) * this.quota.rate)
    this.counted = now
    if (this.left < 1) return false
    this.left--
    return true
  }
}

const routes = (quota: Quota) => {
  const allowances = new Map<string, Allowance>()
  return HttpRouter.add(
    "GET",
    "/",
    Effect.gen(function* () {
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      const key = headers["x-api-key"] ?? ""
      const now = yield* monotonicSeconds
      const allowance = allowances.get(key) ?? new Allowance(quota, now)
      allowances.set(key, allowance)
      if (!allowance.take(now)) return HttpServerResponse.text("too many calls", { status: 429 })
      yield* Effect.sleep(latency)
      return HttpServerResponse.text("here you are")
    })
  )
}

const server = (quota: Quota) =>
  HttpRouter.serve(routes(quota), { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(
      NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: "1 second" })
    )
  )

/** The first calls of a process are slow, for they load the client and open connections: none of those is counted. */
const warmUp = (call: Effect.Effect<number>) =>
  Effect.all(
    Array.from({ length: 20 }, () => call),
    { concurrency: 10 }
  )

/** The API as its callers see it. */
export class QuotaApi extends Context.Service<
  QuotaApi,
  {
    /** The status of the answer: 200, or 429 for too many calls. */
    readonly call: (apiKey: string) => Effect.Effect<number>
  }
>()("steindamm/demo/QuotaApi") {
  static readonly layer = (quota: Quota) =>
    Layer.effect(
      QuotaApi,
      Effect.gen(function* () {
        const { address } = yield* HttpServer.HttpServer
        const client = HttpClient.mapRequest(
          yield* HttpClient.HttpClient,
          HttpClientRequest.prependUrl(HttpServer.formatAddress(address))
        )
        const call = Effect.fnUntraced(function* (apiKey: string) {
          const response = yield* client.get("/", { headers: { "x-api-key": apiKey } })
          yield* response.text
          return response.status
        }, Effect.orDie)
        yield* warmUp(call("nobody"))
        return QuotaApi.of({ call })
      })
    ).pipe(Layer.provide([server(quota), FetchHttpClient.layer]))
}
