import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import type { Reservation, Rules, State } from "../src/internal/bucket.ts"
import * as Bucket from "../src/internal/bucket.ts"
import { Share, shareOf, Unlimited } from "../src/internal/bucketStandIn.ts"
import { bucketConfig } from "../src/internal/options.ts"
import { type Random, seeded } from "./support/random.ts"

const token = Bucket.unitsPerToken

const configOf = (options: Record<string, unknown>) =>
  Result.getOrThrow(bucketConfig({ name: "shared", ...options }, 86_400_000))

const second = 1_000_000

describe("a share of a bucket", () => {
  it("has that share of the capacity and of the rate, and refills evenly", () => {
    const rules = shareOf(configOf({ capacity: 100, refillAmount: 10, refillFrequency: "1 second" }), 0.25)
    assert.strictEqual(rules.capacity, 25 * token)
    assert.approximately((rules.amount / rules.interval) * second, 2.5 * token, 0.001 * token)
    assert.isAtMost(rules.interval, 1_000)
  })

  it("never has more than its share of the rate, however odd that is", () => {
    for (const [refillAmount, refillFrequency, share] of [
      [1, "1 hour", 1 / 7],
      [5, "1 day", 0.001],
      [3.000001, 1, 1],
      [0.001, "1 hour", 1 / 3]
    ] as const) {
      const config = configOf({ capacity: 5, refillAmount, refillFrequency })
      const rules = shareOf(config, share)
      const rate = (config.rules.amount / config.rules.interval) * share
      assert.isAtMost(rules.amount / rules.interval, rate * (1 + 1e-9))
      assert.isAtLeast(rules.amount / rules.interval, rate * 0.998)
      assert.isTrue(Number.isSafeInteger(rules.amount) && Number.isSafeInteger(rules.interval))
      assert.isTrue(rules.amount >= 1 && rules.amount <= rules.capacity)
    }
  })

  it("holds one request, though its share of the capacity is less", () => {
    assert.strictEqual(shareOf(configOf({ capacity: 2 }), 0.1).capacity, token)
  })

  it("begins empty when Redis was last there", () => {
    const share = new Share(configOf({ capacity: 10, refillAmount: 10 }), 0.5, 0, 0)
    assert.strictEqual(share.look(token, 0).available, 0)
    assert.approximately(share.look(token, 0.4 * second).available, 2 * token, token / 100)
    assert.strictEqual(share.look(token, 60 * second).available, 5 * token)
  })

  it("begins in debt by what its process was promised at Redis", () => {
    const share = new Share(configOf({ capacity: 10, refillAmount: 10 }), 0.5, 0, 4 * token)
    assert.approximately(share.look(token, 0).wait, second, second / 100)
  })

  it("owes what was taken, but no more than what has not refilled since", () => {
    const share = new Share(configOf({ capacity: 10, refillAmount: 10 }), 0.5, 0, 0)
    assert.strictEqual(share.owed(10 * second), 0)
    for (let i = 0; i < 5; i++) assert.strictEqual(share.reserve(token, 0, 10 * second)._tag, "Reserved")
    assert.strictEqual(share.owed(10 * second), 5 * token)
    assert.approximately(share.owed(10.6 * second), 2 * token, token / 100)
    assert.strictEqual(share.owed(20 * second), 0)
  })

  it("owes nothing for a wait that was given back", () => {
    const share = new Share(configOf({ capacity: 10, refillAmount: 10 }), 0.5, 0, 0)
    const outcome = share.reserve(token, second, 0)
    if (outcome._tag === "Reserved") share.giveBack(outcome.reservation, token, 0)
    assert.strictEqual(share.owed(0), 0)
    assert.strictEqual(share.admitted, 0)
  })

  it("holds everyone off in a pause, and says how much of it is left", () => {
    const share = new Share(configOf({ capacity: 10, refillAmount: 10 }), 0.5, 0, 0)
    share.pause(4 * second, 10 * second)
    assert.strictEqual(share.look(token, 11 * second).wait, 3 * second)
    assert.strictEqual(share.pausedFor(11 * second), 3 * second)
    assert.strictEqual(share.pausedFor(15 * second), 0)
  })
})

describe("no limit", () => {
  it("counts what it lets through", () => {
    const unlimited = new Unlimited(configOf({ capacity: 1 }))
    for (let i = 0; i < 3; i++) unlimited.reserve(token)
    assert.strictEqual(unlimited.admitted, 3 * token)
    assert.strictEqual(unlimited.owed(), 0)
  })
})

interface Admission {
  readonly at: number
  readonly amount: number
}

interface Scene {
  readonly rules: Rules
  readonly processes: number
  /** How long somebody may wait at Redis, in microseconds. */
  readonly waitAtRedis: number
  /** How often Redis goes away. */
  readonly rounds: number
  /** By how much later than at best a process notices that Redis is back, in microseconds. */
  readonly lag: number
}

/**
 * Processes that share a bucket at Redis, which goes away and comes back: what they let through, and what had been
 * promised at Redis when it went away.
 */
