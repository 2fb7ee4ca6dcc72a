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
  /** On the monotonic clock; infinity: none. */
  readonly deadline: number
  readonly isAnswered: boolean
  /** To be called once there is an answer. */
  wake: (() => void) | undefined
}

export class WaitingLine {
  /** In each the deadlines ascend. Those who came to wait equally long fit into one, so that there are few. */
  private readonly rows: Array<LinkedList<Waiter>> = []
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
    const { deadline } = waiter
    if (deadline === Number.POSITIVE_INFINITY) return undefined
    const place = this.rowFor(deadline).add(waiter)
    this.alarm.set(deadline, fiber)
    return place
  }

  private rowFor(deadline: number): LinkedList<Waiter> {
    for (const row of this.rows) if (row.last === undefined || row.last.value.deadline <= deadline) return row
    const row = new LinkedList<Waiter>()
    this.rows.push(row)
    return row
  }

  private leave(place: Node<Waiter>): void {
    place.list?.remove(place)
    if (this.rows.every(({ size }) => size === 0)) this.alarm.clear()
  }

  /** Wakes those who have waited long enough, and tells the next deadline. */
  private endUntil(now: number): number {
    let next = Number.POSITIVE_INFINITY
    for (const row of this.rows) {
      for (let { first } = row; first !== undefined; first = row.first) {
        const { deadline, wake } = first.value
        if (deadline > now) {
          next = Math.min(next, deadline)
          break
        }
        row.remove(first)
        wake?.()
      }
    }
    return next
  }
}
