import { assert, describe, it } from "vitest"
import * as Bucket from "../src/internal/bucket.ts"
import { type Admitted, type Event, earliest, lowestLevel, refilledIn, worstWindow } from "./support/bucketModel.ts"
import { type Random, seeded } from "./support/random.ts"

const rules = (overrides: Partial<Bucket.Rules> = {}): Bucket.Rules => ({
  capacity: 5,
  amount: 1,
  interval: 10,
  origin: -1,
  initial: overrides.capacity ?? 5,
  expiry: 1_000_000,
  ...overrides
})

/** A bucket that time passes for. */
class Simulation {
  now: number
  state: Bucket.State | undefined
  readonly start: number
  private readonly rules: Bucket.Rules

  constructor(rules: Bucket.Rules, now = 1000) {
    this.rules = rules
    this.now = now
    this.start = now
  }

  private load(): Bucket.State {
    return Bucket.load(this.state, this.rules, this.now).state
  }

  reserve(amount: number, maxWait = Bucket.maxSpan): Bucket.Outcome {
    const loaded = Bucket.load(this.state, this.rules, this.now)
    const { state, outcome } = Bucket.reserve(loaded.state, amount, maxWait)
    if (outcome._tag !== "TooLong" || loaded.starts) this.state = state
    return outcome
  }

  giveBack(reservation: Bucket.Reservation, amount = reservation.amount): number {
    const { state, returned } = Bucket.giveBack(this.load(), reservation, amount)
    this.state = state
    return returned
  }

  charge(amount: number): void {
    this.state = Bucket.charge(this.load(), amount)
  }

  reset(): void {
    this.state = Bucket.reset(this.load(), this.rules)
  }

  pause(duration: number): void {
    this.state = Bucket.pause(this.load(), duration)
  }

  look(amount: number): Bucket.View {
    return Bucket.look(this.load(), amount)
  }

  wait(amount: number): number {
    return this.look(amount).wait
  }

  available(): number {
    return this.look(1).available
  }
}

const reserved = (outcome: Bucket.Outcome): Bucket.Outcome & { readonly _tag: "Reserved" } => {
  if (outcome._tag !== "Reserved") throw new Error(`Expected a reservation, got ${JSON.stringify(outcome)}`)
  return outcome
}

const randomRules = (random: Random): Bucket.Rules => {
  const capacity = random.integer(1, 30)
  return rules({
    capacity,
    amount: random.integer(1, capacity),
    interval: random.integer(1, 20),
    origin: random.chance(0.3) ? random.integer(0, 300) : -1,
    initial: random.chance(0.7) ? capacity : random.integer(0, capacity)
  })
}

