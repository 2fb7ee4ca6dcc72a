/**
 * The command that all others belong to, with the options that all of them take.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Limiters } from "./limiters.ts"
import { type Problem, problem } from "./problem.ts"
import { redisAddress } from "./redisAddress.ts"

/** Off, unless it is named. */
export const switchFlag = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(Flag.withoutNegation, Flag.withDescription(description), Flag.withDefault(false))

export const steindamm = Command.make("steindamm").pipe(
  Command.withDescription("Looks into the limiters of a Redis, and repairs them."),
  Command.withSharedFlags({
    redis: Flag.String("redis").pipe(
      Flag.withMetavar("<url>"),
      Flag.withDescription(
        "Where Redis is; several URLs, separated by commas, are nodes of a cluster; redis-sentinel://host:port,host:port#group asks Sentinels (default: REDIS_URL, and without that redis://localhost:6379)"
      ),
      Flag.optional
    ),
    cluster: switchFlag(
      "cluster",
      "The URL is that of a node of a cluster (a node that answers is recognized without this)"
    ),
    prefix: Flag.String("prefix").pipe(
      Flag.withMetavar("<text>"),
      Flag.withDescription("What the keys of the limiters begin with (default: steindamm:)"),
      Flag.withDefault("steindamm:")
    ),
    json: switchFlag("json", "Print one JSON document")
  })
)

/** Loads what needs ioredis, which is an optional companion of the package: not everybody has it. */
export const loadRedis = <A>(load: () => Promise<A>): Effect.Effect<A, Problem> =>
  Effect.catch(Effect.tryPromise({ try: load, catch: (cause) => cause as Error }), (cause) =>
    /'ioredis'/.test(cause.message)
      ? Effect.fail(problem("Redis is reached through ioredis, which is not installed here: npm install ioredis"))
      : Effect.die(cause)
  )

/** Those that the options speak of. */
export const limitersOfOptions: Layer.Layer<Limiters, Problem, Command.CommandContext<"steindamm">> = Layer.unwrap(
  Effect.gen(function* () {
    const { redis, cluster, prefix } = yield* steindamm
    const address = yield* redisAddress(redis, cluster)
    const { redisLimiters } = yield* loadRedis(() => import("./redisLimiters.ts"))
    return redisLimiters(address, prefix)
  })
)
