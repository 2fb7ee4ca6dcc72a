import { assert, describe, it } from "vitest"
import * as Bucket from "../src/internal/bucket.ts"
import { type Admitted, type Event, earliest, lowestLevel, refilledIn, worstWindow } from "./support/bucketModel.ts"
import { type Random, seeded } from "./support/random.ts"

const randomRules = (random: Random): Bucket.Rules => {
  const capacity = random.integer(1, 30)
  return {
    capacity,
    amount: random.integer(1, capacity),
    interval: random.integer(1, 20),
    origin: random.chance(0.3) ? random.integer(0, 300) : -1,
    initial: random.chance(0.7) ? capacity : random.integer(0, capacity),
    expiry: 1_000_000
  }
}

/** What one bucket was asked for, and has let out. */
class Jar {
  state: Bucket.State
  readonly rules: Bucket.Rules
  readonly start: number
  /** What is known to have run. */
  readonly history: Array<Event> = []
  /** When promises run that had to wait for another bucket: what refilled before has overflown by then. */
  readonly heldOff = new Set<number>()

  constructor(rules: Bucket.Rules, now: number) {
    this.rules = rules
    this.start = now
    this.state = Bucket.load(undefined, rules, now).state
  }

  load(now: number): Bucket.State {
    return Bucket.load(this.state, this.rules, now).state
  }

  event(now: number, runs: number, amount: number): Event {
    return { time: runs, amount, waited: runs > now && !this.heldOff.has(runs) }
  }
}

interface Promised {
  readonly runs: number
  readonly parts: ReadonlyArray<{ readonly jar: Jar; readonly reservation: Bucket.Reservation; readonly event: Event }>
}

/** Asks several jars at once. */
const ask = (
  asked: ReadonlyArray<readonly [jar: Jar, amount: number]>,
  now: number,
  maxWait: number,
  minWait = 0,
  mayWait: (index: number) => boolean = () => true
): Promised | Exclude<Bucket.JointOutcome, { readonly _tag: "Reserved" }> => {
  const parts = asked.map(([jar, amount], index) => ({ state: jar.load(now), amount, mayWait: mayWait(index) }))
  const { states, outcome } = Bucket.reserveTogether(parts, minWait, maxWait)
  if (outcome._tag !== "Reserved") {
    assert.deepStrictEqual(
      states,
      parts.map(({ state }) => state)
    )
    return outcome
  }
  const runs = now + outcome.wait
  return {
    runs,
    parts: asked.map(([jar, amount], index) => {
      const [state, reservation] = [states[index], outcome.reservations[index]]
      if (state === undefined || reservation === undefined) throw new Error("An answer for each part")
      if (reservation.before !== undefined) jar.heldOff.add(runs)
      jar.state = state
      return { jar, reservation, event: jar.event(now, runs, amount) }
    })
  }
}

const giveBack = ({ runs, parts }: Promised, now: number): void => {
  for (const { jar, reservation } of parts) {
    jar.state = Bucket.giveBack(jar.load(now), reservation, reservation.amount).state
    if (reservation.before !== undefined && jar.state.tail !== runs) jar.heldOff.delete(runs)
  }
}

const someOf = (random: Random, jars: ReadonlyArray<Jar>): ReadonlyArray<readonly [jar: Jar, amount: number]> => {
  const chosen = jars.filter(() => random.chance(0.6))
  return (chosen.length > 0 ? chosen : jars.slice(0, 1)).map((jar) => [
    jar,
    random.chance(0.5) ? 1 : random.integer(1, jar.rules.capacity)
  ])
}

const looksOf = ({ capacity }: Bucket.Rules, state: Bucket.State): ReadonlyArray<Bucket.View> =>
  Array.from({ length: capacity }, (_, index) => Bucket.look(state, index + 1))