describe("a token bucket's decisions", () => {
  it("are those of a jar of tokens, counted refill by refill", () => {
    for (let seed = 1; seed <= 1500; seed++) {
      const random = seeded(seed)
      const own = randomRules(random)
      const bucket = new Simulation(own, random.integer(300, 1000))
      const taken: Array<Event> = []
      for (let step = 0; step < 25; step++) {
        // The first request is when the bucket begins.
        if (step > 0) bucket.now += random.pick([0, 0, 1, random.integer(0, 30), random.integer(0, 200)])
        const amount = random.integer(1, own.capacity)
        const maxWait = random.pick([0, random.integer(0, 100), Bucket.maxSpan])
        const expected = (earliest(own, bucket.start, taken, bucket.now, amount) ?? 0) - bucket.now
        const outcome = bucket.reserve(amount, maxWait)
        if (outcome._tag === "Empty") assert.fail(`seed ${seed}: empty`)
        assert.strictEqual(outcome.wait, expected, `seed ${seed}, step ${step}`)
        assert.strictEqual(outcome._tag, expected > maxWait ? "TooLong" : "Reserved", `seed ${seed}, step ${step}`)
        if (outcome._tag === "Reserved") {
          taken.push({ time: bucket.now + outcome.wait, amount, waited: outcome.wait > 0 })
        }
      }
    }
  })

  it("never let out more than the jar holds, whatever is given back or paused, and in whatever order", () => {
    let middle = 0
    let paused = 0
    for (let seed = 1; seed <= 20_000; seed++) {
      const random = seeded(seed)
      const own = randomRules(random)
      const bucket = new Simulation(own, random.integer(300, 1000))
      const pending: Array<{
        readonly runs: number
        readonly waited: boolean
        readonly reservation: Bucket.Reservation
      }> = []
      const history: Array<Event> = []
      const settle = () => {
        for (let i = 0; i < pending.length; ) {
          const one = pending[i]
          if (one === undefined || one.runs > bucket.now) i++
          else {
            pending.splice(i, 1)
            history.push({ time: one.runs, amount: one.reservation.amount, waited: one.waited })
            if (random.chance(0.2)) {
              const back = bucket.giveBack(one.reservation, random.integer(0, one.reservation.amount))
              if (back > 0) history.push({ time: bucket.now, amount: -back, waited: false })
            }
          }
        }
      }
      let lastRun = 0
      let resumes = 0
      const pauses = random.chance(0.5)
      for (let step = 0; step < 60; step++) {
        if (step > 0) bucket.now += random.pick([0, 0, 0, 1, random.integer(0, 10), random.integer(0, 60)])
        settle()
        if (pauses && random.chance(0.05)) {
          const duration = random.pick([random.integer(0, 20), random.integer(0, 200)])
          bucket.pause(duration)
          resumes = Math.max(resumes, bucket.now + duration)
        }
        if (random.chance(0.65) || pending.length === 0) {
          const amount = random.chance(0.5) ? 1 : random.integer(1, own.capacity)
          const outcome = bucket.reserve(amount, random.pick([Bucket.maxSpan, random.integer(0, 300)]))
          if (outcome._tag !== "Reserved") continue
          const runs = bucket.now + outcome.wait
          const others = pending.map((one) => one.runs)
          assert.isAtLeast(runs, Math.max(0, ...others), `seed ${seed}: overtakes a promise`)
          assert.isAtLeast(runs, resumes, `seed ${seed}: runs in a pause`)
          if (runs === resumes && runs > bucket.now) paused++
          lastRun = Math.max(lastRun, runs)
          // What a pause holds off takes from a jar that has overflown, as if it came at the pause's end.
          pending.push({ runs, waited: outcome.wait > 0 && runs !== resumes, reservation: outcome.reservation })
        } else {
          const index = random.chance(0.5) ? pending.length - 1 : random.integer(0, pending.length - 1)
          const [one] = pending.splice(index, 1)
          if (one === undefined) continue
          const back = bucket.giveBack(one.reservation)
          if (index < pending.length) middle++
          assert.isAtMost(back, one.reservation.amount)
        }
      }
      bucket.now = Math.max(bucket.now, lastRun)
      for (const { runs, waited, reservation } of pending)
        history.push({ time: runs, amount: reservation.amount, waited })
      assert.isAtLeast(lowestLevel(own, bucket.start, history), 0, `seed ${seed}`)
    }
    assert.isAbove(middle, 10_000)
    assert.isAbove(paused, 10_000)
  })

  it("let out in no window more than capacity and what refills in it, however late tokens are given back", () => {
    let late = 0
    let returned = 0
    for (let seed = 1; seed <= 10_000; seed++) {
      const random = seeded(seed)
      const own = randomRules(random)
      const bucket = new Simulation(own, random.integer(300, 1000))
      const held: Array<{ readonly runs: number; readonly reservation: Bucket.Reservation }> = []
      const history: Array<Admitted> = []
      for (let step = 0; step < 50; step++) {
        if (step > 0) bucket.now += random.pick([0, 0, 1, random.integer(0, 10), random.integer(0, 60)])
        const dice = random.next()
        if (dice < 0.03) bucket.pause(random.integer(0, 100))
        else if (dice < 0.06) bucket.charge(random.integer(1, own.capacity))
        else if (dice < 0.6 || held.length === 0) {
          const amount = random.chance(0.5) ? 1 : random.integer(1, own.capacity)
          const outcome = bucket.reserve(amount, random.pick([0, Bucket.maxSpan, random.integer(0, 300)]))
          if (outcome._tag !== "Reserved") continue
          held.push({ runs: bucket.now + outcome.wait, reservation: outcome.reservation })
        } else {
          const [one] = held.splice(random.integer(0, held.length - 1), 1)
          if (one === undefined) continue
          const { amount } = one.reservation
          const back = bucket.giveBack(one.reservation, random.chance(0.5) ? amount : random.integer(0, amount))
          history.push({ time: one.runs, amount: amount - back })
          if (one.runs < bucket.now && back > 0) late++
          returned += back
        }
      }
      for (const { runs, reservation } of held) history.push({ time: runs, amount: reservation.amount })
      assert.isAtMost(worstWindow(own.capacity, refilledIn(own, bucket.start), history), 0, `seed ${seed}`)
    }
    assert.isAbove(late, 10_000)
    assert.isAbove(returned, 100_000)
  })

  it("take back at any time as if no more had been taken in the first place, unless others took from it since", () => {
    for (let seed = 1; seed <= 2000; seed++) {
      const random = seeded(seed)
      const own = rules({ capacity: 20, interval: random.integer(1, 20), initial: 20 })
      const [bucket, without] = [new Simulation(own), new Simulation(own)]
      const used = random.integer(1, 5)
      const { reservation } = reserved(bucket.reserve(used + random.integer(1, 5)))
      without.reserve(used)
      bucket.now += random.integer(0, 40)
      without.now = bucket.now
      const others = random.integer(0, 10)
      if (others > 0) {
        const isOvercharge = random.chance(0.3)
        for (const one of [bucket, without]) isOvercharge ? one.charge(others) : one.reserve(others)
      }
      bucket.giveBack(reservation, reservation.amount - used)
      const hasRefilled = bucket.now >= bucket.start + own.interval
      if (others === 0 || !hasRefilled) assert.strictEqual(bucket.available(), without.available(), `seed ${seed}`)
      else assert.isAtMost(bucket.available(), without.available(), `seed ${seed}`)
    }
  })

  it("lose nothing when the latest promises are given back, one after the other", () => {
    for (let seed = 1; seed <= 2000; seed++) {
      const random = seeded(seed)
      const own = randomRules(random)
      const bucket = new Simulation(own)
      for (let i = 0; i < 5; i++) bucket.reserve(random.integer(1, own.capacity))
      bucket.now += random.integer(0, 20)
      const amount = random.integer(1, own.capacity)
      const before = bucket.wait(amount)
      const reservations = Array.from({ length: random.integer(1, 8) }, () =>
        reserved(bucket.reserve(random.integer(1, own.capacity)))
      )
      for (const { reservation } of reservations.reverse()) {
        assert.strictEqual(bucket.giveBack(reservation), reservation.amount, `seed ${seed}`)
      }
      assert.strictEqual(bucket.wait(amount), before, `seed ${seed}`)
    }
  })

  it("have all that was not used of a quota that never refills back, in whatever order", () => {
    for (let seed = 1; seed <= 2000; seed++) {
      const random = seeded(seed)
      const own = rules({ capacity: 1000, amount: 0, interval: 0, initial: 1000 })
      const bucket = new Simulation(own)
      const held: Array<Bucket.Reservation> = []
      let used = 0
      for (let step = 0; step < 30; step++) {
        bucket.now += random.integer(0, 10)
        if (random.chance(0.05)) bucket.pause(random.integer(0, 20))
        if (random.chance(0.5)) held.push(reserved(bucket.reserve(random.integer(1, 30))).reservation)
        const [one] = random.chance(0.5) ? held.splice(random.integer(0, held.length - 1), 1) : []
        if (one === undefined) continue
        const back = random.integer(0, one.amount)
        assert.strictEqual(bucket.giveBack(one, back), back, `seed ${seed}`)
        used += one.amount - back
      }
      for (const { amount } of held) used += amount
      bucket.now += 1000
      assert.strictEqual(bucket.available(), 1000 - used, `seed ${seed}`)
    }
  })

  it("do not drift over a million steps", () => {
    for (const own of [rules({ interval: 1000 }), rules({ capacity: 7, amount: 3, interval: 997, initial: 7 })]) {
      const bucket = new Simulation(own)
      const random = seeded(7)
      let taken = 0
      for (let step = 0; step < 1_000_000; step++) {
        bucket.now += random.integer(1, 3)
        if (bucket.reserve(1, 0)._tag === "Reserved") taken++
      }
      const refilled = Math.floor((bucket.now - bucket.start) / own.interval) * own.amount
      assert.strictEqual(taken + bucket.available(), own.capacity + refilled)
    }
  })

  it("deliver the whole rate to whoever asks a little too late each time", () => {
    const bucket = new Simulation(rules({ capacity: 2, interval: 1000, initial: 0 }))
    bucket.reserve(1, 0)
    let taken = 0
    for (let step = 0; step < 1000; step++) {
      bucket.now += 1999
      while (bucket.reserve(1, 0)._tag === "Reserved") taken++
    }
    assert.strictEqual(taken, 1999)
  })

  it("pass on a debt to those who come later", () => {
    const bucket = new Simulation(rules({ capacity: 2 }))
    bucket.charge(6)
    assert.strictEqual(bucket.wait(1), 50)
    bucket.now += 45
    assert.strictEqual(bucket.wait(1), 5)
  })

  it("hold everyone off for a pause and decide as at its end, so that what refills meanwhile is kept", () => {
    const bucket = new Simulation(rules())
    for (let i = 0; i < 4; i++) bucket.reserve(1)
    bucket.pause(25)
    assert.strictEqual(bucket.available(), 0)
    // One token was left, and two arrive.
    assert.deepStrictEqual(
      [1, 1, 1, 1].map((amount) => reserved(bucket.reserve(amount)).wait),
      [25, 25, 25, 30]
    )
  })

  it("refill a bucket that is paused no further than its capacity", () => {
    const bucket = new Simulation(rules())
    bucket.pause(1000)
    const waits = Array.from({ length: 7 }, () => reserved(bucket.reserve(1)).wait)
    assert.deepStrictEqual(waits, [1000, 1000, 1000, 1000, 1000, 1010, 1020])
    bucket.now += 990
    assert.strictEqual(bucket.wait(1), 40)
  })

  it("make a pause longer by a longer one, and never shorter", () => {
    const bucket = new Simulation(rules())
    bucket.pause(100)
    bucket.pause(50)
    assert.strictEqual(bucket.wait(1), 100)
    bucket.pause(200)
    assert.strictEqual(bucket.wait(1), 200)
  })

  it("keep promises in a pause, and hold off whoever comes after them", () => {
    const bucket = new Simulation(rules({ initial: 0 }))
    const first = reserved(bucket.reserve(1))
    const second = reserved(bucket.reserve(3))
    bucket.pause(30)
    assert.deepStrictEqual([first.wait, second.wait], [10, 40])
    assert.strictEqual(bucket.wait(1), 50)
    // Whoever leaves takes no part of the pause along.
    bucket.giveBack(second.reservation)
    assert.isAtLeast(bucket.wait(1), 30)
  })

  it("return tokens in a pause as far as the bucket can hold them at its end", () => {
    const bucket = new Simulation(rules())
    const { reservation } = reserved(bucket.reserve(3))
    bucket.pause(10)
    assert.strictEqual(bucket.giveBack(reservation), 2)
    bucket.now += 10
    assert.strictEqual(bucket.available(), 5)
  })

  it("hold a quota that never refills off as well, and remember it for as long", () => {
    const bucket = new Simulation(rules({ amount: 0, interval: 0, expiry: 10 }))
    bucket.reserve(4)
    bucket.pause(100)
    bucket.now += 50
    assert.strictEqual(bucket.wait(1), 50)
    assert.strictEqual(bucket.wait(2), Number.POSITIVE_INFINITY)
  })

  it("hold a paused bucket off under other rules too, and refill it from the end of the pause on", () => {
    for (const other of [rules({ amount: 5, interval: 7 }), rules({ amount: 5, interval: 7, origin: 0 })]) {
      const own = rules()
      const used = Bucket.reserve(Bucket.load(undefined, own, 1000).state, 5, 0).state
      const paused = Bucket.pause(used, 100)
      const { state } = Bucket.load(paused, other, 1050)
      const drained = Bucket.reserve(state, 5, Bucket.maxSpan).state
      assert.strictEqual(Bucket.look(drained, 1).wait, (other.origin < 0 ? 1107 : 1106) - 1050)
    }
  })

  it("end a pause by a reset", () => {
    const bucket = new Simulation(rules())
    bucket.pause(100)
    bucket.reset()
    assert.strictEqual(bucket.wait(5), 0)
  })

  it("make a pause no longer when the clock is set back", () => {
    const bucket = new Simulation(rules())
    bucket.pause(100)
    bucket.now -= 500
    assert.strictEqual(bucket.wait(1), 100)
  })

  it("count nothing twice and make nobody wait longer when the clock is set back", () => {
    const bucket = new Simulation(rules({ capacity: 3, interval: 100 }))
    for (let i = 0; i < 3; i++) bucket.reserve(1)
    bucket.now += 150
    assert.strictEqual(bucket.wait(2), 50)
    bucket.reserve(1, 0)
    assert.strictEqual(bucket.wait(1), 50)
    bucket.now -= 1_000
    assert.strictEqual(bucket.wait(1), 50)
    assert.strictEqual(bucket.reserve(1, 0)._tag, "TooLong")
    bucket.now += 50
    assert.strictEqual(bucket.wait(1), 0)
  })

  it("count a window once when the clock is set back over its beginning", () => {
    const bucket = new Simulation(rules({ capacity: 1, interval: 100, origin: 0 }), 1090)
    bucket.reserve(1)
    bucket.now = 1100
    assert.strictEqual(bucket.reserve(1, 0)._tag, "Reserved")
    bucket.now = 1095
    assert.strictEqual(bucket.reserve(1, 0)._tag, "TooLong")
    bucket.now = 1100
    assert.strictEqual(bucket.reserve(1, 0)._tag, "TooLong")
  })

  it("have windows before their origin too, if the clock was set back behind it", () => {
    const bucket = new Simulation(rules({ capacity: 1, interval: 100, origin: 1000, initial: 0 }), 950)
    assert.strictEqual(bucket.wait(1), 50)
  })

  it("carry tokens and the part of an interval over to other rules, and never more", () => {
    const slow = rules({ capacity: 10, interval: 100, initial: 4 })
    const fast = rules({ capacity: 3, amount: 1, interval: 50 })
    const before = Bucket.load(undefined, slow, 1000).state
    const { state, disagreed } = Bucket.load(before, fast, 1050)
    assert.isTrue(disagreed)
    assert.strictEqual(state.level, 3)
    // Half an interval of the slow one had brought half a token: half an interval of the fast one.
    assert.strictEqual(state.slot, 1025)
    for (let seed = 1; seed <= 5000; seed++) {
      const random = seeded(seed)
      const [one, other] = [randomRules(random), randomRules(random)]
      let state: Bucket.State | undefined
      let now = 1000
      let taken = 0
      let refilled = 0
      for (let step = 0; step < 40; step++) {
        const elapsed = random.integer(0, 30)
        now += elapsed
        refilled += elapsed * Math.max(one.amount / one.interval, other.amount / other.interval)
        const loaded = Bucket.load(state, random.pick([one, other]), now)
        const decided = Bucket.reserve(loaded.state, 1, 0)
        state = decided.state
        if (decided.outcome._tag === "Reserved") taken++
      }
      const most = Math.max(one.capacity, other.capacity) + refilled + Math.max(one.amount, other.amount)
      assert.isAtMost(taken, most, `seed ${seed}`)
    }
  })

  it("tell when there will be one more whole token", () => {
    const token = Bucket.unitsPerToken
    const bucket = new Simulation(rules({ capacity: 3 * token, amount: token / 2, interval: 10 }))
    const nextToken = () => bucket.look(1).nextToken
    assert.strictEqual(nextToken(), Number.POSITIVE_INFINITY)
    bucket.reserve(1.2 * token)
    // 1.8 tokens are left: 2.3 after one interval.
    assert.strictEqual(nextToken(), 10)
    bucket.reserve(1.8 * token)
    assert.strictEqual(nextToken(), 20)
    bucket.reserve(2 * token)
    assert.strictEqual(nextToken(), 60)
    assert.strictEqual(Bucket.fillTime(rules({ capacity: 3 * token, amount: token, interval: 10 })), 30)
    assert.strictEqual(Bucket.fillTime(rules({ amount: 0, interval: 0 })), Number.POSITIVE_INFINITY)
    const small = new Simulation(rules({ capacity: token / 2, amount: 1, interval: 10 }))
    small.reserve(1)
    assert.strictEqual(small.look(1).nextToken, Number.POSITIVE_INFINITY)
  })

  it("keep what leaves the middle of a queue as far as the bucket can hold it until the queue ends", () => {
    const bucket = new Simulation(rules({ capacity: 10, initial: 0 }))
    const queue = Array.from({ length: 30 }, () => reserved(bucket.reserve(1)).reservation)
    const leaving = queue.slice(0, 15)
    const back = leaving.slice(0, 5).map((reservation) => bucket.giveBack(reservation))
    // Those that have run by now and were settled count the same, for somebody has waited all along.
    bucket.now += 150
    back.push(...leaving.slice(5).map((reservation) => bucket.giveBack(reservation)))
    assert.deepStrictEqual(back, [...Array(9).fill(1), ...Array(6).fill(0)])
    assert.deepStrictEqual(
      Array.from({ length: 10 }, () => reserved(bucket.reserve(1)).wait),
      [...Array(9).fill(150), 160]
    )
  })

  it("keep what was promised under other rules, and begin those of the caller behind it", () => {
    const [slow, fast] = [rules({ interval: 1000, initial: 0 }), rules({ interval: 100, initial: 0 })]
    for (const [before, after] of [
      [slow, fast],
      [fast, slow]
    ] as const) {
      let state = Bucket.load(undefined, before, 5000).state
      const last = [1, 2, 3].map(() => {
        const decided = Bucket.reserve(state, 1, Bucket.maxSpan)
        state = decided.state
        return reserved(decided.outcome)
      })[2]
      if (last === undefined) return
      assert.strictEqual(last.wait, 3 * before.interval)
      state = Bucket.load(state, after, 5050).state
      const next = Bucket.reserve(state, 1, Bucket.maxSpan)
      assert.strictEqual(reserved(next.outcome).wait, 3 * before.interval + after.interval - 50)
      // Nobody takes the time before along, in which the old rules bring what was promised.
      const left = Bucket.giveBack(state, last.reservation, 1).state
      assert.isAtLeast(Bucket.look(left, 1).wait, 3 * before.interval - 50)
    }
  })

  it("conserve what different rules have brought, as long as they alternate", () => {
    let waited = 0
    for (let seed = 1; seed <= 3000; seed++) {
      const random = seeded(seed)
      const million = 1_000_000
      const capacity = 20 * million
      const ownRules = (): Bucket.Rules => {
        const amount = random.integer(1, 6)
        const step = random.pick([1, million, amount * million])
        return rules({
          capacity,
          initial: 0,
          amount: step,
          interval: step,
          origin: random.chance(0.5) ? random.integer(0, million) : -1,
          expiry: Bucket.maxSpan
        })
      }
      const choices = Array.from({ length: random.integer(2, 3) }, ownRules)
      const start = random.integer(10 * million, 20 * million)
      let now = start
      let state: Bucket.State | undefined
      const history: Array<Admitted> = []
      const patience = random.pick([0, Bucket.maxSpan])
      let lastRun = now
      let changes = 0
      for (let step = 0; step < 40; step++) {
        if (step > 0) now += random.pick([1, random.integer(0, 400_000), random.integer(0, 2 * million)])
        const loaded = Bucket.load(state, random.pick(choices), now)
        if (loaded.disagreed) changes++
        state = loaded.state
        for (let i = random.integer(1, 3); i > 0; i--) {
          const decided = Bucket.reserve(state, million, patience)
          if (decided.outcome._tag !== "Reserved") break
          state = decided.state
          if (decided.outcome.wait > 0) waited++
          assert.isAtLeast(now + decided.outcome.wait, lastRun, `seed ${seed}: overtakes a promise`)
          lastRun = now + decided.outcome.wait
          history.push({ time: lastRun, amount: million })
        }
      }
      // All of them bring a token a second, some in lumps.
      const lump = Math.max(...choices.map(({ amount }) => amount))
      const brought = (from: number, to: number) => to - from + lump
      assert.isAtMost(worstWindow(capacity, brought, history), 0, `seed ${seed}`)
      const left = Bucket.load(state, choices[0] as Bucket.Rules, Math.max(now, lastRun)).state
      const total = history.length * million + left.level
      assert.isAtLeast(total, Math.max(now, lastRun) - start - 2 * lump - changes, `seed ${seed}`)
    }
    assert.isAbove(waited, 10_000)
  })

  it("let two processes that disagree about everything out no more than the more generous of them", () => {
    let changes = 0
    for (let seed = 1; seed <= 10_000; seed++) {
      const random = seeded(seed)
      const choices = [randomRules(random), randomRules(random)].map((own) => ({ ...own, initial: own.capacity }))
      let now = random.integer(300, 1000)
      let state: Bucket.State | undefined
      const held: Array<{ readonly runs: number; readonly reservation: Bucket.Reservation }> = []
      const history: Array<Admitted> = []
      let own = random.pick(choices)
      for (let step = 0; step < 50; step++) {
        now += random.pick([0, 0, 1, random.integer(0, 10), random.integer(0, 60)])
        if (random.chance(0.5)) own = random.pick(choices)
        const loaded = Bucket.load(state, own, now)
        if (loaded.disagreed) changes++
        const dice = random.next()
        if (dice < 0.03) state = Bucket.pause(loaded.state, random.integer(0, 100))
        else if (dice < 0.06) state = Bucket.charge(loaded.state, random.integer(1, own.capacity))
        else if (dice < 0.6 || held.length === 0) {
          const amount = random.chance(0.5) ? 1 : random.integer(1, own.capacity)
          const decided = Bucket.reserve(loaded.state, amount, random.pick([0, Bucket.maxSpan, random.integer(0, 300)]))
          if (decided.outcome._tag !== "Reserved") continue
          state = decided.state
          held.push({ runs: now + decided.outcome.wait, reservation: decided.outcome.reservation })
        } else {
          const [one] = held.splice(random.integer(0, held.length - 1), 1)
          if (one === undefined) continue
          const { amount } = one.reservation
          const decided = Bucket.giveBack(
            loaded.state,
            one.reservation,
            random.pick([amount, random.integer(0, amount)])
          )
          state = decided.state
          history.push({ time: one.runs, amount: amount - decided.returned })
        }
      }
      for (const { runs, reservation } of held) history.push({ time: runs, amount: reservation.amount })
      const most = (of: (own: Bucket.Rules) => number) => Math.max(...choices.map(of))
      const rate = most(({ amount, interval }) => amount / interval)
      const brought = (from: number, to: number) => Math.floor((to - from) * rate + 1e-9) + most(({ amount }) => amount)
      assert.isAtMost(
        worstWindow(
          most(({ capacity }) => capacity),
          brought,
          history
        ),
        0,
        `seed ${seed}`
      )
    }
    assert.isAbove(changes, 50_000)
  })

  it("forget a bucket when it is full and idle for expiry, and a quota after its last activity", () => {
    const bucket = rules({ expiry: 1000, initial: 5 })
    const drained = Bucket.reserve(Bucket.load(undefined, bucket, 0).state, 5, 0).state
    assert.strictEqual(Bucket.forgottenAt(drained, bucket), 1050)
    assert.isFalse(Bucket.isSameAsNone(drained, bucket, 49))
    assert.isTrue(Bucket.isSameAsNone(drained, bucket, 50))
    const quota = rules({ amount: 0, interval: 0, expiry: 1000 })
    const used = Bucket.reserve(Bucket.load(undefined, quota, 0).state, 5, 0).state
    assert.strictEqual(Bucket.forgottenAt(used, quota), 1000)
    assert.isFalse(Bucket.isSameAsNone(used, quota, 999))
    const asked = Bucket.load(used, quota, 500).state
    assert.strictEqual(Bucket.forgottenAt(asked, quota), 1500)
  })

  it("void what was reserved before a reset", () => {
    const own = rules()
    const first = Bucket.reserve(Bucket.load(undefined, own, 1000).state, 3, 0)
    const { reservation } = reserved(first.outcome)
    const renewed = Bucket.reset(first.state, own)
    const used = Bucket.reserve(renewed, 3, 0).state
    assert.strictEqual(Bucket.giveBack(used, reservation, 3).returned, 0)
  })

  it("stay exact near the largest numbers, and refuse what lies beyond", () => {
    const own = rules({
      capacity: Bucket.maxAmount,
      amount: 1,
      interval: 1,
      initial: 0,
      expiry: Bucket.maxSpan
    })
    const now = 1_800_000_000_000_000
    const state = Bucket.load(undefined, own, now).state
    assert.deepInclude(Bucket.reserve(state, 1_000_000_000_000_001, Bucket.maxSpan).outcome, {
      wait: 1_000_000_000_000_001
    })
    assert.strictEqual(Bucket.reserve(state, Bucket.maxAmount, Bucket.maxSpan).outcome._tag, "TooLong")
    const fast = rules({
      capacity: Bucket.maxAmount,
      amount: Bucket.maxAmount,
      interval: 1,
      initial: 0,
      expiry: Bucket.maxSpan
    })
    let crowded = Bucket.load(undefined, fast, now).state
    let refused = 0
    for (let i = 0; i < 5; i++) {
      const decided = Bucket.reserve(crowded, Bucket.maxAmount, Bucket.maxSpan)
      crowded = decided.state
      if (decided.outcome._tag === "TooLong") refused++
      assert.isAtLeast(crowded.level, -Bucket.maxAmount)
    }
    assert.isAbove(refused, 0)
    for (let i = 0; i < 3; i++) crowded = Bucket.charge(crowded, Bucket.maxAmount)
    assert.strictEqual(crowded.level, -Bucket.maxAmount)
    assert.strictEqual(Bucket.load(crowded, fast, now + 3_600_000_000).state.level, Bucket.maxAmount)
  })

  it("forget what was reserved before as much was taken as can be counted", () => {
    const most = Bucket.maxAmount
    const own = rules({ capacity: most, amount: most, interval: 1, initial: most })
    const bucket = new Simulation(own)
    const takeAll = () => {
      bucket.now++
      return reserved(bucket.reserve(most, 0)).reservation
    }
    const [first, , third] = [takeAll(), takeAll(), takeAll()]
    assert.strictEqual(bucket.giveBack(first), 0)
    assert.strictEqual(bucket.giveBack(third), most)
    const charged = new Simulation(own)
    const { reservation } = reserved(charged.reserve(most, 0))
    for (let i = 0; i < 2; i++) charged.charge(most)
    assert.strictEqual(charged.giveBack(reservation), 0)
  })
})
