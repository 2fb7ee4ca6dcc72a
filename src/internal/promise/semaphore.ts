/**
 * The verbs of a semaphore for plain promises, over any store.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { BackendError } from "../../Errors.ts"
import type { PermitRequest, Semaphore, SemaphoreCallContext, SemaphorePermit, SemaphoreVerbs } from "../../promise.ts"
import { keyedNames, ofKey } from "../keyedLimiter.ts"
import { capacityArgument, permitsArgument, type SemaphoreConfig } from "../options.ts"
import { type Grant, lostError, type Refusal, refusalError, type SemaphoreStore } from "../semaphoreLimiter.ts"
import { askedFor, checked, checkFunction } from "./arguments.ts"
import { awayInMillis } from "./awayInMillis.ts"
import type { Backend } from "./backend.ts"
import { type Call, Calls } from "./calls.ts"
import { closable } from "./closable.ts"
import type { Observation } from "./observation.ts"
import { wrapWith } from "./wrap.ts"

const semaphoreVerbs = (
  config: SemaphoreConfig,
  backend: Backend,
  calls: Calls,
  observation: Observation | undefined
): SemaphoreVerbs => {
  const { name, capacity, maxSleep } = config

  let store = backend.stores?.semaphore(config)

  const watch = observation?.watch(() => store?.isAway?.() === true)

  const opened: Effect.Effect<SemaphoreStore, BackendError> = Effect.suspend(() =>
    store !== undefined
      ? Effect.succeed(store)
      : Effect.map(backend.open, (stores) => {
          store ??= stores.semaphore(config)
          return store
        })
  )

  const begin = (verb: string, request: PermitRequest | undefined) => {
    const { permits = 1, signal } = askedFor(name, request)
    checked(permitsArgument(name, permits, capacity))
    return { call: calls.begin(name, verb, { signal, watch, permits }), permits }
  }

  const ask = (call: Call, permits: number, maxWait: number) => {
    const grant = store?.takeNow?.(permits)
    if (grant !== undefined) return Exit.succeed(grant)
    // The wait can be interrupted, and the answer can't be.
    const answer = Effect.flatMap(Effect.interruptible(opened), (store) =>
      store.take<Grant | Refusal, never, never>(permits, maxWait, Effect.interruptible, Effect.succeed)
    )
    return call.wait(answer, { uninterruptible: true })
  }

  const release = (grant: Grant): void => store?.release(grant)

  const giveBack = (answer: Grant | Refusal): void => {
    if (!("_tag" in answer)) release(answer)
  }

  const granted = (call: Call, answer: Grant | Refusal, permits: number): Grant => {
    if ("_tag" in answer) throw call.refused(refusalError(config, answer, permits))
    call.granted()
    return answer
  }

  /** The call ends when its permits are lost. */
  const hold = (call: Call, grant: Grant): void => {
    const lose = () => {
      observation?.onLost()
      call.lose(lostError(name, grant))
    }
    grant.onLost = lose
    if (grant.isLost) lose()
  }

  const withPermit: SemaphoreVerbs["withPermit"] = async (callback, request) => {
    checkFunction(name, "callback", callback)
    const { call, permits } = begin("withPermit", request)
    try {
      const exit = ask(call, permits, maxSleep)
      const grant = granted(call, call.outcome(exit instanceof Promise ? await exit : exit, giveBack), permits)
      try {
        hold(call, grant)
        return await call.run(() => callback(new SemaphoreContext(call, grant.fencingToken)))
      } finally {
        release(grant)
      }
    } finally {
      call.end()
    }
  }

  /** The wait is over: what the caller's signal says, it says to the work. */
  const permitOf = (call: Call, grant: Grant): SemaphorePermit => {
    call.detach()
    hold(call, grant)
    return new HeldPermit(name, grant, call, release)
  }

  const acquire: SemaphoreVerbs["acquire"] = async (request) => {
    const { call, permits } = begin("acquire", request)
    try {
      return permitOf(call, granted(call, call.outcome(await ask(call, permits, maxSleep), giveBack), permits))
    } catch (error) {
      call.end()
      throw error
    }
  }

  const tryAcquire: SemaphoreVerbs["tryAcquire"] = async (request) => {
    const { call, permits } = begin("tryAcquire", request)
    try {
      const answer = call.outcome(await ask(call, permits, 0), giveBack)
      if (!("_tag" in answer && answer._tag === "TimeUp")) return permitOf(call, granted(call, answer, permits))
      call.end()
      return undefined
    } catch (error) {
      call.end()
      throw error
    }
  }

  return {
    name,
    withPermit,
    acquire,
    tryAcquire,
    wrap: wrapWith(name, withPermit),
    state: async () => {
      const { capacity, held, waiting, holders, away } = await calls.ask(
        name,
        "state",
        Effect.flatMap(opened, ({ look }) => look)
      )
      const inMillis = holders.map(({ leaseLeft, ...holder }) => ({
        ...holder,
        leaseLeft: Duration.toMillis(leaseLeft)
      }))
      return { capacity, held, waiting, holders: inMillis, ...awayInMillis(away) }
    },
    reset: () =>
      calls.ask(
        name,
        "reset",
        Effect.flatMap(opened, ({ reset }) => reset)
      ),
    resize: async (n) => {
      const valid = checked(capacityArgument(name, n))
      return calls.ask(
        name,
        "resize",
        Effect.flatMap(opened, ({ resize }) => resize(valid))
      )
    }
  }
}

class HeldPermit implements SemaphorePermit {
  readonly name: string
  readonly id: string
  readonly permits: number
  readonly fencingToken: number
  readonly waited: number
  readonly release: () => void
  private readonly call: Call

  constructor(name: string, grant: Grant, call: Call, giveBack: (grant: Grant) => void) {
    this.name = name
    this.id = grant.id
    this.permits = grant.permits
    this.fencingToken = grant.fencingToken
    this.waited = grant.waited / 1000
    this.call = call
    let isHeld = true
    this.release = () => {
      if (!isHeld) return
      isHeld = false
      giveBack(grant)
      call.end()
    }
  }

  get signal(): AbortSignal {
    return this.call.signal
  }

  [Symbol.dispose](): void {
    this.release()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
  }
}

class SemaphoreContext implements SemaphoreCallContext {
  private readonly call: Call
  readonly fencingToken: number
  constructor(call: Call, fencingToken: number) {
    this.call = call
    this.fencingToken = fencingToken
  }
  get signal(): AbortSignal {
    return this.call.signal
  }
}

export const makeSemaphore = (config: SemaphoreConfig, backend: Backend, observation?: Observation): Semaphore => {
  const calls = new Calls()
  return {
    ...semaphoreVerbs(config, backend, calls, observation),
    forKey: (key) =>
      semaphoreVerbs(ofKey(config, checked(keyedNames(config.name)(key)), key), backend, calls, observation),
    ...closable(config.name, backend, calls)
  }
}
