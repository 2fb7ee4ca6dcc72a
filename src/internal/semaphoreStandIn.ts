/**
 * What gives the permits of a semaphore while Redis is away.
 */
import * as Effect from "effect/Effect"
import type { Restore } from "./bucketWaiters.ts"
import { LinkedList } from "./linkedList.ts"
import { PermitQueue, type PermitWaiter } from "./permitQueue.ts"
import type { Grant } from "./semaphoreLimiter.ts"
import type { Waiter, WaitingLine } from "./waitingLine.ts"

/** Permits that Redis knows nothing of. */
export class StandInGrant implements Grant {
  readonly id: string
  readonly permits: number
  /** Nothing orders it among the grants of other processes. */
  readonly fencingToken = 0
  readonly waited: number
  isLost = false
  onLost: (() => void) | undefined = undefined
  /** Redis has been told of it, and is to be told of its end. */
  isAdopted = false

  constructor(id: string, permits: number, waited: number) {
    this.id = id
    this.permits = permits
    this.waited = waited
  }

  lose(): void {
    this.isLost = true
    this.onLost?.()
  }
}

/**
 * How a request ends without permits: when its time is up, either because others hold them or because Redis alone could
 * give so many; or when Redis is back and has to be asked again.
 */
export type NoGrant = "TimeUp" | "NeedsRedis" | "Recalled"

/** A request that may have to wait. Times are monotonic microseconds. */
export class StandInRequest implements PermitWaiter, Waiter {
  readonly permits: number
  /** Of the stand-in. */
  readonly capacity: number
  readonly deadline: number
  answer: StandInGrant | NoGrant | undefined
  wake: (() => void) | undefined
  private readonly grant: () => StandInGrant

  constructor(permits: number, capacity: number, deadline: number, grant: () => StandInGrant) {
    this.permits = permits
    this.capacity = capacity
    this.deadline = deadline
    this.grant = grant
  }

  get isAnswered(): boolean {
    return this.answer !== undefined
  }

  onGranted(): void {
    this.answer = this.grant()
    this.wake?.()
  }

  /** The stand-in ends: it wakes its waiters itself, once none of them can be granted anything any more. */
  onRefused(): void {
    this.answer = "Recalled"
  }
}

/**
 * Gives up to so many permits for as long as Redis is away once; infinity: without limit. What this process holds of
 * Redis counts.
 */
export class SemaphoreStandIn {
  readonly limit: number
  /** Permits that were given. */
  admitted = 0
  private readonly queue = new PermitQueue<StandInRequest>()
  private readonly waiters = new LinkedList<StandInRequest>()
  private readonly grants = new Set<StandInGrant>()
  private readonly inherited: Set<Grant>

  constructor(limit: number, inherited: ReadonlyArray<Grant>) {
    this.limit = limit
    this.inherited = new Set(inherited)
    for (const { permits } of inherited) this.queue.held += permits
  }

  get held(): number {
    return this.queue.held
  }

  get waiting(): number {
    return this.waiters.size
  }

  /** All that this process holds. */
  get holding(): ReadonlyArray<Grant> {
    return [...this.inherited, ...this.grants]
  }

  takeNow(permits: number, grantOf: () => StandInGrant): StandInGrant | undefined {
    return this.queue.take({ permits, capacity: this.limit }) ? this.granted(grantOf()) : undefined
  }

  /** `giveBack`: told of a grant that nobody wants any more, though Redis may know of it by then. */
  take(
    permits: number,
    deadline: number,
    grantOf: () => StandInGrant,
    line: WaitingLine,
    restore: Restore,
    giveBack: (grant: StandInGrant) => void
  ): Effect.Effect<StandInGrant | NoGrant> {
    const request = new StandInRequest(permits, this.limit, deadline, () => this.granted(grantOf()))
    const place = this.waiters.add(request)
    const queued = permits <= this.limit ? this.queue.enter(request) : undefined
    const answered = line.wait(request, restore, (isInterrupted) => {
      this.waiters.remove(place)
      if (queued !== undefined) this.queue.leave(queued)
      if (isInterrupted && request.answer instanceof StandInGrant) giveBack(request.answer)
    })
    return Effect.map(answered, () => request.answer ?? (queued === undefined ? "NeedsRedis" : "TimeUp"))
  }

  /** For a grant of this stand-in or an inherited one; harmless for others. */
  release(grant: Grant): void {
    const isOurs = this.inherited.delete(grant) || (grant instanceof StandInGrant && this.grants.delete(grant))
    if (isOurs) this.queue.release(grant.permits)
  }

  /** Nothing is given from now on. Gives what is held, and how to let those go on who wait, in order. */
  end(): { readonly grants: ReadonlyArray<StandInGrant>; readonly askAnew: () => void } {
    const waiting = Array.from(this.waiters)
    this.queue.resize(0)
    for (const request of waiting) request.answer ??= "Recalled"
    return {
      grants: Array.from(this.grants),
      askAnew: () => {
        for (const request of waiting) if (request.answer === "Recalled") request.wake?.()
      }
    }
  }

  private granted(grant: StandInGrant): StandInGrant {
    this.grants.add(grant)
    this.admitted += grant.permits
    return grant
  }
}
