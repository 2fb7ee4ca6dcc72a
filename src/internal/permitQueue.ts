/**
 * How a semaphore decides: permits, and a queue of requests that is served strictly in order of arrival.
 *
 * The first request waits until as many permits as it wants are free, and nobody behind it is served meanwhile: a
 * large request is never starved by small ones. Every step is constant time, however many wait.
 *
 * Its twin is `lua/semaphore.lua`, which adds what only many processes need: leases, and tickets to come back with.
 */
import { LinkedList, type Node } from "./linkedList.ts"

/** What the queue knows of a request. */
export interface PermitRequest {
  readonly permits: number
  /** As its limiter was made; what `resize` said goes before it. */
  readonly capacity: number
}

/** A request that waits. */
export interface PermitWaiter extends PermitRequest {
  readonly onGranted: () => void
  /** `resize` has made the semaphore smaller than the request. */
  readonly onRefused: (capacity: number) => void
}

export class PermitQueue<Waiter extends PermitWaiter> {
  private readonly waiters = new LinkedList<Waiter>()
  private resized: number | undefined
  /** Permits in use. */
  held = 0

  get waiting(): number {
    return this.waiters.size
  }

  get isResized(): boolean {
    return this.resized !== undefined
  }

  capacityFor(request: Pick<PermitRequest, "capacity">): number {
    return this.resized ?? request.capacity
  }

  /** Takes permits if they are free and nobody waits. */
  take(request: PermitRequest): boolean {
    if (this.waiters.size > 0 || !this.fits(request)) return false
    this.held += request.permits
    return true
  }

  /** Waits for permits; `onGranted` or `onRefused` tells when that ends, which may be at once. */
  enter(waiter: Waiter): Node<Waiter> {
    const place = this.waiters.add(waiter)
    this.serve()
    return place
  }

  /** Stops waiting; false if the wait has ended before. */
  leave(waiter: Node<Waiter>): boolean {
    const left = this.waiters.remove(waiter)
    if (left) this.serve()
    return left
  }

  release(permits: number): void {
    this.held -= permits
    this.serve()
  }

  /** Holds for everyone from now on. Undefined: each request's own view counts again. */
  resize(capacity: number | undefined): void {
    this.resized = capacity
    this.serve()
  }

  private fits(request: PermitRequest): boolean {
    return this.held + request.permits <= this.capacityFor(request)
  }

  private serve(): void {
    for (let head = this.waiters.first; head !== undefined; head = this.waiters.first) {
      const waiter = head.value
      const capacity = this.capacityFor(waiter)
      if (waiter.permits > capacity) {
        this.waiters.remove(head)
        waiter.onRefused(capacity)
      } else if (this.fits(waiter)) {
        this.waiters.remove(head)
        this.held += waiter.permits
        waiter.onGranted()
      } else return
    }
  }
}
