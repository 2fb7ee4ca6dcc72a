/**
 * Finds the keys of limiters without ever holding Redis up: SCAN in small steps, and a bound to their number.
 */
import * as Effect from "effect/Effect"
import type { Redis } from "ioredis"
import { type LimiterAddress, limiterKey, parseLimiterKey } from "../internal/limiterKeys.ts"
import type { Found, Search } from "./limiters.ts"
import type { Problem } from "./problem.ts"
import type { RedisAddress } from "./redisAddress.ts"
import { ask } from "./redisPrimaries.ts"

/** Keys that Redis looks at in one step: well below a millisecond of its time. */
const keysPerStep = 500

/** Steps of a search, over all primaries: it looks at a million keys. */
const mostSteps = 2_000

const literally = (text: string): string => text.replace(/[\\*?[\]]/g, "\\$&")

const byName = (a: LimiterAddress, b: LimiterAddress): number =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : a.kind < b.kind ? -1 : 1

export const searchKeys = Effect.fnUntraced(function* (
  address: RedisAddress,
  nodes: ReadonlyArray<Redis>,
  prefix: string,
  { accepts, most }: Search
): Effect.fn.Return<Found, Problem> {
  // While slots move, and as the tables of a server grow, a key may turn up twice.
  const found = new Map<string, LimiterAddress>()
  const result = (isAll: boolean): Found => ({
    limiters: [...found.values()].sort(byName).slice(0, most),
    isCut: !isAll || found.size > most
  })
  let steps = 0
  for (const node of nodes) {
    let cursor = "0"
    do {
      if (found.size > most || steps === mostSteps) return result(false)
      steps++
      const [next, keys] = yield* ask(address, () =>
        node.scan(cursor, "MATCH", `${literally(prefix)}{*}:*`, "COUNT", keysPerStep)
      )
      cursor = next
      for (const key of keys) {
        const limiter = parseLimiterKey(prefix, key)
        if (limiter !== undefined && accepts(limiter)) found.set(limiterKey(prefix, limiter), limiter)
      }
    } while (cursor !== "0")
  }
  return result(true)
})
