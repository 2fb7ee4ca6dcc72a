/**
 * Interruptions at every point of what a fiber does.
 */
import { Effect, Fiber, Scheduler } from "effect"

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
