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
  /** Lets the fiber look at its place again. */
  wake: (() => void) | undefined
  /** The promise that it ran on. */
  served: Reservation | undefined
}

class Line {
  private readonly waiters = new LinkedList<Waiter>()
  private readonly promises = new LinkedList<Promised>()

  get isEmpty(): boolean {
    return this.waiters.size === 0
  }

  /** Joins where its promise belongs: nearly always at the end, but a fiber may be late to tell what it was promised. */
  enter(promised: Promised): Node<Waiter> {
    let promise = this.promises.last
    let waiter = this.waiters.last
    while (promise !== undefined && promise.value.due > promised.due) {
      promise = promise.previous
      waiter = waiter?.previous
    }
    const overtaken = waiter === undefined ? this.waiters.first : undefined
    this.promises.add(promised, promise ?? null)
    const entered = this.waiters.add({ wake: undefined, served: undefined }, waiter ?? null)
    overtaken?.value.wake?.()
    return entered
  }

  untilServed(waiter: Node<Waiter>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const woken = Effect.callback<void>((resume) => {
        waiter.value.wake = () => resume(Effect.void)
      })
      const due = this.promises.first?.value.due
      if (this.waiters.first !== waiter || due === undefined) {
        return Effect.flatMap(woken, () => this.untilServed(waiter))
      }
      const slept = Effect.as(sleepUntil(due), true)
      return Effect.flatMap(Effect.raceFirst(slept, Effect.as(woken, false)), (isDue) => {
        if (!isDue || this.waiters.first !== waiter) return this.untilServed(waiter)
        this.serve(waiter)
        return Effect.void
      })
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
    if (wasFirst) this.waiters.first?.value.wake?.()
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
