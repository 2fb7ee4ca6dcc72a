/**
 * How a limiter for plain promises closes.
 */
import type { Closable } from "../../promise.ts"
import { timeoutOf } from "./arguments.ts"
import type { Backend } from "./backend.ts"
import type { Calls } from "./calls.ts"
import { runPromise } from "./runtime.ts"

export const closable = (name: string, backend: Backend, calls: Calls): Closable => {
  let left: Promise<void> | undefined
  const close: Closable["close"] = async (options) => {
    await runPromise(calls.close(timeoutOf(name, options)))
    left ??= runPromise(backend.leave)
    await left
  }
  return { close, [Symbol.asyncDispose]: () => close() }
}
