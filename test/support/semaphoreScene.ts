/**
 * Several processes that share a semaphore, a look at it from outside, and what must be true of what they did.
 */
import { assert } from "@effect/vitest"
import { Effect, Layer, type Scope } from "effect"
import { Semaphore, type SemaphoreLimiter } from "steindamm"
import { RedisClient, RedisSemaphoreLive } from "steindamm/redis"
import { type Findings, micros } from "./history.ts"
import { type SemaphoreProcess, type SemaphoreProcesses, semaphoreProcesses } from "./semaphoreProcesses.ts"
import type { Work } from "./semaphoreWorker.ts"
import { until } from "./servers.ts"

const keyPrefix = "processes:"
/** Milliseconds. */
export const lease = 1000

export const semaphoreOf = (name: string, capacity: number) =>
  ({ name, capacity, expiry: lease, maxSleep: "20 seconds" }) as const

export interface Scene {
  readonly processes: SemaphoreProcesses
  readonly limiter: SemaphoreLimiter
}

export const sceneAt = Effect.fnUntraced(function* (
  url: string,
  name: string,
  capacity: number,
  work: Partial<Work> = {}
): Effect.fn.Return<Scene, never, Scope.Scope> {
  const semaphore = semaphoreOf(name, capacity)
  const processes = yield* semaphoreProcesses({ url, keyPrefix, semaphore, fibers: 10, permits: 1, ...work })
  const limiter = yield* Effect.orDie(
    Effect.flatMap(
      Layer.build(RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layer({ url, keyPrefix })))),
      (context) => Effect.provideContext(Semaphore.make(semaphore), context)
    )
  )
  return { processes, limiter }
})

export const say = (name: string, figures: object): Effect.Effect<void> =>
  Effect.sync(() => console.log(name, JSON.stringify(figures)))

export const each = (
  processes: ReadonlyArray<SemaphoreProcess>,
  f: (one: SemaphoreProcess) => Effect.Effect<unknown>
): Effect.Effect<void> => Effect.forEach(processes, f, { concurrency: "unbounded", discard: true })

export const go = (one: SemaphoreProcess): Effect.Effect<void> => one.tell("go")
export const end = (one: SemaphoreProcess): Effect.Effect<void> => one.end

/** How many milliseconds it takes until nobody holds or waits any more. */
export const emptied = Effect.fnUntraced(function* (limiter: SemaphoreLimiter) {
  const start = micros()
  yield* until(Effect.map(limiter.state, ({ held, waiting }) => held === 0 && waiting === 0))
  return (micros() - start) / 1000
})

/** What holds as long as no data is lost and no process stopped. */
export const assertSound = (found: Findings, capacity: number): void => {
  assert.isAtMost(found.peak, capacity)
  assert.strictEqual(found.repeatedTokens, 0)
  assert.strictEqual(found.tokensOutOfOrder, 0)
  assert.strictEqual(found.unended, 0)
  assert.isAbove(found.admissions, 0)
}
