/**
 * An HTTP API with a quota for each key, on a free port of this machine: 429 to whoever exceeds it.
 */
import type { IncomingMessage } from "node:http"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import { monotonicSeconds } from "../monotonic.ts"
import { localServer } from "./localServer.ts"

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

const answerBy = (quota: Quota) => {
  const allowances = new Map<string, Allowance>()
  return Effect.fnUntraced(function* ({ headers }: IncomingMessage) {
    const key = String(headers["x-api-key"])
    const now = yield* monotonicSeconds
    const allowance = allowances.get(key) ?? new Allowance(quota, now)
    allowances.set(key, allowance)
    if (!allowance.take(now)) return { status: 429, text: "too many calls" }
    yield* Effect.sleep(latency)
    return { status: 200, text: "here you are" }
  })
}

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
        const address = yield* localServer(answerBy(quota))
        const client = yield* HttpClient.HttpClient
        const call = Effect.fnUntraced(function* (apiKey: string) {
          const response = yield* client.get(address, { headers: { "x-api-key": apiKey } })
          yield* response.text
          return response.status
        }, Effect.orDie)
        yield* warmUp(call("nobody"))
        return QuotaApi.of({ call })
      })
    ).pipe(Layer.provide(FetchHttpClient.layer))
}
