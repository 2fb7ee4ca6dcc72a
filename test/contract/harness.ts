/**
 * One suite for all backends: a case is written as if time passed by itself. Over memory it does so on `TestClock`,
 * millisecond by millisecond and exactly; over Redis on the real clock, give or take a tolerance and what timers are late.
 */
import { assert, it } from "@effect/vitest"
import { Clock, Effect, Fiber, type Layer } from "effect"
import type { InvalidOptions, Semaphore, TokenBucket } from "steindamm"
import { driven } from "../support/driven.ts"
import { lateness } from "../support/lateness.ts"
import { firstUncaught } from "../support/uncaught.ts"

export interface Backend {
  readonly label: string
  readonly layer: Layer.Layer<TokenBucket | Semaphore, InvalidOptions>
  /** Milliseconds that something may come later than it should; 0: on the test clock. */
  readonly tolerance: number
}

type Case = Effect.Effect<void, unknown, TokenBucket | Semaphore>

/** Defines a case of a suite. */
export const caseFor =
  ({ layer, tolerance }: Backend) =>
  (claim: string, body: Case): void => {
    if (tolerance === 0) it.effect(claim, () => Effect.provide(driven(body), layer))
    else {
      it.live(claim, () =>
        Effect.flatMap(lateness, (late) => {
          lateBy = late
          return Effect.provide(body, layer)
        })
      )
    }
  }

/** In the case that runs. */
let lateBy = () => 0

let names = 0

/** A name that no other case uses. */
export const freshName = (): string => `limiter ${++names} of ${process.pid}`

/** What an effect gives, and after how many milliseconds. */
export const timed = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [value: A, elapsed: number], E, R> =>
  Effect.gen(function* () {
    const start = yield* Clock.currentTimeMillis
    const value = yield* effect
    return [value, (yield* Clock.currentTimeMillis) - start] as const
  })

/** Asserts that something took its time, and no longer. */
export const assertTook = ({ tolerance }: Backend, elapsed: number, expected: number, message?: string): void => {
  // What a case measures begins some time after what it is about.
  const early = tolerance / 2
  const late = tolerance === 0 ? 0 : lateBy()
  assert.isAtLeast(elapsed, expected - early - late, message)
  assert.isAtMost(elapsed, expected + tolerance + late, message)
}

/** Waits until a look shows what it should. */
export const eventually = <A, E, R>(
  look: Effect.Effect<A, E, R>,
  isSo: (seen: A) => boolean
): Effect.Effect<void, E, R> =>
  Effect.flatMap(look, (seen) =>
    isSo(seen)
      ? Effect.void
      : Effect.andThen(
          Effect.sleep(10),
          Effect.suspend(() => eventually(look, isSo))
        )
  )

/**
 * Of those that haven't ended, has whoever watches the first throw when it does: the others end all the same, and the
 * mistake is nobody's but the process's.
 */
export const outliveMistake = <A, E>(fibers: ReadonlyArray<Fiber.Fiber<A, E>>): Effect.Effect<void, E> =>
  Effect.gen(function* () {
    const uncaught = yield* firstUncaught
    const [first, ...others] = fibers.filter((fiber) => fiber.pollUnsafe() === undefined)
    const mistake = new Error("a mistake of who watches")
    first?.addObserver(() => {
      throw mistake
    })
    yield* Fiber.joinAll(others)
    assert.strictEqual(yield* uncaught, mistake)
  }).pipe(Effect.scoped)
