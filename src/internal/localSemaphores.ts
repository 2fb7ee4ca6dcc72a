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

  /** Nothing would be lost with it. A capacity that was set by `resize` would. */
  get isIdle(): boolean {
    return this.grants.size === 0 && this.queue.waiting === 0 && !this.queue.isResized
  }
}

/** A number that is seldom looked at as a text. */
class LocalGrant implements Grant {
  readonly permits: number
  readonly fencingToken: number
  readonly waited: number
  isLost = false
  onLost: (() => void) | undefined = undefined

  constructor(permits: number, fencingToken: number, waited: number) {
    this.permits = permits
    this.fencingToken = fencingToken
    this.waited = waited
  }

  get id(): string {
    return String(this.fencingToken)
  }
}

/**
 * The semaphores of one layer, by name. One that is idle takes no memory: every call looks at two others and drops what
 * is over, so that no timer is needed and no call takes long.
 */
export class LocalSemaphores {
  private readonly semaphores = new Map<string, LocalSemaphore>()
  private hand = this.semaphores.entries()
  private fencingToken = 0

  /** Semaphores in memory. */
  get size(): number {
    return this.semaphores.size
  }

  private get(name: string): LocalSemaphore {
    if (this.semaphores.size > 1) this.dropIdle()
    let semaphore = this.semaphores.get(name)
    if (semaphore === undefined) {
      semaphore = new LocalSemaphore()
      this.semaphores.set(name, semaphore)
    }
    return semaphore
  }

  private dropIdle(): void {
    for (let i = 0; i < 2; i++) {
      const next = this.hand.next()
      if (next.done) {
        this.hand = this.semaphores.entries()
        return
      }
      const [name, semaphore] = next.value
      if (semaphore.isIdle) this.semaphores.delete(name)
    }
  }

  store({ name, capacity }: SemaphoreConfig): SemaphoreStore {
    const line = new WaitingLine()

    const grantOf = (semaphore: LocalSemaphore, permits: number, waited: number): Grant => {
      const grant = new LocalGrant(permits, ++this.fencingToken, waited)
      semaphore.grants.add(grant)
      return grant
    }

    const release = (grant: Grant): undefined => {
      const semaphore = this.semaphores.get(name)
      if (semaphore?.grants.delete(grant)) semaphore.queue.release(grant.permits)
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
        const hasLeft = semaphore.queue.leave(place)
        if (!hasLeft && isInterrupted && answer !== undefined && !("_tag" in answer)) release(answer)
      })
      return Effect.map(answered, () => request.answer ?? { _tag: "TimeUp" })
    }

    return {
      take: (permits, maxWait, restore, onAnswer) =>
        Effect.suspend(() => {
          const semaphore = this.get(name)
          const limit = semaphore.queue.capacityFor({ capacity })
          if (permits > limit) return onAnswer({ _tag: "TooLarge", capacity: limit })
          if (semaphore.queue.take({ permits, capacity })) return onAnswer(grantOf(semaphore, permits, 0))
          return maxWait === 0
            ? onAnswer({ _tag: "TimeUp" })
            : Effect.flatMap(
                Effect.clockWith((clock) => wait(clock, semaphore, permits, maxWait, restore)),
                onAnswer
              )
        }),
      release,
      resize: (capacity) => Effect.sync(() => this.get(name).queue.resize(capacity)),
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
        // In this order, since either may grant permits anew.
        semaphore.queue.release(semaphore.queue.held)
        semaphore.queue.resize(undefined)
      })
    }
  }
}
