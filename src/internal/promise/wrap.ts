/**
 * Functions whose calls go through a limiter.
 */
import type { Limiter } from "../../promise.ts"
import { checkFunction } from "./arguments.ts"

/** Methods stay methods: `this` is passed on. */
export const wrapWith = (name: string, withPermit: Limiter["withPermit"]): Limiter["wrap"] => {
  return (f) => {
    checkFunction(name, "f", f)
    return function (...args) {
      return withPermit(() => f.apply(this, args))
    }
  }
}
