/**
 * Token buckets in the memory of this process.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Reservation, Rules, State } from "./bucket.ts"
import * as Bucket from "./bucket.ts"
import type { BucketHome, BucketStore, JointAnswer, JointPart } from "./bucketLimiter.ts"
import type { Restore } from "./bucketWaiters.ts"
import { limiterIdentity } from "./limiterKeys.ts"
import type { BucketConfig } from "./options.ts"
import { currentClock, monotonicMicros } from "./time.ts"

const identityOf = (config: BucketConfig): string => limiterIdentity("TokenBucket", config)

interface Remembered {
  state: State
  rules: Rules
  /** Others use it with other rules, by which it may not be full. */
  isDisputed: boolean
}

/**
 * The buckets of one layer. One that means the same as none takes no memory: every call looks at two others
 * and drops what is over, so that no timer is needed and no call takes long.
 */
export class LocalBuckets implements BucketHome {
  /** By what tells them apart. */
  private readonly buckets = new Map<string, Remembered>()
  private hand = this.buckets.entries()
  /** What turns the monotonic clock into time since 1970, as it was when the layer was built. */
  private readonly epoch: number

  constructor(clock: Clock.Clock) {
    this.epoch = clock.currentTimeMillisUnsafe() * 1000 - monotonicMicros(clock)
  }

  /** Buckets in memory. */
  get size(): number {
    return this.buckets.size
  }

  /**
   * Elapsed time is counted on the clock that nobody sets; only windows follow the wall clock, which they are about.
   */
  private now(clock: Clock.Clock, rules: Rules): number {
    return rules.origin >= 0 ? clock.currentTimeMillisUnsafe() * 1000 : this.epoch + monotonicMicros(clock)
  }

  private dropOld(clock: Clock.Clock): void {
    if (this.buckets.size < 2) return
    for (let i = 0; i < 2; i++) {
      const next = this.hand.next()
      if (next.done) {
        this.hand = this.buckets.entries()
        return
      }
      const [identity, { state, rules, isDisputed }] = next.value
      const now = this.now(clock, rules)
      const isSameAsNone = !isDisputed && Bucket.isSameAsNone(state, rules, now)
      if (isSameAsNone || now >= Bucket.forgottenAt(state, rules)) this.buckets.delete(identity)
    }
  }

  private load(identity: string, rules: Rules, clock: Clock.Clock): Bucket.Loaded {
    this.dropOld(clock)
    return Bucket.load(this.buckets.get(identity)?.state, rules, this.now(clock, rules))
  }

  private save(identity: string, rules: Rules, state: State, disagreed: boolean): void {
    const remembered = this.buckets.get(identity)
    if (remembered === undefined) this.buckets.set(identity, { state, rules, isDisputed: false })
    else {
      remembered.state = state
      remembered.rules = rules
      if (disagreed) remembered.isDisputed = true
    }
  }

  private decide(parts: ReadonlyArray<JointPart>, minWait: number, maxWait: number, clock: Clock.Clock): JointAnswer {
    const asked = parts.map((part) => ({ ...part, ...this.load(part.identity, part.config.rules, clock) }))
    const { states, outcome } = Bucket.reserveTogether(asked, minWait, maxWait)
    for (const [index, { identity, config, state, starts, disagreed }] of asked.entries()) {
      // A refusal changes nothing, except that a quota lives on while anyone asks for it.
      if (outcome._tag === "Reserved" || starts || config.rules.amount === 0) {
        this.save(identity, config.rules, states[index] ?? state, disagreed)
      }
    }
    return { outcome, disagreed: asked.map(({ disagreed }) => disagreed) }
  }

  takeNow(parts: ReadonlyArray<JointPart>, clock: Clock.Clock): boolean {
    const taken: Array<State> = []
    for (const { identity, config, amount } of parts) {
      const { state, disagreed } = this.load(identity, config.rules, clock)
      if (disagreed) return false
      const after = Bucket.reserve(state, amount, 0)
      if (after.outcome._tag !== "Reserved") return false
      taken.push(after.state)
    }
    for (const [index, { identity, config }] of parts.entries()) {
      const state = taken[index]
      if (state !== undefined) this.save(identity, config.rules, state, false)
    }
    return true
  }

  reserve<A, E, R>(
    parts: ReadonlyArray<JointPart>,
    minWait: number,
    maxWait: number,
    _restore: Restore,
    onAnswer: (answer: JointAnswer) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R> {
    return Effect.clockWith((clock) => onAnswer(this.decide(parts, minWait, maxWait, clock)))
  }

  store(config: BucketConfig): BucketStore {
    const { rules } = config
    const identity = identityOf(config)
    const load = (clock: Clock.Clock) => this.load(identity, rules, clock)
    const save = (state: State, disagreed: boolean) => this.save(identity, rules, state, disagreed)
    const giveBack = (reservation: Reservation, amount: number): void => {
      const loaded = load(currentClock())
      const { state, returned } = Bucket.giveBack(loaded.state, reservation, amount)
      if (returned > 0) save(state, loaded.disagreed)
    }
    return {
      home: this,
      takeNow: (amount, clock) => {
        const loaded = load(clock)
        const { state, outcome } = Bucket.reserve(loaded.state, amount, 0)
        if (loaded.disagreed || outcome._tag !== "Reserved") return false
        save(state, false)
        return true
      },
      reserve: (amount, maxWait, _claim, onAnswer) =>
        Effect.clockWith((clock) => {
          const loaded = load(clock)
          const { state, outcome } = Bucket.reserve(loaded.state, amount, maxWait)
          // A refusal changes nothing, except that a quota lives on while anyone asks for it.
          if (outcome._tag !== "TooLong" || loaded.starts) save(state, loaded.disagreed)
          return onAnswer({ outcome, disagreed: loaded.disagreed })
        }),
      giveBack,
      settle: (reservation, actual) =>
        actual <= reservation.amount
          ? Effect.sync(() => giveBack(reservation, reservation.amount - actual))
          : Effect.clockWith((clock) => {
              const { state, disagreed } = load(clock)
              save(Bucket.charge(state, actual - reservation.amount), disagreed)
              return Effect.void
            }),
      pause: (duration) =>
        Effect.clockWith((clock) => {
          const { state, disagreed } = load(clock)
          save(Bucket.pause(state, duration), disagreed)
          return Effect.void
        }),
      look: (amount) => Effect.clockWith((clock) => Effect.succeed(Bucket.look(load(clock).state, amount))),
      reset: Effect.clockWith((clock) => {
        const { state, disagreed } = load(clock)
        save(Bucket.reset(state, rules), disagreed)
        return Effect.void
      })
    }
  }
}
