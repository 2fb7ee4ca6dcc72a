/**
 * Semaphores in the memory of this process.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { maxSpan } from "./bucket.ts"
import type { Restore } from "./bucketWaiters.ts"
import { LinkedList, type Node } from "./linkedList.ts"
import type { SemaphoreConfig } from "./options.ts"
import { PermitQueue } from "./permitQueue.ts"
import type { Grant, Refusal, SemaphoreStore } from "./semaphoreLimiter.ts"
import { monotonicMicros, sleepUntil } from "./time.ts"

/** An idle semaphore that was resized remembers it for so long: an hour. */
const idleTime = 3_600_000_000

/** A request that waits. */
class Waiter {
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

  readonly onGranted = () => this.decide(this.grant())
  readonly onRefused = (capacity: number) => this.decide({ _tag: "TooLarge", capacity })

  private decide(answer: Grant | Refusal): void {
    this.answer = answer
    this.wake?.()
  }
}

class LocalSemaphore {
  readonly queue = new PermitQueue<Waiter>()
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
    const deadlines = new LinkedList<Waiter>()

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

    /** Of the waiters of one limiter the one whose deadline is next sleeps until then, for all of them. */
    const untilAnswered = (waiter: Waiter, place: Node<Waiter> | undefined): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (waiter.answer !== undefined) return Effect.void
        const woken = Effect.callback<void>((resume) => {
          waiter.wake = () => resume(Effect.void)
        })
        if (place === undefined || deadlines.first !== place) {
          return Effect.flatMap(woken, () => untilAnswered(waiter, place))
        }
        return Effect.raceFirst(woken, sleepUntil(waiter.deadline))
      })

    const leaveDeadlines = (place: Node<Waiter>) => {
      const wasFirst = deadlines.first === place
      deadlines.remove(place)
      if (wasFirst) deadlines.first?.value.wake?.()
    }

    const wait = (
      clock: Clock.Clock,
      semaphore: LocalSemaphore,
      permits: number,
      maxWait: number,
      restore: Restore
    ): Effect.Effect<Grant | Refusal> => {
      const asked = monotonicMicros(clock)
      const waiter = new Waiter(permits, capacity, asked + maxWait, () =>
        grantOf(semaphore, permits, monotonicMicros(clock) - asked)
      )
      const queued = semaphore.queue.enter(waiter)
      const place = maxWait === maxSpan ? undefined : deadlines.add(waiter)
      const answered = Effect.onExitPrimitive(restore(untilAnswered(waiter, place)), (exit) => {
        if (place !== undefined) leaveDeadlines(place)
        const { answer } = waiter
        if (semaphore.queue.leave(queued)) this.dropIfOver(name, semaphore, semaphore.lastUsed)
        else if (exit._tag === "Failure" && answer !== undefined && !("_tag" in answer)) release(answer)
        return undefined
      })
      return Effect.map(answered, () => waiter.answer ?? { _tag: "TimeUp" })
    }

    return {
      take: (permits, maxWait, restore) =>
        Effect.clockWith((clock) => {
          const now = monotonicMicros(clock)
          const semaphore = this.get(name, now)
          const limit = semaphore.queue.capacityFor({ capacity })
          if (permits > limit) {
            this.dropIfOver(name, semaphore, now)
            return Effect.succeed({ _tag: "TooLarge", capacity: limit })
          }
          if (semaphore.queue.take({ permits, capacity })) return Effect.succeed(grantOf(semaphore, permits, 0))
          return maxWait === 0 ? Effect.succeed({ _tag: "TimeUp" }) : wait(clock, semaphore, permits, maxWait, restore)
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
