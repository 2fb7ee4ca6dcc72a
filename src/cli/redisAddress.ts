/**
 * Where Redis is, as the command line and the environment say.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { misuse, type Problem } from "./problem.ts"

export interface RedisAddress {
  /** One server; or nodes of a cluster, through which the others are found. */
  readonly urls: readonly [string, ...ReadonlyArray<string>]
  readonly isCluster: boolean
}

const fallback = Config.String("REDIS_URL").pipe(Config.withDefault("redis://localhost:6379"))

const isUrl = (text: string): boolean => /^rediss?:\/\/./.test(text) && URL.canParse(text)

export const redisAddress = (redis: Option.Option<string>, isCluster: boolean): Effect.Effect<RedisAddress, Problem> =>
  Effect.gen(function* () {
    const text = Option.isSome(redis) ? redis.value : yield* Effect.orDie(fallback)
    const [first = "", ...others] = text.split(",").map((url) => url.trim())
    const wrong = [first, ...others].find((url) => !isUrl(url))
    if (wrong !== undefined) {
      return yield* misuse(
        `"${withoutCredentials(wrong)}" is not a URL of Redis: write redis://host:port or rediss://host:port`
      )
    }
    return { urls: [first, ...others], isCluster: isCluster || others.length > 0 }
  })

const withoutCredentials = (url: string): string => url.replace(/\/\/.*@/, "//")

/** For messages. */
export const addressText = ({ urls }: RedisAddress): string => urls.map(withoutCredentials).join(",")
