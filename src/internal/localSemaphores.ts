/**
 * Semaphores in the memory of this process.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { maxSpan } from "./bucket.ts"
import type { Restore } from "./bucketWaiters.ts"
import type { SemaphoreConfig } from "./options.ts"
import { PermitQueue, type PermitWaiter } from "./permitQueue.ts"
import type { Grant, Refusal, SemaphoreStore } from "./semaphoreLimiter.ts"
import { monotonicMicros } from "./time.ts"
import { type Waiter, WaitingLine } from "./waitingLine.ts"

/** An idle semaphore that was resized remembers it for so long: an hour. */
const idleTime = 3_600_000_000

/** A request that waits. */
class Request implements PermitWaiter, Waiter {
  readonly permits: number
  readonly capacity: number
  readonly deadline: number
  answer: Grant | Refusal | undefined
  /** Lets the fiber look at what has changed. */
  wake: (() => void) | undefined
  private readonly grant: () => Grant

  constructor(permits: number, capacity: number, deadline: number, grant: () => Grant) {
    this.permits = permits
    this.capacity = capacity
    this.deadline = deadline
    this.grant = grant
  }

  get isAnswered(): boolean {
    return this.answer !== undefined
  }

  readonly onGranted = () => this.decide(this.grant())
  readonly onRefused = (capacity: number) => this.decide({ _tag: "TooLarge", capacity })

  private decide(answer: Grant | Refusal): void {
    this.answer = answer
    this.wake?.()
  }
}

class LocalSemaphore {
  readonly queue = new PermitQueue<Request>()
  readonly grants = new Set<Grant>()
  lastUsed = 0

  get isIdle(): boolean {
    return this.grants.size === 0 && this.queue.waiting === 0
  }
}

/**
 * The semaphores of one layer, by name. One that is idle takes no memory.
 */
export class LocalSemaphores {
  private readonly semaphores = new Map<string, LocalSemaphore>()
  private hand = this.semaphores.entries()
  private fencingToken = 0
  private ids = 0

  /** Semaphores in memory. */
  get size(): number {
    return this.semaphores.size
  }

  private get(name: string, now: number): LocalSemaphore {
    this.dropOld(now)
    let semaphore = this.semaphores.get(name)
    if (semaphore === undefined) {
      semaphore = new LocalSemaphore()
      this.semaphores.set(name, semaphore)
    }
    semaphore.lastUsed = now
    return semaphore
  }

  private dropIfOver(name: string, semaphore: LocalSemaphore, now: number): void {
    if (semaphore.isIdle && (!semaphore.queue.isResized || now - semaphore.lastUsed >= idleTime)) {
      this.semaphores.delete(name)
    }
  }

  // Only those that were resized outlive their last use, so that looking at one a call is enough.
  private dropOld(now: number): void {
    const next = this.hand.next()
    if (next.done) this.hand = this.semaphores.entries()
    else this.dropIfOver(next.value[0], next.value[1], now)
  }

  store({ name, capacity }: SemaphoreConfig): SemaphoreStore {
    const line = new WaitingLine()

    const grantOf = (semaphore: LocalSemaphore, permits: number, waited: number): Grant => {
      const grant: Grant = {
        id: String(++this.ids),
        permits,
        fencingToken: ++this.fencingToken,
        waited,
        isLost: false,
        onLost: undefined
      }
      semaphore.grants.add(grant)
      return grant
    }

    const release = (grant: Grant): undefined => {
      const semaphore = this.semaphores.get(name)
      if (semaphore?.grants.delete(grant)) {
        semaphore.queue.release(grant.permits)
        this.dropIfOver(name, semaphore, semaphore.lastUsed)
      }
    }

    const wait = (
      clock: Clock.Clock,
      semaphore: LocalSemaphore,
      permits: number,
      maxWait: number,
      restore: Restore
    ): Effect.Effect<Grant | Refusal> => {
      const asked = monotonicMicros(clock)
      const deadline = maxWait < maxSpan ? asked + maxWait : Number.POSITIVE_INFINITY
      const request = new Request(permits, capacity, deadline, () =>
        grantOf(semaphore, permits, monotonicMicros(clock) - asked)
      )
      const place = semaphore.queue.enter(request)
      const answered = line.wait(request, restore, (isInterrupted) => {
        const { answer } = request
        if (semaphore.queue.leave(place)) this.dropIfOver(name, semaphore, semaphore.lastUsed)
        else if (isInterrupted && answer !== undefined && !("_tag" in answer)) release(answer)
      })
      return Effect.map(answered, () => request.answer ?? { _tag: "TimeUp" })
    }

    return {
      take: (permits, maxWait, restore, onAnswer) =>
        Effect.clockWith((clock) => {
          const now = monotonicMicros(clock)
          const semaphore = this.get(name, now)
          const limit = semaphore.queue.capacityFor({ capacity })
          if (permits > limit) {
            this.dropIfOver(name, semaphore, now)
            return onAnswer({ _tag: "TooLarge", capacity: limit })
          }
          if (semaphore.queue.take({ permits, capacity })) return onAnswer(grantOf(semaphore, permits, 0))
          return maxWait === 0
            ? onAnswer({ _tag: "TimeUp" })
            : Effect.flatMap(wait(clock, semaphore, permits, maxWait, restore), onAnswer)
        }),
      release,
      resize: (capacity) =>
        Effect.clockWith((clock) => {
          this.get(name, monotonicMicros(clock)).queue.resize(capacity)
          return Effect.void
        }),
      look: Effect.sync(() => {
        const semaphore = this.semaphores.get(name)
        return {
          capacity: semaphore?.queue.capacityFor({ capacity }) ?? capacity,
          held: semaphore?.queue.held ?? 0,
          waiting: semaphore?.queue.waiting ?? 0,
          holders: Array.from(semaphore?.grants ?? [], ({ id, permits, fencingToken }) => ({
            id,
            permits,
            fencingToken,
            leaseLeft: Duration.infinity
          }))
        }
      }),
      reset: Effect.sync(() => {
        const semaphore = this.semaphores.get(name)
        if (semaphore === undefined) return
        const lost = Array.from(semaphore.grants)
        semaphore.grants.clear()
        for (const grant of lost) {
          grant.isLost = true
          grant.onLost?.()
        }
        semaphore.queue.resize(undefined)
        semaphore.queue.release(semaphore.queue.held)
        this.dropIfOver(name, semaphore, semaphore.lastUsed)
      })
    }
  }
}
