/**
 * What makes Redis go away for tests, and brings it back.
 */
import { Clock, Effect } from "effect"
import type { AwayState, BackendError } from "steindamm"
import type { RedisServer } from "./servers.ts"

export interface Fault {
  readonly begin: Effect.Effect<unknown>
  readonly end: Effect.Effect<unknown>
}

/** The servers need their data when they come back. */
export const faults: Record<string, (server: RedisServer) => Fault> = {
  killed: (server) => ({ begin: server.kill, end: server.start() }),
  stopped: (server) => ({ begin: server.pause, end: server.resume }),
  "out of memory": (server) => ({
    begin: server.command("CONFIG", "SET", "maxmemory", 1),
    end: server.command("CONFIG", "SET", "maxmemory", 0)
  }),
  "a replica": (server) => ({
    begin: server.command("REPLICAOF", server.host, 1),
    end: server.command("REPLICAOF", "NO", "ONE")
  })
}

interface Seen {
  readonly state: Effect.Effect<{ readonly away?: AwayState | undefined }, BackendError>
}

export const now: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/** Looks every few milliseconds until it is so, and gives how many that took. */
export const until = (condition: Effect.Effect<boolean, unknown>): Effect.Effect<number> =>
  Effect.gen(function* () {
    const begun = yield* now
    while (!(yield* Effect.orDie(condition))) yield* Effect.sleep("2 millis")
    return (yield* now) - begun
  })

export const isAway = ({ state }: Seen): Effect.Effect<boolean, BackendError> =>
  Effect.map(state, ({ away }) => away !== undefined)

export const untilAway = (limiter: Seen): Effect.Effect<number> => until(isAway(limiter))

export const untilBack = (limiter: Seen): Effect.Effect<number> =>
  until(Effect.map(isAway(limiter), (isAway) => !isAway))

/** Stops the server, and waits until that is noticed. */
export const stop = (limiter: Seen, server: RedisServer): Effect.Effect<number> =>
  Effect.andThen(server.pause, untilAway(limiter))

/** Lets it go on, and waits until that is noticed. */
export const goOn = (limiter: Seen, server: RedisServer): Effect.Effect<number> =>
  Effect.andThen(server.resume, untilBack(limiter))
