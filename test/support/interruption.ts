/**
 * Interruptions at every point of what a fiber does.
 */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Scheduler } from "effect"
import type { TokenBucketLimiter } from "steindamm"

/** Runs an effect that yields after every few operations, lets it go on for a number of turns, and interrupts it. */
export const interruptedAfter = <A, E, R>(effect: Effect.Effect<A, E, R>, operations: number, turns: number) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Effect.provideService(effect, Scheduler.MaxOpsBeforeYield, operations), {
      startImmediately: true
    })
    for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
    yield* Fiber.interrupt(fiber)
    return yield* Fiber.await(fiber)
  })

/** Goes through many ways to divide time between fibers, and as many moments to interrupt at. */
export const sweep = <E, R>(body: (operations: number, turns: number) => Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    // With fewer than three operations between two yields a fiber gets nowhere.
    for (let operations = 3; operations <= 64; operations = Math.ceil(operations * 1.3)) {
      for (let turns = 0; turns <= 40; turns++) yield* body(operations, turns)
    }
  })

/** Interrupts guarded work that takes one step and yields; gives how it ended, and how many steps were taken. */
export const interruptedWork = <E>(
  guard: (work: Effect.Effect<void>) => Effect.Effect<void, E>,
  operations: number,
  turns: number
) =>
  Effect.gen(function* () {
    let steps = 0
    const work = Effect.andThen(
      Effect.sync(() => steps++),
      Effect.yieldNow
    )
    const exit = yield* interruptedAfter(guard(work), operations, turns)
    return { exit, steps }
  })

/**
 * Interrupts requests to a bucket of four tokens, which get no more, at every point: what no work used is there again.
 * Gives how many ended before their work had begun, and how many behind that.
 */
export const unusedTokensComeBack = (limiter: TokenBucketLimiter) =>
  Effect.gen(function* () {
    // Between the moment when work is begun and its first step there may be one yield, in which nobody can tell.
    const begun = new Map<number, number>()
    const ends = { before: 0, behind: 0 }
    yield* sweep((operations, turns) =>
      Effect.gen(function* () {
        yield* limiter.reset
        const { steps } = yield* interruptedWork(limiter.withPermit, operations, turns)
        ends[steps === 0 ? "before" : "behind"]++
        const { tokens } = yield* limiter.state
        if (tokens !== 4 - steps) begun.set(operations, (begun.get(operations) ?? 0) + 4 - steps - tokens)
      })
    )
    for (const [operations, times] of begun) assert.isAtMost(times, 2, `${operations}`)
    return ends
  })