const simulate = (random: Random, { rules, processes, waitAtRedis, rounds, lag }: Scene) => {
  const config = { ...configOf({ capacity: 5 }), rules, tokensToConsume: token }
  const admissions: Array<Admission> = []
  let redis: State | undefined
  let promised: Array<Admission> = []
  let now = 0
  let promisedAtLosses = 0

  const present = (until: number) => {
    while (now < until) {
      now += random.integer(0, 60_000)
      const { state, outcome } = Bucket.reserve(
        Bucket.load(redis, rules, now).state,
        token,
        random.chance(0.5) ? 0 : waitAtRedis
      )
      redis = state
      if (outcome._tag === "Reserved") promised.push({ at: now + outcome.wait, amount: token })
    }
  }

  const absent = (until: number) => {
    const since = now
    const pending = promised.filter(({ at }) => at > now)
    promisedAtLosses += pending.reduce((sum, { amount }) => sum + amount, 0)
    const ends = Array.from({ length: processes }, () => until + random.integer(0, lag))
    const shares = ends.map(
      (_, process) =>
        new Share(
          config,
          1 / processes,
          since,
          pending.filter((_, index) => index % processes === process).reduce((sum, { amount }) => sum + amount, 0)
        )
    )
    const waiting = shares.map((): Array<readonly [number, Reservation]> => [])
    const over = new Set<number>()
    const last = Math.max(...ends)
    while (over.size < processes) {
      now += random.integer(0, 30_000)
      for (const [process, share] of shares.entries()) {
        if (over.has(process)) {
          // Back at Redis while others are not.
          const { state, outcome } = Bucket.reserve(Bucket.load(redis, rules, now).state, token, 0)
          redis = state
          if (outcome._tag === "Reserved") promised.push({ at: now, amount: token })
        } else if (now >= (ends[process] ?? last)) {
          const unserved = (waiting[process] ?? []).filter(([at]) => at > now)
          for (const [, reservation] of unserved.toReversed()) share.giveBack(reservation, token, now)
          const served = (waiting[process] ?? []).filter(([at]) => at <= now)
          for (const [at] of served) admissions.push({ at, amount: token })
          redis = Bucket.charge(Bucket.load(redis, rules, now).state, share.owed(now))
          over.add(process)
        } else if (random.chance(0.6)) {
          const outcome = share.reserve(token, random.chance(0.5) ? 0 : 400_000, now)
          if (outcome._tag === "Reserved") waiting[process]?.push([now + outcome.wait, outcome.reservation])
        }
      }
    }
  }

  for (let round = 0; round < rounds; round++) {
    present(now + random.integer(0, 3 * second))
    absent(now + random.integer(0, 3 * second))
  }
  present(now + 2 * second)
  promised = promised.concat(admissions).sort((one, other) => one.at - other.at)
  return { admissions: promised, promisedAtLosses }
}

/** The most that was let through in any window beyond `capacity` and what refilled in it. */
const excessOf = (admissions: ReadonlyArray<Admission>, { capacity, amount, interval }: Rules): number => {
  const rate = amount / interval
  let lowest = Number.POSITIVE_INFINITY
  let worst = Number.NEGATIVE_INFINITY
  let sum = 0
  for (const { at, amount } of admissions) {
    lowest = Math.min(lowest, sum - rate * at)
    sum += amount
    worst = Math.max(worst, sum - rate * at - lowest)
  }
  return worst - capacity - amount
}

describe("processes that share a bucket, whose Redis comes and goes", () => {
  const rulesOf = (random: Random) =>
    configOf({
      capacity: random.integer(8, 40),
      refillAmount: random.integer(1, 4),
      refillFrequency: random.integer(20, 200)
    }).rules

  const worstOf = (scene: Omit<Scene, "rules" | "processes">, allowed: (rules: Rules, promised: number) => number) => {
    let worst = Number.NEGATIVE_INFINITY
    for (let seed = 1; seed <= 500; seed++) {
      const random = seeded(seed)
      const rules = rulesOf(random)
      const { admissions, promisedAtLosses } = simulate(random, { ...scene, rules, processes: random.integer(1, 8) })
      worst = Math.max(worst, excessOf(admissions, rules) - allowed(rules, promisedAtLosses))
    }
    return worst
  }

  // A share refills evenly and the bucket at Redis in steps: by one step they may differ, each time.
  it("let through no more than the capacity and what refills, but for one refill each time", () => {
    const rounds = 6
    assert.isAtMost(
      worstOf({ waitAtRedis: 0, rounds, lag: 0 }, ({ amount }) => rounds * amount),
      0
    )
  })

  it("let through what had been promised when it went away besides", () => {
    const rounds = 6
    assert.isAtMost(
      worstOf({ waitAtRedis: 300_000, rounds, lag: 0 }, ({ amount }, promised) => promised + rounds * amount),
      0
    )
  })

  it("add their shares to what Redis admits as long as they have not noticed that it is back", () => {
    const lag = second
    const allowed = ({ capacity, amount, interval }: Rules, promised: number) =>
      promised + amount + capacity + (amount / interval) * lag
    assert.isAtMost(worstOf({ waitAtRedis: 300_000, rounds: 1, lag }, allowed), 0)
  })
})
