/**
 * The verbs of a token bucket for plain promises, over any store.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { BackendError } from "../../Errors.ts"
import type {
  CallContext,
  PermitRequest,
  Reservation,
  TokenBucket,
  TokenBucketPermit,
  TokenBucketVerbs
} from "../../promise.ts"
import type * as Effectful from "../../TokenBucket.ts"
import { disagreementOf, makeBucketLimiter } from "../bucketLimiter.ts"
import { keyedNames, ofKey } from "../keyedLimiter.ts"
import { type BucketConfig, tokensArgument, tokensOf } from "../options.ts"
import { monotonicMicros, sleepUntil } from "../time.ts"
import { askedFor, checked, checkFunction, signalOf } from "./arguments.ts"
import { awayInMillis } from "./awayInMillis.ts"
import type { Backend, Stores } from "./backend.ts"
import { type Call, Calls } from "./calls.ts"
import { clock } from "./clock.ts"
import { closable } from "./closable.ts"
import type { Observation } from "./observation.ts"
import { fork } from "./runtime.ts"
import { wrapWith } from "./wrap.ts"

/** Never closes, since tokens are spent: nothing comes back at the end of a scope. */
const forever = Scope.makeUnsafe()

interface Opened {
  readonly limiter: Effectful.TokenBucketLimiter
  /** The same bucket, for those who won't wait. */
  readonly impatient: Effectful.TokenBucketLimiter
  readonly takeNow: ((amount: number) => boolean) | undefined
  readonly isAway: (() => boolean) | undefined
}

