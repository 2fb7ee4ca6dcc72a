/**
 * Waiting for an answer, but not for longer than is bearable. Of all who wait with the same patience only the first
 * sleeps until its deadline, which is the next one; then it hands over.
 */
import * as Effect from "effect/Effect"
import type { Restore } from "./bucketWaiters.ts"
import { LinkedList, type Node } from "./linkedList.ts"
import { sleepUntil } from "./time.ts"

export interface Waiter {
  /** On the monotonic clock; infinity: none. */
  readonly deadline: number
  readonly isAnswered: boolean
  /** To be called once there is an answer. */
  wake: (() => void) | undefined
}

export class WaitingLine {
  private readonly waiters = new LinkedList<Waiter>()

  /** Ends with the answer or at the deadline; interrupted or not, `onEnd` is told first. */
  wait(waiter: Waiter, restore: Restore, onEnd: (interrupted: boolean) => void): Effect.Effect<void> {
    const place = waiter.deadline === Number.POSITIVE_INFINITY ? undefined : this.waiters.add(waiter)
    return Effect.onExitPrimitive(restore(this.untilAnswered(waiter, place)), (exit) => {
      if (place !== undefined) this.leave(place)
      onEnd(exit._tag === "Failure")
      return undefined
    })
  }

  private untilAnswered(waiter: Waiter, place: Node<Waiter> | undefined): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (waiter.isAnswered) return Effect.void
      const isFirst = this.isFirst(place)
      const woken = Effect.callback<void>((resume) => {
        waiter.wake = () => resume(Effect.void)
        // The fiber may have yielded since it looked, and nothing could wake it then.
        if (waiter.isAnswered || isFirst !== this.isFirst(place)) resume(Effect.void)
      })
      return isFirst
        ? Effect.raceFirst(woken, sleepUntil(waiter.deadline))
        : Effect.flatMap(woken, () => this.untilAnswered(waiter, place))
    })
  }

  private isFirst(place: Node<Waiter> | undefined): boolean {
    return place !== undefined && this.waiters.first === place
  }

  private leave(place: Node<Waiter>): void {
    const wasFirst = this.waiters.first === place
    this.waiters.remove(place)
    if (wasFirst) this.waiters.first?.value.wake?.()
  }
}
