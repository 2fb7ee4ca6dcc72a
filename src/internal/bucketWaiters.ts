/**
 * The waiters of one bucket that asked for equally much.
 *
 * They are interchangeable: when one leaves, those behind it move one place up, and what goes back is the latest of
 * the promises that this process holds, which nobody waits for then. So the store, which can't move a promise once it
 * is made, loses nothing. One timer is enough for all of them.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { Alarm } from "./alarm.ts"
import type { Reservation } from "./bucket.ts"
import { LinkedList, type Node } from "./linkedList.ts"

/** Those who waited for a bucket, and were sent away to ask anew. */
export interface Recalled {
  /** What they were promised, in order. */
  readonly reservations: ReadonlyArray<Reservation>
  /** Lets them ask, in order. */
  readonly askAnew: () => void
}

/** Makes a part of an uninterruptible region interruptible again, if the caller was. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** What the store promised: that a request runs at `due`, on the monotonic clock. */
interface Promised {
  readonly due: number
  readonly reservation: Reservation
}

interface Waiter {
  /** Lets the fiber go on. */
  wake: (() => void) | undefined
  /** The promise that it ran on. */
  served: Reservation | undefined
}

class Line {
  private readonly waiters = new LinkedList<Waiter>()
  private readonly promises = new LinkedList<Promised>()
  private readonly alarm = new Alarm((now) => this.serve(now))

  get isEmpty(): boolean {
    return this.waiters.size === 0
  }

  /** Joins where its promise belongs: nearly always at the end, but a fiber may be late to tell what it was promised. */
  enter(promised: Promised, fiber: Fiber.Fiber<unknown, unknown>): Node<Waiter> {
    let promise = this.promises.last
    let waiter = this.waiters.last
    while (promise !== undefined && promise.value.due > promised.due) {
      promise = promise.previous
      waiter = waiter?.previous
    }
    this.promises.add(promised, promise ?? null)
    const entered = this.waiters.add({ wake: undefined, served: undefined }, waiter ?? null)
    this.alarm.set(promised.due, fiber)
    return entered
  }

  untilServed(waiter: Node<Waiter>): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (waiter.list === undefined) return resume(Effect.void)
      waiter.value.wake = () => resume(Effect.void)
    })
  }

  /** Lets those go on whose time has come, and tells when the next one's comes. */
  private serve(now: number): number {
    for (;;) {
      const [promise, waiter] = [this.promises.first, this.waiters.first]
      if (promise === undefined || waiter === undefined) return Number.POSITIVE_INFINITY
      if (promise.value.due > now) return promise.value.due
      this.promises.remove(promise)
      this.waiters.remove(waiter)
      waiter.value.served = promise.value.reservation
      waiter.value.wake?.()
    }
  }

  /** Gives up; what is left over is what the store gets back. */
  leave(waiter: Node<Waiter>): Reservation | undefined {
    if (!this.waiters.remove(waiter)) return waiter.value.served
    const latest = this.promises.last
    if (latest !== undefined) this.promises.remove(latest)
    if (this.isEmpty) this.alarm.clear()
    return latest?.value.reservation
  }

  /** Takes back the promises that `concerns` says, and sends away the last in the line, for whom none is left. */
  recall(concerns: (reservation: Reservation) => boolean): ReadonlyArray<readonly [Reservation, Waiter]> {
    const recalled: Array<readonly [Reservation, Waiter]> = []
    let [promise, waiter] = [this.promises.last, this.waiters.last]
    while (promise !== undefined && waiter !== undefined) {
      const earlier = promise.previous
      if (concerns(promise.value.reservation)) {
        const ahead = waiter.previous
        this.promises.remove(promise)
        this.waiters.remove(waiter)
        recalled.push([promise.value.reservation, waiter.value])
        waiter = ahead
      }
      promise = earlier
    }
    if (this.isEmpty) this.alarm.clear()
    return recalled
  }

  /** All that its waiters were promised. */
  get promised(): number {
    let sum = 0
    for (const { reservation } of this.promises) sum += reservation.amount
    return sum
  }
}

/** All lines of a layer, by bucket and cost. An empty line takes no memory. */
export class BucketWaiters {
  private readonly lines = new Map<string, Map<number, Line>>()

  /**
   * Waits until `due` or, if others leave, until an earlier promise; gives the promise that was used, or nothing if the
   * waiter was recalled. Interrupted, it hands the promise that is left over to `giveBack`.
   *
   * The place in line is taken at once, in the step in which the promise was made: whoever leaves finds it there. So
   * the fiber, in an uninterruptible region, has to go on with what this returns.
   */
  wait(
    fiber: Fiber.Fiber<unknown, unknown>,
    name: string,
    due: number,
    reservation: Reservation,
    restore: Restore,
    giveBack: (reservation: Reservation) => Effect.Effect<void>
  ): Effect.Effect<Reservation | undefined> {
    const { amount } = reservation
    const line = this.lines.get(name)?.get(amount) ?? this.addLine(name, amount)
    const waiter = line.enter({ due, reservation }, fiber)
    const waited = Effect.onExitPrimitive(restore(line.untilServed(waiter)), (exit) => {
      const leftOver = exit._tag === "Failure" ? line.leave(waiter) : undefined
      if (line.isEmpty) this.dropLine(name, amount, line)
      return leftOver === undefined ? undefined : giveBack(leftOver)
    })
    return Effect.map(waited, () => waiter.value.served)
  }

  /**
   * Takes back promises about a bucket, all or those that `concerns` says, and sends as many waiters away, who are the
   * last of those that asked for equally much. The promises are the caller's to give back.
   */
  recall(name: string, concerns: (reservation: Reservation) => boolean = () => true): Recalled {
    const lines = this.lines.get(name) ?? new Map<number, Line>()
    const recalled = Array.from(lines.values()).flatMap((line) => line.recall(concerns))
    for (const [amount, line] of lines) if (line.isEmpty) this.dropLine(name, amount, line)
    recalled.sort(([one], [other]) => one.serial - other.serial)
    return {
      reservations: recalled.map(([reservation]) => reservation),
      askAnew: () => {
        for (const [, waiter] of recalled) waiter.wake?.()
      }
    }
  }

  /** All that those who wait for a bucket were promised. */
  promised(name: string): number {
    let sum = 0
    for (const line of this.lines.get(name)?.values() ?? []) sum += line.promised
    return sum
  }

  private addLine(name: string, amount: number): Line {
    const line = new Line()
    const lines = this.lines.get(name) ?? new Map<number, Line>()
    this.lines.set(name, lines.set(amount, line))
    return line
  }

  private dropLine(name: string, amount: number, line: Line): void {
    const lines = this.lines.get(name)
    if (lines?.get(amount) !== line) return
    lines.delete(amount)
    if (lines.size === 0) this.lines.delete(name)
  }
}
