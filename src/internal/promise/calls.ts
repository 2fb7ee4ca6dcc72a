/**
 * The calls that are under way at a limiter, each from its beginning until it holds nothing any more; so that they can
 * be stopped, and a limiter that closes can wait for them.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { BackendError } from "../../Errors.ts"
import { LinkedList, type Node } from "../linkedList.ts"
import { ObservedRequest, type Watch } from "../observedRequest.ts"
import { atCaller } from "./callerStack.ts"
import { clock } from "./clock.ts"
import { exitOf, fork } from "./runtime.ts"
import { type AbortListener, listen, unlisten } from "./signals.ts"

/** Why a call was stopped. */
interface Stop {
  readonly reason: unknown
  /** Whether the reason is the caller's own, which is thrown as it is. */
  readonly isCallers: boolean
}

/** How something is asked for, and who watches. */
export interface Asking {
  readonly signal?: AbortSignal | undefined
  readonly watch?: Watch | undefined
  /** For those who watch. */
  readonly permits?: number
}

export class Call implements AbortListener {
  private readonly calls: Calls
  private readonly name: string
  private readonly verb: string
  private readonly caller: AbortSignal | undefined
  private readonly listening: Node<AbortListener> | undefined
  private readonly place: Node<Call>
  private waiting: Fiber.Fiber<unknown, unknown> | undefined
  private stopped: Stop | undefined
  private controller: AbortController | undefined
  private readonly observed: ObservedRequest | undefined
  /** How it came to nothing, if it did. */
  private failure: Exit.Exit<never, unknown> | undefined

  constructor(calls: Calls, name: string, verb: string, { signal: caller, watch, permits = 0 }: Asking) {
    this.calls = calls
    this.name = name
    this.verb = verb
    this.caller = caller
    if (watch !== undefined) this.observed = new ObservedRequest(watch, permits, clock)
    if (caller !== undefined) this.listening = listen(caller, this)
    this.place = calls.underWay.add(this)
  }

  /** The caller's signal has aborted. */
  onAbort(reason: unknown): void {
    this.stop({ reason, isCallers: true })
  }

  /** Waits for what can be interrupted; `outcome` tells what came of it. */
  wait<A, E>(
    effect: Effect.Effect<A, E>,
    options?: { readonly uninterruptible?: boolean }
  ): Exit.Exit<A, E> | Promise<Exit.Exit<A, E>> {
    const fiber = fork(effect, options)
    this.waiting = fiber
    return exitOf(fiber)
  }

  /** To be looked at in the step in which it is used: a call that was stopped meanwhile gives everything back. */
  outcome<A, E>(exit: Exit.Exit<A, E>, giveBack: (value: A) => void): A {
    this.waiting = undefined
    if (this.stopped !== undefined && Exit.isSuccess(exit)) giveBack(exit.value)
    this.throwIfStopped()
    if (Exit.isSuccess(exit)) return exit.value
    throw this.refused(Cause.squash(exit.cause))
  }

  /** It got what it asked for. `wait`: the seconds that it was told to wait, if it was not held up. */
  granted(wait?: number): void {
    this.observed?.granted(wait)
  }

  /** To be thrown: why it didn't. */
  refused(error: unknown): unknown {
    this.failure = Exit.fail(error)
    return atCaller(error)
  }

  /** Runs the caller's work. It isn't over before it says so, whoever has told it to stop. */
  async run<A>(work: () => A | PromiseLike<A>): Promise<A> {
    try {
      const value = await work()
      this.throwIfStopped()
      return value
    } catch (error) {
      this.throwIfStopped()
      throw error
    }
  }

  /** Made when somebody asks for it. */
  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController()
      if (this.stopped !== undefined) this.controller.abort(this.stopped.reason)
    }
    return this.controller.signal
  }

  /** From now on the caller's signal says nothing about it. */
  detach(): void {
    if (this.caller !== undefined && this.listening !== undefined) unlisten(this.caller, this.listening)
  }

  /** What it holds is lost. */
  lose(error: Error): void {
    this.stop({ reason: error, isCallers: false })
  }

  /** The limiter closes: no work that hasn't begun begins any more. */
  refuse(): void {
    if (this.waiting !== undefined) this.close()
  }

  close(): void {
    this.stop({ reason: closedError(this.name, this.verb), isCallers: false })
  }

  /** It holds nothing any more. */
  end(): void {
    this.detach()
    this.calls.forget(this.place)
    this.observed?.ended(this.failure ?? Exit.void)
  }

  private stop(stop: Stop): void {
    if (this.stopped !== undefined) return
    this.stopped = stop
    this.waiting?.interruptUnsafe()
    this.controller?.abort(stop.reason)
  }

  private throwIfStopped(): void {
    if (this.stopped === undefined) return
    const { reason, isCallers } = this.stopped
    if (!isCallers) throw this.refused(reason)
    this.failure = Exit.interrupt()
    throw reason
  }
}

const closedError = (name: string, operation: string) =>
  new BackendError({ operation, name, reason: "Closed", cause: undefined })

export class Calls {
  readonly underWay = new LinkedList<Call>()
  private readonly onDrained = new Set<() => void>()
  private isClosed = false

  begin(name: string, verb: string, asking: Asking = {}): Call {
    if (asking.signal?.aborted) throw asking.signal.reason
    if (this.isClosed) throw atCaller(closedError(name, verb))
    return new Call(this, name, verb, asking)
  }

  /** A call that needs no permit, and is answered soon. */
  async ask<A, E>(name: string, verb: string, effect: Effect.Effect<A, E>): Promise<A> {
    const call = this.begin(name, verb)
    try {
      return call.outcome(await exitOf(fork(effect)), () => {})
    } finally {
      call.end()
    }
  }

  forget(call: Node<Call>): void {
    this.underWay.remove(call)
    if (this.underWay.size === 0) for (const onDrained of this.onDrained) onDrained()
  }

  private readonly drained: Effect.Effect<void> = Effect.callback((resume) => {
    const onDrained = () => resume(Effect.void)
    if (this.underWay.size === 0) return onDrained()
    this.onDrained.add(onDrained)
    return Effect.sync(() => this.onDrained.delete(onDrained))
  })

  /**
   * Lets nothing begin any more, and waits for what has begun. After `timeout`, in milliseconds, what is still under way
   * is told to stop and not waited for.
   */
  close(timeout: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isClosed = true
      for (const call of Array.from(this.underWay)) call.refuse()
      return Effect.map(Effect.timeoutOption(this.drained, timeout), (drained) => {
        if (Option.isNone(drained)) for (const call of Array.from(this.underWay)) call.close()
      })
    })
  }
}