const bucketVerbs = (
  config: BucketConfig,
  backend: Backend,
  calls: Calls,
  observation: Observation | undefined,
  disagreement: Effect.Effect<void>
): TokenBucketVerbs => {
  const { name, rules, tokensToConsume } = config

  const open = (stores: Stores): Opened => {
    const store = stores.bucket(config)
    const { takeNow } = store
    return {
      limiter: makeBucketLimiter(config, store, stores.waiters, disagreement),
      impatient: makeBucketLimiter({ ...config, maxSleep: 0 }, store, stores.waiters, disagreement),
      takeNow: takeNow && ((amount) => takeNow(amount, clock)),
      isAway: store.isAway
    }
  }

  let opened = backend.stores && open(backend.stores)

  const watch = observation?.watch(() => opened?.isAway?.() === true)

  const use = <A, E>(f: (opened: Opened) => Effect.Effect<A, E>): Effect.Effect<A, E | BackendError> =>
    Effect.suspend(() =>
      opened !== undefined
        ? f(opened)
        : Effect.flatMap(backend.open, (stores) => {
            opened ??= open(stores)
            return f(opened)
          })
    )

  const begin = (verb: string, request: PermitRequest | undefined) => {
    const { permits, signal } = askedFor(name, request)
    const amount = permits === undefined ? tokensToConsume : checked(tokensArgument(name, permits, rules.capacity))
    return { call: calls.begin(name, verb, { signal, watch, permits: tokensOf(amount) }), permits, amount }
  }

  const giveBack = ({ settle }: Effectful.TokenBucketPermit): void => void fork(Effect.ignore(settle(0)))

  const settle =
    ({ settle }: Pick<Effectful.TokenBucketPermit, "settle">) =>
    (actual: number): Promise<void> =>
      calls.ask(name, "settle", settle(actual))

  const withPermit: TokenBucketVerbs["withPermit"] = async (callback, request) => {
    checkFunction(name, "callback", callback)
    const { call, permits, amount } = begin("withPermit", request)
    try {
      if (amount > 0 && !opened?.takeNow?.(amount)) {
        const acquired = use(({ limiter }) => Scope.provide(limiter.acquire(permits), forever))
        call.outcome(await call.wait(acquired), giveBack)
      }
      call.granted()
      return await call.run(() => callback(new Context(call)))
    } finally {
      call.end()
    }
  }

  const permitOf = (call: Call, permit: Effectful.TokenBucketPermit): TokenBucketPermit => {
    call.granted()
    return {
      name,
      tokens: permit.tokens,
      waited: Duration.toMillis(permit.waited),
      settle: settle(permit),
      release: nothing,
      [Symbol.dispose]: nothing,
      [Symbol.asyncDispose]: async () => {}
    }
  }

  const acquire: TokenBucketVerbs["acquire"] = async (request) => {
    const { call, permits } = begin("acquire", request)
    try {
      const acquired = use(({ limiter }) => Scope.provide(limiter.acquire(permits), forever))
      return permitOf(call, call.outcome(await call.wait(acquired), giveBack))
    } finally {
      call.end()
    }
  }

  const tryAcquire: TokenBucketVerbs["tryAcquire"] = async (request) => {
    const { call, permits } = begin("tryAcquire", request)
    try {
      const acquired = use(({ impatient }) => Scope.provide(impatient.acquire(permits), forever))
      const available = Effect.catchTag(acquired, ["MaxSleepExceeded", "NoTokensAvailable"], () =>
        Effect.succeed(undefined)
      )
      const permit = call.outcome(await call.wait(available), (permit) => permit && giveBack(permit))
      return permit && permitOf(call, permit)
    } finally {
      call.end()
    }
  }

  const reservationOf = (call: Call, reservation: Effectful.Reservation): Reservation => {
    const delay = Duration.toMillis(reservation.delay)
    call.granted(delay / 1000)
    const due = monotonicMicros(clock) + delay * 1000
    return {
      name,
      tokens: reservation.tokens,
      delay,
      wait: async (options) => {
        const signal = signalOf(name, options)
        try {
          const call = calls.begin(name, "wait", { signal })
          try {
            call.outcome(await call.wait(sleepUntil(due)), () => {})
          } finally {
            call.end()
          }
        } catch (error) {
          fork(reservation.cancel)
          throw error
        }
      },
      cancel: () => calls.ask(name, "cancel", reservation.cancel),
      settle: settle(reservation)
    }
  }

  const reserve: TokenBucketVerbs["reserve"] = async (request) => {
    const { call, permits } = begin("reserve", request)
    try {
      const reserved = use(({ limiter }) => limiter.reserve(permits))
      return reservationOf(
        call,
        call.outcome(await call.wait(reserved), ({ cancel }) => void fork(cancel))
      )
    } finally {
      call.end()
    }
  }

  return {
    name,
    withPermit,
    acquire,
    tryAcquire,
    reserve,
    wrap: wrapWith(name, withPermit),
    pause: (duration) =>
      calls.ask(
        name,
        "pause",
        use(({ limiter }) => limiter.pause(duration))
      ),
    state: async (permits) => {
      const looked = use(({ limiter }) => (permits === undefined ? limiter.state : limiter.stateFor(permits)))
      const { tokens, capacity, wait, nextToken, fillTime, away } = await calls.ask(name, "state", looked)
      return {
        tokens,
        capacity,
        wait: Duration.toMillis(wait),
        nextToken: Duration.toMillis(nextToken),
        fillTime: Duration.toMillis(fillTime),
        ...awayInMillis(away)
      }
    },
    reset: () =>
      calls.ask(
        name,
        "reset",
        use(({ limiter }) => limiter.reset)
      )
  }
}

const nothing = (): void => {}

class Context implements CallContext {
  private readonly call: Call
  constructor(call: Call) {
    this.call = call
  }
  get signal(): AbortSignal {
    return this.call.signal
  }
}

export const makeTokenBucket = (config: BucketConfig, backend: Backend, observation?: Observation): TokenBucket => {
  const calls = new Calls()
  const disagreement = disagreementOf(config.name, observation?.onDisagreed)
  return {
    ...bucketVerbs(config, backend, calls, observation, disagreement),
    forKey: (key) =>
      bucketVerbs(ofKey(config, checked(keyedNames(config.name)(key)), key), backend, calls, observation, disagreement),
    ...closable(config.name, backend, calls)
  }
}
