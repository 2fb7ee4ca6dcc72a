/**
 * Semaphores in the memory of this process.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { maxSpan } from "./bucket.ts"
import type { Restore } from "./bucketWaiters.ts"
import { limiterIdentity } from "./limiterKeys.ts"
import { LinkedList, type Node } from "./linkedList.ts"
import type { SemaphoreConfig } from "./options.ts"
import { PermitQueue, type PermitWaiter } from "./permitQueue.ts"
import type { Grant, Refusal, SemaphoreStore } from "./semaphoreLimiter.ts"
import { monotonicMicros } from "./time.ts"
import { type Waiter, WaitingLine } from "./waitingLine.ts"

class LocalSemaphore {
  readonly queue = new PermitQueue<Request>()
  readonly grants = new LinkedList<LocalGrant>()
  private readonly nextToken: () => number

  constructor(nextToken: () => number) {
    this.nextToken = nextToken
  }

  /** For permits that the queue has given. */
  grant(permits: number, waited: number): LocalGrant {
    return new LocalGrant(this, permits, this.nextToken(), waited)
  }

  /** Nothing would be lost with it. A capacity that was set by `resize` would. */
  get isIdle(): boolean {
    return this.grants.size === 0 && this.queue.waiting === 0 && !this.queue.isResized
  }
}

class LocalGrant implements Grant {
  readonly permits: number
  readonly fencingToken: number
  readonly waited: number
  isLost = false
  onLost: (() => void) | undefined = undefined
  private readonly semaphore: LocalSemaphore
  private readonly place: Node<LocalGrant>

  constructor(semaphore: LocalSemaphore, permits: number, fencingToken: number, waited: number) {
    this.permits = permits
    this.fencingToken = fencingToken
    this.waited = waited
    this.semaphore = semaphore
    this.place = semaphore.grants.add(this)
  }

  /** A number that is seldom looked at as a text. */
  get id(): string {
    return String(this.fencingToken)
  }

  release(): void {
    if (this.semaphore.grants.remove(this.place)) this.semaphore.queue.release(this.permits)
  }

  lose(): void {
    this.isLost = true
    this.onLost?.()
    this.release()
  }
}

/** A request that waits. */
class Request implements PermitWaiter, Waiter {
  readonly permits: number
  readonly capacity: number
  readonly deadline: number
  answer: LocalGrant | Refusal | undefined
  /** Lets the fiber look at what has changed. */
  wake: (() => void) | undefined
  private readonly semaphore: LocalSemaphore
  private readonly clock: Clock.Clock
  private readonly asked: number

  constructor(semaphore: LocalSemaphore, permits: number, capacity: number, maxWait: number, clock: Clock.Clock) {
    this.semaphore = semaphore
    this.permits = permits
    this.capacity = capacity
    this.clock = clock
    this.asked = monotonicMicros(clock)
    this.deadline = maxWait < maxSpan ? this.asked + maxWait : Number.POSITIVE_INFINITY
  }

  get isAnswered(): boolean {
    return this.answer !== undefined
  }

  onGranted(): void {
    this.decide(this.semaphore.grant(this.permits, monotonicMicros(this.clock) - this.asked))
  }

  onRefused(capacity: number): void {
    this.decide({ _tag: "TooLarge", capacity })
  }

  private decide(answer: LocalGrant | Refusal): void {
    this.answer = answer
    this.wake?.()
  }
}

/**
 * The semaphores of one layer. One that is idle takes no memory: every call looks at two others and drops what
 * is over, so that no timer is needed and no call takes long.
 */
export class LocalSemaphores {
  /** By what tells them apart. */
  private readonly semaphores = new Map<string, LocalSemaphore>()
  private hand = this.semaphores.entries()
  private fencingToken = 0
  private readonly nextToken = () => ++this.fencingToken

  /** Semaphores in memory. */
  get size(): number {
    return this.semaphores.size
  }

  private get(identity: string): LocalSemaphore {
    if (this.semaphores.size > 1) this.dropIdle()
    let semaphore = this.semaphores.get(identity)
    if (semaphore === undefined) {
      semaphore = new LocalSemaphore(this.nextToken)
      this.semaphores.set(identity, semaphore)
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
      const [identity, semaphore] = next.value
      if (semaphore.isIdle) this.semaphores.delete(identity)
    }
  }

  store(config: SemaphoreConfig): SemaphoreStore {
    const { capacity } = config
    const identity = limiterIdentity("Semaphore", config)
    const line = new WaitingLine()

    /** Nobody waits for what can't come. */
    const refusalOf = ({ queue }: LocalSemaphore, permits: number): Refusal | undefined => {
      const limit = queue.capacityFor({ capacity })
      return permits > limit ? { _tag: "TooLarge", capacity: limit } : undefined
    }

    const wait = <A, E, R>(
      permits: number,
      maxWait: number,
      restore: Restore,
      onAnswer: (answer: Grant | Refusal) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E, R> =>
      Effect.clockWith((clock) => {
        const semaphore = this.get(identity)
        const refusal = refusalOf(semaphore, permits)
        if (refusal !== undefined) return onAnswer(refusal)
        const request = new Request(semaphore, permits, capacity, maxWait, clock)
        const place = semaphore.queue.enter(request)
        const answered = line.wait(request, restore, (isInterrupted) => {
          semaphore.queue.leave(place)
          if (isInterrupted && request.answer instanceof LocalGrant) request.answer.release()
        })
        return Effect.flatMap(answered, () => onAnswer(request.answer ?? { _tag: "TimeUp" }))
      })

    const takeNow = (permits: number): LocalGrant | undefined => {
      const semaphore = this.get(identity)
      return semaphore.queue.take({ permits, capacity }) ? semaphore.grant(permits, 0) : undefined
    }

    const take = (permits: number): LocalGrant | Refusal =>
      refusalOf(this.get(identity), permits) ?? takeNow(permits) ?? { _tag: "TimeUp" }

    return {
      home: this,
      takeNow,
      take: (permits, maxWait, restore, onAnswer) =>
        maxWait === 0 ? Effect.suspend(() => onAnswer(take(permits))) : wait(permits, maxWait, restore, onAnswer),
      // Only its own grants come back to a store.
      release: (grant) => (grant as LocalGrant).release(),
      resize: (capacity) => Effect.sync(() => this.get(identity).queue.resize(capacity)),
      look: Effect.sync(() => {
        const semaphore = this.semaphores.get(identity)
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
        const semaphore = this.semaphores.get(identity)
        if (semaphore === undefined) return
        // Either of what follows may grant permits anew.
        const lost = Array.from(semaphore.grants)
        semaphore.queue.resize(undefined)
        for (const grant of lost) grant.lose()
      })
    }
  }
}
