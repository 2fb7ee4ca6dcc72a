/**
 * Where Redis is, as the command line and the environment say.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { defaultUrl } from "../internal/defaultUrl.ts"
import { isAddress, isRedisUrl, isSentinelUrl } from "../internal/redisAddress.ts"
import { misuse, type Problem } from "./problem.ts"

export interface RedisAddress {
  /** One server, or the Sentinels that know it; or nodes of a cluster, through which the others are found. */
  readonly urls: readonly [string, ...ReadonlyArray<string>]
  readonly isCluster: boolean
}

export const redisAddress = (redis: Option.Option<string>, isCluster: boolean): Effect.Effect<RedisAddress, Problem> =>
  Effect.gen(function* () {
    const text = Option.isSome(redis) ? redis.value : Redacted.value(yield* Effect.orDie(defaultUrl))
    const isOne = isSentinelUrl(text) || !text.includes(",")
    if (isOne && isAddress(text) && !isCluster) return { urls: [text], isCluster }
    const [first = "", ...others] = text.split(",").map((url) => url.trim())
    const wrong = [first, ...others].find((url) => !isRedisUrl(url))
    if (wrong !== undefined) {
      return yield* misuse(
        `"${withoutCredentials(wrong)}" is not a URL of Redis: write redis://host:port, rediss://host:port, redis-sentinel://host:port,host:port#group (or rediss-sentinel) or the path of a socket, with special characters of a password percent-encoded`
      )
    }
    return { urls: [first, ...others], isCluster: isCluster || others.length > 0 }
  })

const withoutCredentials = (url: string): string => url.replace(/\/\/.*@/, "//")

/** For messages. */
export const addressText = ({ urls }: RedisAddress): string => urls.map(withoutCredentials).join(",")