describe("a decision about several buckets", () => {
  it("is that of as many jars of tokens, counted refill by refill: the first moment that suits all of them", () => {
    let requests = 0
    let refused = 0
    for (let seed = 1; seed <= 1500; seed++) {
      const random = seeded(seed)
      let now = random.integer(300, 1000)
      const jars = Array.from({ length: random.integer(2, 4) }, () => new Jar(randomRules(random), now))
      for (let step = 0; step < 20; step++) {
        if (step > 0) now += random.pick([0, 0, 1, random.integer(0, 30), random.integer(0, 200)])
        const asked = someOf(random, jars)
        const maxWait = random.pick([0, random.integer(0, 100), Bucket.maxSpan])
        const waits = asked.map(
          ([{ rules, start, history, heldOff }, amount]) =>
            (earliest(rules, start, history, now, amount, heldOff) ?? 0) - now
        )
        const expected = Math.max(...waits)
        const answer = ask(asked, now, maxWait)
        requests++
        if ("_tag" in answer) {
          assert.deepInclude(answer, { _tag: "TooLong", wait: expected }, `seed ${seed}, step ${step}`)
          assert.isAbove(expected, maxWait, `seed ${seed}, step ${step}`)
          if (answer._tag === "TooLong") assert.strictEqual(waits[answer.part], expected)
          refused++
        } else {
          assert.strictEqual(answer.runs - now, expected, `seed ${seed}, step ${step}`)
          for (const { jar, event } of answer.parts) jar.history.push(event)
        }
      }
      for (const { rules, start, history } of jars) assert.isAtLeast(lowestLevel(rules, start, history), 0)
    }
    assert.isAbove(refused, requests / 10)
    assert.isBelow(refused, requests / 2)
  })

  it("never lets a jar be overdrawn or a promise be overtaken, whatever is given back, paused or asked of one alone", () => {
    let cancelled = 0
    let middle = 0
    let heldOff = 0
    for (let seed = 1; seed <= 10_000; seed++) {
      const random = seeded(seed)
      let now = random.integer(300, 1000)
      const jars = Array.from({ length: random.integer(1, 3) }, () => new Jar(randomRules(random), now))
      const pending: Array<Promised> = []
      const run = () => {
        for (let i = 0; i < pending.length; ) {
          const one = pending[i]
          if (one === undefined || one.runs > now) i++
          else {
            pending.splice(i, 1)
            for (const { jar, event } of one.parts) jar.history.push(event)
          }
        }
      }
      const pauses = random.chance(0.3)
      for (let step = 0; step < 50; step++) {
        if (step > 0) now += random.pick([0, 0, 0, 1, random.integer(0, 10), random.integer(0, 60)])
        run()
        if (pauses && random.chance(0.05)) {
          const jar = random.pick(jars)
          const duration = random.integer(0, 100)
          jar.heldOff.add(now + duration)
          jar.state = Bucket.pause(jar.load(now), duration)
        }
        if (random.chance(0.6) || pending.length === 0) {
          const asked = random.chance(0.3) ? someOf(random, [random.pick(jars)]) : someOf(random, jars)
          const answer = ask(asked, now, random.pick([Bucket.maxSpan, random.integer(0, 300)]), random.pick([0, 0, 7]))
          if ("_tag" in answer) continue
          for (const { jar, reservation } of answer.parts) {
            if (reservation.before !== undefined) heldOff++
            for (const { runs, parts } of pending) {
              if (parts.some((part) => part.jar === jar)) {
                assert.isAtLeast(answer.runs, runs, `seed ${seed}: overtakes a promise`)
              }
            }
          }
          pending.push(answer)
        } else {
          const index = random.chance(0.5) ? pending.length - 1 : random.integer(0, pending.length - 1)
          const [one] = pending.splice(index, 1)
          if (one === undefined) continue
          giveBack(one, now)
          cancelled++
          if (index < pending.length) middle++
        }
      }
      for (const { parts } of pending) for (const { jar, event } of parts) jar.history.push(event)
      for (const { rules, start, history } of jars) {
        assert.isAtLeast(lowestLevel(rules, start, history), 0, `seed ${seed}`)
      }
    }
    assert.isAbove(cancelled, 50_000)
    assert.isAbove(middle, 10_000)
    assert.isAbove(heldOff, 20_000)
  })

  it("lets out of no jar, in any window, more than capacity and what refills, however late tokens are settled", () => {
    let settled = 0
    for (let seed = 1; seed <= 6000; seed++) {
      const random = seeded(seed)
      let now = random.integer(300, 1000)
      const jars = Array.from({ length: random.integer(1, 3) }, () => new Jar(randomRules(random), now))
      const admitted = new Map(jars.map((jar) => [jar, [] as Array<Admitted>]))
      const held: Array<Promised> = []
      for (let step = 0; step < 50; step++) {
        if (step > 0) now += random.pick([0, 0, 1, random.integer(0, 10), random.integer(0, 60)])
        const dice = random.next()
        if (dice < 0.08) {
          const jar = random.pick(jars)
          jar.state = Bucket.charge(jar.load(now), random.integer(1, jar.rules.capacity))
        } else if (dice < 0.6 || held.length === 0) {
          const answer = ask(someOf(random, jars), now, random.pick([0, Bucket.maxSpan, random.integer(0, 300)]))
          if (!("_tag" in answer)) held.push(answer)
        } else {
          const index = random.chance(0.4) ? held.length - 1 : random.integer(0, held.length - 1)
          const [one] = held.splice(index, 1)
          if (one === undefined) continue
          const isCancelled = one.runs > now
          for (const { jar, reservation } of one.parts) {
            const { amount } = reservation
            const back = isCancelled ? amount : random.integer(0, amount)
            const { state, returned } = Bucket.giveBack(jar.load(now), reservation, back)
            jar.state = state
            if (!isCancelled) {
              admitted.get(jar)?.push({ time: one.runs, amount: amount - returned })
              settled += returned
            }
          }
        }
      }
      for (const { runs, parts } of held) {
        for (const { jar, reservation } of parts) admitted.get(jar)?.push({ time: runs, amount: reservation.amount })
      }
      for (const [{ rules, start }, history] of admitted) {
        assert.isAtMost(worstWindow(rules.capacity, refilledIn(rules, start), history), 0, `seed ${seed}`)
      }
    }
    assert.isAbove(settled, 10_000)
  })

  it("leaves every bucket as it would be without it when the latest are given back, one after the other", () => {
    let heldOff = 0
    for (let seed = 1; seed <= 4000; seed++) {
      const random = seeded(seed)
      let now = random.integer(300, 1000)
      const jars = Array.from({ length: random.integer(2, 3) }, () => new Jar(randomRules(random), now))
      for (let i = random.integer(0, 6); i > 0; i--) {
        ask(someOf(random, [random.pick(jars)]), now, Bucket.maxSpan)
        now += random.integer(0, 10)
      }
      const without = jars.map((jar) => jar.state)
      const promised: Array<Promised> = []
      for (let i = random.integer(1, 5); i > 0; i--) {
        const answer = ask(someOf(random, jars), now, Bucket.maxSpan)
        if (!("_tag" in answer)) promised.push(answer)
        now += random.integer(0, 3)
      }
      const first = Math.min(...promised.map(({ runs }) => runs))
      if (first <= now) continue
      now = random.integer(now, first - 1)
      for (const one of promised.reverse()) {
        giveBack(one, now)
        if (one.parts.some(({ reservation }) => reservation.before !== undefined)) heldOff++
      }
      for (const [index, jar] of jars.entries()) {
        const state = without[index]
        if (state === undefined) continue
        assert.deepStrictEqual(
          looksOf(jar.rules, jar.load(now)),
          looksOf(jar.rules, Bucket.load(state, jar.rules, now).state),
          `seed ${seed}`
        )
      }
    }
    assert.isAbove(heldOff, 1000)
  })

  it("leaves no more in a bucket that was charged while a promise held it off than there would be without that", () => {
    for (let seed = 1; seed <= 3000; seed++) {
      const random = seeded(seed)
      let now = random.integer(300, 1000)
      const [fast, slow] = [new Jar(randomRules(random), now), new Jar({ ...randomRules(random), initial: 0 }, now)]
      const answer = ask(
        [
          [fast, 1],
          [slow, slow.rules.capacity]
        ],
        now,
        Bucket.maxSpan
      )
      if ("_tag" in answer) continue
      let without = Bucket.load(undefined, fast.rules, now).state
      for (let i = 0; i < 2; i++) {
        now += random.integer(0, 30)
        const amount = random.integer(1, fast.rules.capacity)
        fast.state = Bucket.charge(fast.load(now), amount)
        without = Bucket.charge(Bucket.load(without, fast.rules, now).state, amount)
      }
      now += random.integer(0, 30)
      if (now >= answer.runs) continue
      giveBack(answer, now)
      assert.isAtMost(fast.load(now).level, Bucket.load(without, fast.rules, now).state.level, `seed ${seed}`)
    }
  })

  it("lets nobody wait because of a bucket that they may not wait for, though they may wait with it for others", () => {
    let refused = 0
    let waited = 0
    for (let seed = 1; seed <= 2000; seed++) {
      const random = seeded(seed)
      let now = random.integer(300, 1000)
      const jars = Array.from({ length: 3 }, () => new Jar(randomRules(random), now))
      for (let step = 0; step < 15; step++) {
        now += random.integer(0, 20)
        const asked = someOf(random, jars)
        const waits = asked.map(([jar, amount]) => Bucket.look(jar.load(now), amount).wait)
        const patient = asked.map(() => random.chance(0.5))
        const longest = Math.max(...waits)
        const answer = ask(asked, now, Bucket.maxSpan, 0, (index) => patient[index] ?? true)
        const mayWait = longest === 0 || waits.some((wait, index) => wait === longest && patient[index])
        assert.strictEqual("_tag" in answer, !mayWait, `seed ${seed}, step ${step}`)
        if ("_tag" in answer) {
          assert.deepInclude(answer, { _tag: "TooLong", wait: longest })
          refused++
        } else if (patient.includes(false) && longest > 0) waited++
      }
    }
    assert.isAbove(Math.min(refused, waited), 1000)
  })

  it("takes from none when a quota that never refills has too little, and tells which", () => {
    const quota = { capacity: 2, amount: 0, interval: 0, origin: -1, initial: 1, expiry: 1000 }
    const jars = [new Jar({ ...quota, amount: 1, interval: 10, initial: 2 }, 1000), new Jar(quota, 1000)] as const
    const answer = ask(
      [
        [jars[0], 1],
        [jars[1], 2]
      ],
      1000,
      Bucket.maxSpan
    )
    assert.deepStrictEqual(answer, { _tag: "Empty", available: 1, part: 1 })
    assert.strictEqual(jars[0].state.level, 2)
  })
})
