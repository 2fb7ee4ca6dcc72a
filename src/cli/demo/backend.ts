/**
 * Where the demo's limiters live: in memory, or in the Redis that the command line names. This is the only place that
 * knows.
 */
import type * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { LocalLive } from "../../Local.ts"
import type { Semaphore } from "../../Semaphore.ts"
import type { TokenBucket } from "../../TokenBucket.ts"
import type { Problem } from "../problem.ts"
import { redisAddress } from "../redisAddress.ts"
import { loadRedis, steindamm } from "../steindamm.ts"

export const backend: Layer.Layer<TokenBucket | Semaphore, Problem, Command.CommandContext<"steindamm">> = Layer.unwrap(
  Effect.gen(function* () {
    const { redis, cluster, prefix } = yield* steindamm
    if (Option.isNone(redis) && !cluster) return LocalLive
    const address = yield* redisAddress(redis, cluster)
    const { redisBackend } = yield* loadRedis(() => import("../redisBackend.ts"))
    return redisBackend(address, prefix)
  })
)
