/**
 * The waiters of one bucket, or of the same several buckets, that asked for equally much.
 *
 * They are interchangeable: when one leaves, those behind it move one place up, and what goes back is the latest of
 * the promises that this process holds, which nobody waits for then. So the store, which can't move a promise once it
 * is made, loses nothing. One timer is enough for all of them.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { Alarm } from "./alarm.ts"
import type { Reservation } from "./bucket.ts"
import { isStandInReservation } from "./bucketStandIn.ts"
import type { Abandonable } from "./claim.ts"
import { tell } from "./handover.ts"
import { LinkedList, type Node } from "./linkedList.ts"

/** What a store promised to somebody who waits. */
export interface Promised {
  /** When it runs, on the monotonic clock. */
  readonly due: number
  /** To be called in a fiber. */
  readonly giveBack: () => void
  /** What was taken of a bucket. */
  readonly reservationIn: (bucket: string) => Reservation
}

/** Those who waited for a bucket, and were sent away to ask anew. */
export interface Recalled {
  /** What they were promised, in order. */
  readonly promises: ReadonlyArray<Promised>
  /** Lets them ask, in order. */
  readonly askAnew: () => void
}

/** Makes a part of an uninterruptible region interruptible again, if the caller was. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** A place in line. Abandoned, it gives back the promise that is left over. */
export interface Place<P> extends Abandonable {
  /** Goes on when a promise is due, and gives that; or nothing if the waiter was recalled. */
  readonly served: Effect.Effect<P | undefined>
}

interface Waiter {
  /** Lets the fiber go on. */
  wake: (() => void) | undefined
  /** The promise that it ran on. */
  served: Promised | undefined
}

class Line {
  /** What all of them wait for. */
  readonly buckets: ReadonlyArray<string>
  private readonly waiters = new LinkedList<Waiter>()
  private readonly promises = new LinkedList<Promised>()
  private readonly alarm = new Alarm((now) => this.serve(now))

  constructor(buckets: ReadonlyArray<string>) {
    this.buckets = buckets
  }

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
      waiter.value.wake = () => tell(resume, Effect.void)
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
      waiter.value.served = promise.value
      waiter.value.wake?.()
    }
  }

  /** Gives up; what is left over is what the store gets back. */
  leave(waiter: Node<Waiter>): Promised | undefined {
    if (!this.waiters.remove(waiter)) return waiter.value.served
    const latest = this.promises.last
    if (latest !== undefined) this.promises.remove(latest)
    if (this.isEmpty) this.alarm.clear()
    return latest?.value
  }

  /** Takes back the promises that `concerns` says, and sends away the last in the line, for whom none is left. */
  recall(concerns: (promised: Promised) => boolean): ReadonlyArray<readonly [Promised, Waiter]> {
    const recalled: Array<readonly [Promised, Waiter]> = []
    let [promise, waiter] = [this.promises.last, this.waiters.last]
    while (promise !== undefined && waiter !== undefined) {
      const earlier = promise.previous
      if (concerns(promise.value)) {
        const ahead = waiter.previous
        this.promises.remove(promise)
        this.waiters.remove(waiter)
        recalled.push([promise.value, waiter.value])
        waiter = ahead
      }
      promise = earlier
    }
    if (this.isEmpty) this.alarm.clear()
    return recalled
  }

  /** All that its waiters were promised of a bucket. */
  promised(bucket: string): number {
    let sum = 0
    for (const promised of this.promises) sum += promised.reservationIn(bucket).amount
    return sum
  }
}

/** Of arrival. A stand-in is asked when Redis no longer answers, and its serials say nothing of those from there. */
const order = (one: Reservation, other: Reservation): number =>
  Number(isStandInReservation(one)) - Number(isStandInReservation(other)) || one.serial - other.serial

/** How much the waiters of a line asked for: of one bucket, or of each of several. */
type Cost = number | string

/** All lines of a layer, by bucket and cost. An empty line takes no memory. */
export class BucketWaiters {
  private readonly lines = new Map<string, Map<Cost, Line>>()

  /**
   * Waits until a promise about these buckets is due or, if others leave, until an earlier one. To be called in the step
   * in which the promise was made: whoever leaves has to find this place taken.
   */
  enter<P extends Promised>(
    fiber: Fiber.Fiber<unknown, unknown>,
    buckets: ReadonlyArray<string>,
    cost: Cost,
    promised: P
  ): Place<P> {
    const line = this.lines.get(buckets[0] ?? "")?.get(cost) ?? this.addLine(buckets, cost)
    const waiter = line.enter(promised, fiber)
    return {
      served: Effect.map(line.untilServed(waiter), () => {
        if (line.isEmpty) this.dropLine(line, cost)
        // Everyone in a line holds promises of the same kind.
        return waiter.value.served as P | undefined
      }),
      abandon: () => {
        const leftOver = line.leave(waiter)
        if (line.isEmpty) this.dropLine(line, cost)
        leftOver?.giveBack()
      }
    }
  }

  /**
   * Takes back promises about a bucket, all or those that `concerns` says, and sends as many waiters away, who are the
   * last of those that asked for equally much. The promises are the caller's to give back.
   */
  recall(bucket: string, concerns: (promised: Promised) => boolean = () => true): Recalled {
    const lines = Array.from(this.lines.get(bucket) ?? [])
    const recalled = lines.flatMap(([, line]) => line.recall(concerns))
    for (const [cost, line] of lines) if (line.isEmpty) this.dropLine(line, cost)
    recalled.sort(([one], [other]) => order(one.reservationIn(bucket), other.reservationIn(bucket)))
    return {
      promises: recalled.map(([promised]) => promised),
      askAnew: () => {
        for (const [, waiter] of recalled) waiter.wake?.()
      }
    }
  }

  /** All that those who wait for a bucket were promised. */
  promised(bucket: string): number {
    let sum = 0
    for (const line of this.lines.get(bucket)?.values() ?? []) sum += line.promised(bucket)
    return sum
  }

  private addLine(buckets: ReadonlyArray<string>, cost: Cost): Line {
    const line = new Line(buckets)
    for (const bucket of buckets) {
      const lines = this.lines.get(bucket) ?? new Map<Cost, Line>()
      this.lines.set(bucket, lines.set(cost, line))
    }
    return line
  }

  private dropLine(line: Line, cost: Cost): void {
    for (const bucket of line.buckets) {
      const lines = this.lines.get(bucket)
      if (lines?.get(cost) !== line) continue
      lines.delete(cost)
      if (lines.size === 0) this.lines.delete(bucket)
    }
  }
}
