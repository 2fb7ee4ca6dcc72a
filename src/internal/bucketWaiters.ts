/**
 * The waiters of one bucket that asked for equally much.
 *
 * They are interchangeable: when one leaves, those behind it move one place up, and what goes back is the latest of
 * the promises that this process holds, which nobody waits for then. So the store, which can't move a promise once it
 * is made, loses nothing. Only the first waiter sleeps; it hands over to the next.
 */
import * as Effect from "effect/Effect"
import type { Reservation } from "./bucket.ts"
import { LinkedList, type Node } from "./linkedList.ts"
import { sleepUntil } from "./time.ts"

/** Makes a part of an uninterruptible region interruptible again, if the caller was. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** What the store promised: that a request runs at `due`, on the monotonic clock. */
interface Promised {
  readonly due: number
  readonly reservation: Reservation
}

interface Waiter {
  /** Continues the fiber as first of the line. */
  moveUp: (() => void) | undefined
  /** The promise that it ran on. */
  served: Reservation | undefined
}

class Line {
  private readonly waiters = new LinkedList<Waiter>()
  private readonly promises = new LinkedList<Promised>()

  get isEmpty(): boolean {
    return this.waiters.size === 0
  }

  enter(promised: Promised): Node<Waiter> {
    let before = this.promises.last
    while (before !== undefined && before.value.due > promised.due) before = before.previous
    this.promises.add(promised, before ?? null)
    return this.waiters.add({ moveUp: undefined, served: undefined })
  }

  untilServed(waiter: Node<Waiter>): Effect.Effect<void> {
    const asFirst = Effect.suspend(() =>
      Effect.andThen(
        sleepUntil(this.promises.first?.value.due ?? 0),
        Effect.sync(() => this.serve(waiter))
      )
    )
    return this.waiters.first === waiter
      ? asFirst
      : Effect.callback<void>((resume) => {
          waiter.value.moveUp = () => resume(asFirst)
        })
  }

  private serve(waiter: Node<Waiter>): void {
    const promise = this.promises.first
    if (promise === undefined) return
    this.promises.remove(promise)
    waiter.value.served = promise.value.reservation
    this.step(waiter)
  }

  /** Gives up; what is left over is what the store gets back. */
  leave(waiter: Node<Waiter>): Reservation | undefined {
    if (waiter.list === undefined) return waiter.value.served
    const latest = this.promises.last
    if (latest !== undefined) this.promises.remove(latest)
    this.step(waiter)
    return latest?.value.reservation
  }

  private step(waiter: Node<Waiter>): void {
    const wasFirst = this.waiters.first === waiter
    this.waiters.remove(waiter)
    if (wasFirst) this.waiters.first?.value.moveUp?.()
  }
}

/** All lines of a layer, by bucket and cost. An empty line takes no memory. */
export class BucketWaiters {
  private readonly lines = new Map<string, Line>()

  /**
   * Waits until `due` or, if others leave, until an earlier promise; gives the promise that was used. Interrupted, it
   * hands the promise that is left over to `giveBack`.
   */
  wait(
    name: string,
    due: number,
    reservation: Reservation,
    restore: Restore,
    giveBack: (reservation: Reservation) => Effect.Effect<void>
  ): Effect.Effect<Reservation> {
    return Effect.suspend(() => {
      const key = `${reservation.amount}:${name}`
      const line = this.lines.get(key) ?? new Line()
      this.lines.set(key, line)
      const waiter = line.enter({ due, reservation })
      const waited = Effect.onExitPrimitive(restore(line.untilServed(waiter)), (exit) => {
        const leftOver = exit._tag === "Failure" ? line.leave(waiter) : undefined
        if (line.isEmpty && this.lines.get(key) === line) this.lines.delete(key)
        return leftOver === undefined ? undefined : giveBack(leftOver)
      })
      return Effect.map(waited, () => waiter.value.served ?? reservation)
    })
  }
}
