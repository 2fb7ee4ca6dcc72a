/**
 * Waiting for an answer, but not for longer than is bearable: all who stand in a line share one timer.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { Alarm } from "./alarm.ts"
import type { Restore } from "./bucketWaiters.ts"
import { goOn } from "./handover.ts"
import { LinkedList, type Node } from "./linkedList.ts"

export interface Waiter {
  /** On the monotonic clock, and no sooner than that of those who came before; infinity: none. */
  readonly deadline: number
  readonly isAnswered: boolean
  /** To be called once there is an answer. */
  wake: (() => void) | undefined
}

export class WaitingLine {
  private readonly waiters = new LinkedList<Waiter>()
  private readonly alarm = new Alarm((now) => this.endUntil(now))

  /** Ends with the answer or at the deadline; interrupted or not, `onEnd` is told first. */
  wait(waiter: Waiter, restore: Restore, onEnd: (interrupted: boolean) => void): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      let place: Node<Waiter> | undefined
      const woken = Effect.callback<void>((resume) => {
        if (waiter.isAnswered) return resume(Effect.void)
        waiter.wake = () => goOn(fiber, resume)
        place = this.enter(waiter, fiber)
      })
      return Effect.onExitPrimitive(restore(woken), (exit) => {
        waiter.wake = undefined
        if (place !== undefined) this.leave(place)
        onEnd(exit._tag === "Failure")
        return undefined
      })
    })
  }

  private enter(waiter: Waiter, fiber: Fiber.Fiber<unknown, unknown>): Node<Waiter> | undefined {
    if (waiter.deadline === Number.POSITIVE_INFINITY) return undefined
    const place = this.waiters.add(waiter)
    this.alarm.set(waiter.deadline, fiber)
    return place
  }

  private leave(place: Node<Waiter>): void {
    this.waiters.remove(place)
    if (this.waiters.size === 0) this.alarm.clear()
  }

  /** Wakes those who have waited long enough, and tells the next deadline. */
  private endUntil(now: number): number {
    for (let first = this.waiters.first; first !== undefined; first = this.waiters.first) {
      if (first.value.deadline > now) return first.value.deadline
      this.waiters.remove(first)
      first.value.wake?.()
    }
    return Number.POSITIVE_INFINITY
  }
}
