/**
 * Requests that share round trips: one call is on its way at a time, and carries all that came while the one before it
 * was. A request that comes alone goes at once.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { BackendError } from "../Errors.ts"
import { tell } from "./handover.ts"
import { monotonicMicros } from "./time.ts"

/** Something asked of the backend, on its way there and back. */
export class Asked<A> {
  /** On the monotonic clock, in microseconds. */
  readonly deadline: number
  /** Undoes what an answer says when nobody waits for it any more. */
  private readonly undo: ((answer: A) => void) | undefined
  private exit: Exit.Exit<A, BackendError> | undefined
  private listener: ((exit: Exit.Exit<A, BackendError>) => void) | undefined

  constructor(deadline: number, undo?: (answer: A) => void) {
    this.deadline = deadline
    this.undo = undo
  }

  /** Answered, or nobody waits for the answer any more. */
  get isOver(): boolean {
    return this.exit !== undefined
  }

  get answered(): Effect.Effect<A, BackendError> {
    return Effect.callback((resume) => this.onAnswer(resume))
  }

  onAnswer(listener: (exit: Exit.Exit<A, BackendError>) => void): void {
    const others = this.listener
    if (this.exit !== undefined) listener(this.exit)
    else if (others === undefined) this.listener = listener
    else {
      this.listener = (exit) => {
        others(exit)
        listener(exit)
      }
    }
  }

  answer(exit: Exit.Exit<A, BackendError>): void {
    if (this.exit === undefined) {
      this.exit = exit
      if (this.listener !== undefined) tell(this.listener, exit)
    } else if (Exit.isSuccess(exit)) this.undo?.(exit.value)
  }

  abandon(): void {
    if (this.exit === undefined) this.exit = Exit.interrupt()
    else if (Exit.isSuccess(this.exit)) this.undo?.(this.exit.value)
  }
}

type Sendable = Pick<Asked<never>, "isOver" | "deadline">

/** Why there is no answer. */
export type Trouble = Pick<BackendError, "reason" | "cause">

export const noAnswer: Trouble = { reason: "TimedOut", cause: undefined }

export const closed: Trouble = { reason: "Closed", cause: undefined }

/** What a lane needs of its surroundings. */
export interface Traffic<Request extends Sendable> {
  readonly clock: Clock.Clock
  readonly fork: (effect: Effect.Effect<void>) => unknown
  /**
   * Brings requests to the backend, and gives what answers them and tells, in order, those that have to go again.
   * Meanwhile it may tell what keeps it.
   */
  readonly call: (
    requests: ReadonlyArray<Request>,
    onTrouble: (trouble: Trouble) => void
  ) => Effect.Effect<() => ReadonlyArray<Request>>
  readonly onIdle: (lane: Lane<Request>) => void
  /** A call carries no more. */
  readonly maxRequests: number
}

/** A queue that is shorter takes little memory, whatever is in it. */
const shortQueue = 1024

/** Requests that go to one place, one call at a time. */
export class Lane<Request extends Sendable> {
  private queue: Array<Request> = []
  /** So many at the front of the queue have left it: they are cut off together, for each cut copies the rest. */
  private gone = 0
  /** When the queue is as long, those leave it that are over: while a call takes long they would pile up. */
  private tooLong = shortQueue
  private ahead: Array<Request> = []
  private onItsWay: ReadonlyArray<Request> = []
  private isRunning = false
  private latestTrouble = noAnswer
  private readonly traffic: Traffic<Request>

  constructor(traffic: Traffic<Request>) {
    this.traffic = traffic
  }

  /** A call is on its way: what is asked now has to wait for it. */
  get isBusy(): boolean {
    return this.onItsWay.length > 0
  }

  /** Why there is no answer yet. */
  get trouble(): Trouble {
    return this.latestTrouble
  }

  /** `isAhead`: goes before all that have not gone yet. Tells whether the lane was idle before. */
  add(request: Request, isAhead = false): boolean {
    if (isAhead) this.ahead.push(request)
    else this.queue.push(request)
    if (this.queue.length >= this.tooLong) this.startQueue(this.queue.slice(this.gone).filter(({ isOver }) => !isOver))
    if (this.isRunning) return false
    this.isRunning = true
    // Whoever else asks in this turn of the event loop comes along, also whoever is called by promises meanwhile.
    process.nextTick(() => this.traffic.fork(this.run))
    return true
  }

  /** Tells `onLate` of those whose time is up; gives the next moment when somebody's will be. */
  expire(onLate: (request: Request, why: Trouble) => void): number {
    const now = monotonicMicros(this.traffic.clock)
    let next = Number.POSITIVE_INFINITY
    for (const request of this.unanswered()) {
      if (request.deadline <= now) onLate(request, this.trouble)
      else next = Math.min(next, request.deadline)
    }
    return next
  }

  unanswered(): ReadonlyArray<Request> {
    return [...this.onItsWay, ...this.ahead, ...this.queue.slice(this.gone)].filter((request) => !request.isOver)
  }

  private readonly run: Effect.Effect<void> = Effect.suspend(() => {
    this.onItsWay = this.take()
    if (this.onItsWay.length === 0) {
      this.isRunning = false
      this.traffic.onIdle(this)
      return Effect.void
    }
    const call = this.traffic.call(this.onItsWay, (trouble) => {
      this.latestTrouble = trouble
    })
    return Effect.flatMap(call, (answer) => {
      this.latestTrouble = noAnswer
      // Whoever asks for more on being answered finds the lane free.
      this.onItsWay = []
      const again = answer()
      if (again.length > 0) this.startQueue([...again, ...this.queue.slice(this.gone)])
      return this.run
    })
  })

  private take(): ReadonlyArray<Request> {
    const taken: Array<Request> = []
    this.ahead = this.ahead.slice(this.move(this.ahead, 0, taken))
    this.gone = this.move(this.queue, this.gone, taken)
    if (this.gone * 2 > this.queue.length) this.startQueue(this.queue.slice(this.gone))
    return taken
  }

  /** As many of a list, from an index on, as fit into a call; gives the index of the rest. */
  private move(list: ReadonlyArray<Request>, from: number, taken: Array<Request>): number {
    const { maxRequests } = this.traffic
    let index = from
    for (; index < list.length && taken.length < maxRequests; index++) {
      const request = list[index]
      // Whoever has left the queue was never sent.
      if (request !== undefined && !request.isOver) taken.push(request)
    }
    return index
  }

  private startQueue(queue: Array<Request>): void {
    this.queue = queue
    this.gone = 0
    this.tooLong = Math.max(shortQueue, queue.length * 2)
  }
}
