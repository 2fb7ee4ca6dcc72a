/**
 * Helpers for programs of plain promises.
 */
import { setTimeout } from "node:timers/promises"
import { Effect, Exit, Scope } from "effect"
import { onTestFinished } from "vitest"

/** A promise that somebody else fulfils. */
export const gate = <A = void>() => {
  let open!: (value: A) => void
  const passed = new Promise<A>((resolve) => {
    open = resolve
  })
  return { passed, open }
}

/** What a promise is rejected with. */
export const rejection = async (promise: Promise<unknown>): Promise<unknown> => {
  const settled = await promise.then(
    (value) => ({ value }),
    (reason: unknown) => ({ reason })
  )
  if ("reason" in settled) return settled.reason
  throw new Error("It was not rejected", { cause: settled.value })
}

/** The signal's reason, once it aborts. */
export const aborted = (signal: AbortSignal): Promise<unknown> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason)
    else signal.addEventListener("abort", () => resolve(signal.reason), { once: true })
  })

/** Asks again and again, for what nobody tells. */
export const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await condition())) await setTimeout(2)
}

/** Milliseconds that a promise takes. */
export const elapsed = async (promise: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await promise()
  return performance.now() - start
}

/** Something of an Effect program, until the test is over. */
export const acquired = <A>(effect: Effect.Effect<A, never, Scope.Scope>): Promise<A> => {
  const scope = Scope.makeUnsafe()
  onTestFinished(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return Effect.runPromise(Scope.provide(effect, scope))
}

/** So many turns of the event loop. */
export const turns = async (n: number): Promise<void> => {
  for (let i = 0; i < n; i++) await new Promise(setImmediate)
}
