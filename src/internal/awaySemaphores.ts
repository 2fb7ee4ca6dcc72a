/**
 * Semaphores in Redis whose permits are given without it while it is away, and count there when it returns.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { BackendError } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import type { SemaphoreState } from "../Semaphore.ts"
import type { WhenAway } from "../WhenAway.ts"
import { maxSpan } from "./bucket.ts"
import type { Restore } from "./bucketWaiters.ts"
import { closed, type Trouble } from "./lane.ts"
import { durationOf, type SemaphoreConfig } from "./options.ts"
import { gone, RedisPresence, type Server } from "./redisPresence.ts"
import { type RedisSemaphoreStore, RedisSemaphores } from "./redisSemaphores.ts"
import type { Grant, Refusal, SemaphoreStore } from "./semaphoreLimiter.ts"
import { type NoGrant, SemaphoreStandIn, StandInGrant } from "./semaphoreStandIn.ts"
import { monotonicMicros } from "./time.ts"
import { WaitingLine } from "./waitingLine.ts"

/** Who gives the permits of a semaphore in this absence, and what is needed to hand over. */
interface Deputed {
  readonly standIn: SemaphoreStandIn
  readonly server: Server
  readonly redis: RedisSemaphoreStore
}

/** What a caller wants, who may be sent back and forth. Times are monotonic microseconds. */
interface Wanted {
  readonly permits: number
  readonly asked: number
  readonly deadline: number
  /** It won't wait. */
  readonly isTry: boolean
}

/**
 * The semaphores of one layer that don't fail when Redis is away.
 */
export class AwaySemaphores {
  private readonly clock: Clock.Clock
  private readonly presence: RedisPresence
  private readonly kept: RedisSemaphores
  /** By policy and key, in this absence. */
  private readonly deputed = new Map<string, Deputed>()
  private isClosed = false

  /** `awayAfter` in microseconds. */
  constructor(
    client: RedisClient["Service"],
    process: string,
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    awayAfter: number
  ) {
    this.clock = clock
    this.presence = new RedisPresence(client, clock, fork, awayAfter, {
      onAway: (server) => this.kept.giveUp((key) => this.presence.serverOf(key) === server, gone),
      onReturn: (server) => this.onReturn(server)
    })
    this.kept = new RedisSemaphores(
      this.presence.client,
      process,
      clock,
      fork,
      (key) => this.presence.serverOf(key).isAway
    )
  }

