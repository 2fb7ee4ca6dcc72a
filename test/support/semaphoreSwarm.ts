/**
 * Many fibers of several backends that all want the same semaphore, and what could be seen of them: every backend has
 * connections of its own, as separate processes would.
 */
import { Clock, Effect, Exit, Fiber, Layer, Random, References, type Scope } from "effect"
import { type BackendError, type InvalidOptions, Semaphore, type SemaphoreOptions } from "steindamm"
import { type RedisClient, RedisSemaphoreLive } from "steindamm/redis"

export interface SwarmOptions {
  readonly client: Layer.Layer<RedisClient, InvalidOptions>
  readonly semaphore: SemaphoreOptions & { readonly capacity: number }
  readonly backends: number
  /** In each backend. */
  readonly fibers: number
  /** How long permits are held, in milliseconds: from, to. */
  readonly hold: readonly [number, number]
  /** Milliseconds. */
  readonly duration: number
  /** Goes on beyond the duration until that many have been interrupted, or have given up. */
  readonly atLeast?: { readonly interrupted?: number; readonly maxSleepExceeded?: number }
  /** Permits to ask for, one of these each time. */
  readonly permits?: ReadonlyArray<number>
  /** Interrupts a round after up to so many milliseconds. */
  readonly interruptWithin?: number
  /** What happens meanwhile; it is interrupted at the end. */
  readonly meanwhile?: Effect.Effect<unknown>
}

export interface SwarmResult {
  readonly admissions: number
  /** The most permits in use at any moment. */
  readonly peak: number
  /** The longest time, in milliseconds, for which more permits were in use than there are. */
  readonly longestOverlap: number
  readonly interrupted: number
  readonly maxSleepExceeded: number
  readonly backendErrors: ReadonlyArray<BackendError>
  readonly lost: number
  /** Grants that had the fencing token of another. */
  readonly repeatedTokens: number
  /** The longest time, in milliseconds, in which nobody was admitted. */
  readonly longestStall: number
  /** Permits in use once everybody has gone. */
  readonly leftOver: number
  /** Requests waiting once everybody has gone. */
  readonly stillWaiting: number
}

export const runSwarm = (options: SwarmOptions): Effect.Effect<SwarmResult, BackendError | InvalidOptions> =>
  quietly(
    Effect.gen(function* () {
      const live = Layer.fresh(RedisSemaphoreLive.pipe(Layer.provide(Layer.fresh(options.client))))
      const limiters = yield* Effect.forEach(Array.from({ length: options.backends }), () =>
        Effect.flatMap(Layer.build(live), (context) =>
          Effect.provideContext(Semaphore.make(options.semaphore), context)
        )
      )
      const seen = { admissions: 0, peak: 0, interrupted: 0, maxSleepExceeded: 0, lost: 0 }
      const backendErrors: Array<BackendError> = []
      let inside = 0
      let longestOverlap = 0
      let overSince: number | undefined
      const clock = yield* Clock.Clock
      const use = (permits: number) => {
        inside += permits
        seen.peak = Math.max(seen.peak, inside)
        const now = clock.currentTimeMillisUnsafe()
        if (inside > options.semaphore.capacity) overSince ??= now
        else if (overSince !== undefined) {
          longestOverlap = Math.max(longestOverlap, now - overSince)
          overSince = undefined
        }
      }
      const tokens = new Set<number>()
      let longestStall = 0
      const start = yield* Clock.currentTimeMillis
      let lastAdmission = start
      const end = start + options.duration
      const { interrupted = 0, maxSleepExceeded = 0 } = options.atLeast ?? {}
      const isEnough = (now: number) =>
        now >= end && seen.interrupted >= interrupted && seen.maxSleepExceeded >= maxSleepExceeded

      const section = (limiter: (typeof limiters)[number], permits: number, hold: number) =>
        Effect.scoped(
          Effect.flatMap(limiter.acquire(permits), (permit) => {
            use(permits)
            seen.admissions++
            tokens.add(permit.fencingToken)
            return Effect.andThen(Clock.currentTimeMillis, (now) => {
              longestStall = Math.max(longestStall, now - lastAdmission)
              lastAdmission = now
              return Effect.ensuring(
                Effect.raceFirst(Effect.sleep(hold), permit.lost),
                Effect.sync(() => use(-permits))
              )
            })
          })
        )

      const round = (limiter: (typeof limiters)[number]) =>
        Effect.gen(function* () {
          const choices = options.permits ?? [1]
          const permits = choices[yield* Random.nextIntBetween(0, choices.length)] ?? 1
          const hold = yield* Random.nextBetween(...options.hold)
          const work = section(limiter, permits, hold)
          if (options.interruptWithin === undefined) return yield* Effect.exit(work)
          const fiber = yield* Effect.forkChild(work, { startImmediately: true })
          const patience = yield* Random.nextBetween(0, options.interruptWithin)
          yield* Effect.raceFirst(Effect.sleep(patience), Effect.exit(Fiber.await(fiber)))
          yield* Fiber.interrupt(fiber)
          return yield* Fiber.await(fiber)
        })

      const worker = (limiter: (typeof limiters)[number]) =>
        Effect.gen(function* () {
          while (!isEnough(yield* Clock.currentTimeMillis)) {
            const exit = yield* round(limiter)
            if (Exit.isSuccess(exit)) continue
            const error = Exit.findErrorOption(exit)
            if (error._tag === "None") seen.interrupted++
            else if (error.value._tag === "MaxSleepExceeded") seen.maxSleepExceeded++
            else if (error.value._tag === "PermitLost") seen.lost++
            else if (error.value._tag === "BackendError") backendErrors.push(error.value)
            else return yield* error.value
          }
        })

      const chaos = yield* Effect.forkChild(options.meanwhile ?? Effect.void)
      yield* Effect.forEach(
        limiters.flatMap((limiter) => Array.from({ length: options.fibers }, () => limiter)),
        worker,
        { concurrency: "unbounded", discard: true }
      )
      yield* Fiber.interrupt(chaos)
      const [first] = limiters
      const state = first === undefined ? { held: 0, waiting: 0 } : yield* settled(first)
      return {
        ...seen,
        repeatedTokens: seen.admissions - tokens.size,
        backendErrors,
        longestOverlap,
        longestStall,
        leftOver: state.held,
        stillWaiting: state.waiting
      }
    })
  )

const quietly = <A, E>(swarm: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E> =>
  Effect.provideService(Effect.scoped(swarm), References.MinimumLogLevel, "Error")

/** The state once what was released in the background has arrived: at the latest after three seconds. */
const settled = Effect.fnUntraced(function* (limiter: {
  readonly state: Effect.Effect<{ held: number; waiting: number }, BackendError>
}) {
  for (let attempt = 0; attempt < 150; attempt++) {
    const state = yield* limiter.state
    if (state.held === 0 && state.waiting === 0) return state
    yield* Effect.sleep("20 millis")
  }
  return yield* limiter.state
})
