/**
 * Letting a fiber go on that waited for another one.
 *
 * It goes on at once, within what the other does: a turn of the event loop for each would double what it costs to hand
 * a permit over. But if it soon hands over to the next, and that one to the next, the stack grows, so that now and then
 * a turn of the scheduler comes in between.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/**
 * Tells somebody else something. Who watches a fiber that goes on at this may throw, which is not for whoever comes next
 * in line to suffer: it is thrown where nothing else is under way, as if the fiber had gone on by itself.
 */
export const tell = <A>(told: (value: A) => void, value: A): void => {
  try {
    told(value)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

type Resume = (effect: Effect.Effect<void>) => void

/** So many at most go on within each other. */
const deepest = 16

let depth = 0

/** Those who go on with the scheduler's next turn. Until then nobody else goes on at once, or they would be overtaken. */
let delayed = 0

const atOnce = (resume: Resume): void => {
  depth++
  tell(resume, Effect.void)
  depth--
}

export const goOn = (fiber: Fiber.Fiber<unknown, unknown>, resume: Resume): void => {
  if (depth < deepest && delayed === 0) {
    atOnce(resume)
    return
  }
  delayed++
  fiber.currentDispatcher.scheduleTask(() => {
    delayed--
    atOnce(resume)
  }, 0)
}