  /** Brings home what is under way, then refuses everything. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    this.presence.close()
    for (const { standIn } of this.deputed.values()) {
      const { grants, askAnew } = standIn.end()
      for (const grant of grants) grant.lose()
      askAnew()
    }
    return this.kept.close
  })

  store(config: SemaphoreConfig, whenAway: Exclude<WhenAway, "fail">): SemaphoreStore {
    const { name, capacity } = config
    const redis = this.kept.store(config)
    const server = this.presence.serverOf(redis.key)
    const line = new WaitingLine()
    const deputyKey = `${whenAway === "allow" ? whenAway : "local"} ${redis.key}`
    const limit = whenAway === "allow" ? Number.POSITIVE_INFINITY : Math.floor(capacity * whenAway.local)

    const standIn = (): SemaphoreStandIn => {
      let deputed = this.deputed.get(deputyKey)
      if (deputed === undefined) {
        deputed = { standIn: new SemaphoreStandIn(limit, redis.holding()), server, redis }
        this.deputed.set(deputyKey, deputed)
      }
      return deputed.standIn
    }

    const takeNow = (permits: number): StandInGrant | undefined =>
      server.isAway ? standIn().takeNow(permits, () => new StandInGrant(redis.newId(permits), permits, 0)) : undefined

    const release = (grant: Grant): void => {
      this.deputed.get(deputyKey)?.standIn.release(grant)
      if (!(grant instanceof StandInGrant) || grant.isAdopted) redis.release(grant)
    }

    const failed = ({ reason, cause }: Trouble) =>
      Effect.fail(new BackendError({ operation: "acquire", name, reason, cause }))

    const take = <A, E, R>(
      request: Wanted,
      restore: Restore,
      onAnswer: (answer: Grant | Refusal) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | BackendError, R> => {
      const { permits, asked, deadline, isTry } = request

      const fromStandIn = (answer: StandInGrant | NoGrant): Effect.Effect<A, E | BackendError, R> => {
        if (answer === "Recalled") return take(request, restore, onAnswer)
        if (answer === "NeedsRedis") {
          const { reason, cause = gone.cause } = server.trouble
          return failed({ reason, cause })
        }
        return onAnswer(answer === "TimeUp" ? { _tag: "TimeUp" } : answer)
      }

      return Effect.suspend(() => {
        if (this.isClosed) return failed(closed)
        if (server.isAway) {
          const current = standIn()
          if (isTry) return fromStandIn(takeNow(permits) ?? (permits > current.limit ? "NeedsRedis" : "TimeUp"))
          const grantOf = () => new StandInGrant(redis.newId(permits), permits, this.now() - asked)
          return Effect.flatMap(current.take(permits, deadline, grantOf, line, restore, release), fromStandIn)
        }
        const left = deadline === Number.POSITIVE_INFINITY ? maxSpan : Math.max(0, deadline - this.now())
        if (left === 0 && !isTry) return onAnswer({ _tag: "TimeUp" })
        this.presence.expectMessage(server)
        const answered = Effect.onExitPrimitive(redis.take(permits, isTry ? 0 : left, restore, Effect.succeed), () => {
          this.presence.expectNoMessage(server)
          return undefined
        })
        return Effect.matchEffect(answered, {
          onSuccess: onAnswer,
          onFailure: (error) => {
            const waited = isTry ? undefined : left
            if (!this.presence.isMissed(server, error, waited, config.maxSleep)) return Effect.fail(error)
            return take(request, restore, onAnswer)
          }
        })
      })
    }

    const look: Effect.Effect<SemaphoreState, BackendError> = Effect.suspend(() => {
      const since = server.presence.awaySince
      if (since !== undefined) return Effect.succeed(this.stateOf(standIn(), capacity, since))
      return Effect.catch(redis.look, (error) => (this.presence.isMissed(server, error) ? look : Effect.fail(error)))
    })

    return {
      home: this,
      takeNow,
      take: (permits, maxWait, restore, onAnswer) =>
        Effect.suspend(() => {
          const asked = this.now()
          const deadline = maxWait === maxSpan ? Number.POSITIVE_INFINITY : asked + maxWait
          return take({ permits, asked, deadline, isTry: maxWait === 0 }, restore, onAnswer)
        }),
      release,
      resize: redis.resize,
      isAway: () => server.isAway,
      look,
      reset: redis.reset
    }
  }

  private stateOf(standIn: SemaphoreStandIn, capacity: number, since: number): SemaphoreState {
    const { limit, held, waiting, holding, admitted } = standIn
    return {
      capacity: Math.min(limit, capacity),
      held,
      waiting,
      holders: holding.map(({ id, permits, fencingToken }) => ({
        id,
        permits,
        fencingToken,
        leaseLeft: Duration.infinity
      })),
      away: { duration: durationOf(this.now() - since), admitted }
    }
  }

  /** What is held counts at Redis before anybody asks it for more. Who waits here asks there, in order. */
  private onReturn(server: Server): number {
    this.kept.reclaim((key) => this.presence.serverOf(key) === server)
    let admitted = 0
    const asking: Array<() => void> = []
    for (const [key, deputed] of this.deputed) {
      if (deputed.server !== server) continue
      const { standIn, redis } = deputed
      this.deputed.delete(key)
      const { grants, askAnew } = standIn.end()
      for (const grant of grants) {
        grant.isAdopted = true
        redis.adopt(grant)
      }
      asking.push(askAnew)
      admitted += standIn.admitted
    }
    for (const askAnew of asking) askAnew()
    return admitted
  }

  private now(): number {
    return monotonicMicros(this.clock)
  }
}
