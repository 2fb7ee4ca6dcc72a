import { readFileSync } from "node:fs"
import { Redis } from "ioredis"
import { afterAll, assert, beforeAll, describe, inject, it } from "vitest"
import * as Bucket from "../src/internal/bucket.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { type Random, seeded } from "./support/random.ts"

/** Operations of one run; a long run is asked for by the environment. */
const fuzzOperations = Number(process.env["STEINDAMM_FUZZ_STEPS"] ?? 60_000)

type Operation =
  | { readonly _tag: "reserve"; readonly amount: number; readonly maxWait: number }
  | { readonly _tag: "giveBack"; readonly reservation: Bucket.Reservation; readonly amount: number }
  | { readonly _tag: "charge"; readonly amount: number }
  | { readonly _tag: "pause"; readonly duration: number }
  | { readonly _tag: "look"; readonly amount: number }
  | { readonly _tag: "reset" }

const encode = (operation: Operation): ReadonlyArray<string | number> => {
  switch (operation._tag) {
    case "reserve":
      return ["reserve", operation.amount, operation.maxWait]
    case "giveBack": {
      const { amount, serial, beforeSerial, beforeGap, taken, before } = operation.reservation
      const { level, ahead } = before ?? { level: 0, ahead: -1 }
      return ["giveBack", operation.amount, amount, serial, beforeSerial, beforeGap, taken, level, ahead]
    }
    case "charge":
    case "look":
      return [operation._tag, operation.amount]
    case "pause":
      return ["pause", operation.duration]
    case "reset":
      return ["reset"]
  }
}

/** As words; equal requests in a row are told as one and a number. */
const encodeAll = (operations: ReadonlyArray<Operation>): ReadonlyArray<string | number> => {
  const rows: Array<Array<string | number>> = []
  for (const operation of operations) {
    const words = encode(operation)
    const last = rows.at(-1)
    if (operation._tag !== "reserve") rows.push([...words])
    else if (last !== undefined && words.every((word, index) => word === last[index])) last[3] = Number(last[3]) + 1
    else rows.push([...words, 1])
  }
  return rows.flat()
}

/** A reply as numbers, and as the error where a key answered with one: an answer to each operation. */
const decodeAll = (
  bytes: Buffer,
  buckets: ReadonlyArray<ReadonlyArray<Operation>>,
  joint: ReadonlyArray<Joint>
): ReadonlyArray<number | string> => {
  let at = 0
  const number = () => {
    at += 8
    return bytes.readDoubleLE(at - 8)
  }
  const numbers = (length: number) => Array.from({ length }, number)
  const [first = 0, decided = 0, notes = 0] = numbers(3)
  const elapsed = Math.max(0, -first)
  const now = decided + elapsed
  if (notes < 0) return [now, 1]
  const noted = new Map(
    Array.from({ length: notes }, (): readonly [place: number, note: number | string] => {
      const [place = 0, note = 0] = numbers(2)
      if (note === 1) return [place - 1, note]
      const length = number()
      at += length
      return [place - 1, bytes.toString("utf8", at - length, at)]
    })
  )
  const answers = buckets.flatMap((operations, index): ReadonlyArray<number | string> => {
    const note = noted.get(index) ?? 0
    if (typeof note === "string") return [note]
    let alike = 0
    let run = numbers(0)
    const reserved = (amount: number) => {
      if (alike === 0) [alike = 0, ...run] = numbers(7)
      else run = [...run.slice(0, 2), Number(run[2]) + 1, ...run.slice(3, 5), Number(run[5]) + amount]
      alike--
      const [code = 0, value = 0, ...others] = run
      if (code !== 0) return [code, value, 0, 0, 0, 0]
      return [code, Math.max(0, value - elapsed), ...others]
    }
    const answers = operations.flatMap((operation) => {
      if (operation._tag === "reserve") return reserved(operation.amount)
      if (operation._tag === "look") return numbers(3)
      return operation._tag === "giveBack" ? numbers(1) : [0]
    })
    assert.strictEqual(alike, 0)
    return [note, ...answers]
  })
  const together = joint.flatMap(({ members, times }) => {
    const replies: Array<ReadonlyArray<number>> = []
    while (replies.length < times) {
      const [alike = 0, code = 0, value = 0, part = 0] = numbers(4)
      const rows = members.map(() => (code === 0 ? numbers(6) : [0, 0, 0, 0, 0, 0]))
      const wait = code === 0 ? Math.max(0, value - elapsed) : value
      for (let n = 0; n < alike; n++) {
        const own = members.map(([, amount], index) => {
          const [serial = 0, beforeSerial = 0, beforeGap = 0, taken = 0, ...before] = rows[index] ?? []
          if (code !== 0) return [0, 0, 0, 0, 0, 0]
          return [serial + n, beforeSerial, beforeGap, taken + n * amount, ...before]
        })
        replies.push([code, wait, part, ...own.flat()])
      }
    }
    assert.strictEqual(replies.length, times)
    return replies
  })
  assert.strictEqual(at, bytes.length)
  return [now, 0, ...answers, ...together.flat()]
}

const encodeRules = ({ capacity, amount, interval, origin, initial, expiry }: Bucket.Rules) =>
  [capacity, amount, interval, origin, initial, expiry].join(" ")

interface Decided {
  readonly loaded: Bucket.Loaded
  state: Bucket.State
  /** Whether the state has to be remembered. */
  changed: boolean
  readonly reply: ReadonlyArray<number>
}

/** What the decisions of `src/internal/bucket.ts` make of the operations that one call brings to one bucket. */
const decide = (
  remembered: Bucket.State | undefined,
  rules: Bucket.Rules,
  now: number,
  operations: ReadonlyArray<Operation>
): Decided => {
  const loaded = Bucket.load(remembered, rules, now)
  let state = loaded.state
  let changed = false
  const reply = [loaded.disagreed ? 1 : 0]
  for (const operation of operations) {
    switch (operation._tag) {
      case "reserve": {
        const decided = Bucket.reserve(state, operation.amount, operation.maxWait)
        state = decided.state
        const { outcome } = decided
        if (outcome._tag === "Reserved") {
          const { serial, beforeSerial, beforeGap, taken } = outcome.reservation
          reply.push(0, outcome.wait, serial, beforeSerial, beforeGap, taken)
        } else if (outcome._tag === "TooLong") reply.push(1, outcome.wait, 0, 0, 0, 0)
        else reply.push(2, outcome.available, 0, 0, 0, 0)
        changed ||= outcome._tag !== "TooLong" || loaded.starts
        break
      }
      case "giveBack": {
        const decided = Bucket.giveBack(state, operation.reservation, operation.amount)
        state = decided.state
        reply.push(decided.returned)
        changed ||= decided.returned > 0
        break
      }
      case "charge":
        state = Bucket.charge(state, operation.amount)
        reply.push(0)
        changed = true
        break
      case "pause":
        state = Bucket.pause(state, operation.duration)
        reply.push(0)
        changed = true
        break
      case "look": {
        const view = Bucket.look(state, operation.amount)
        reply.push(
          view.available,
          ...[view.wait, view.nextToken].map((wait) => (wait === Number.POSITIVE_INFINITY ? -1 : wait))
        )
        break
      }
      case "reset":
        state = Bucket.reset(state, rules)
        reply.push(0)
        changed = true
    }
  }
  return { loaded, state, changed, reply }
}

/** What Redis remembers of a state: nothing that only matters while somebody waits if nobody does. */
const stored = (state: Bucket.State): Bucket.State =>
  state.tail > state.at ? state : { ...state, tailSerial: 0, surplus: 0, held: 0, since: 0 }

/** A request to several buckets of a call, by their places in it. */
interface Joint {
  readonly minWait: number
  readonly maxWait: number
  readonly times: number
  readonly members: ReadonlyArray<readonly [index: number, amount: number, mayWait?: boolean]>
}

const encodeJoint = ({ minWait, maxWait, times, members }: Joint): ReadonlyArray<number> => [
  minWait,
  maxWait,
  times,
  members.length,
  ...members.flatMap(([index, amount, mayWait = true]) => [index + 1, amount, mayWait ? 1 : 0])
]

const decideJoint = (decided: ReadonlyArray<Decided>, { minWait, maxWait, members }: Joint) => {
  const parts = members.map(([index, amount, mayWait = true]) => {
    const one = decided[index]
    if (one === undefined) throw new Error("A place in the call")
    return { one, part: { state: one.state, amount, mayWait } }
  })
  const { states, outcome } = Bucket.reserveTogether(
    parts.map(({ part }) => part),
    minWait,
    maxWait
  )
  const reserved = outcome._tag === "Reserved" ? outcome.reservations : []
  for (const [index, { one }] of parts.entries()) {
    one.state = states[index] ?? one.state
    one.changed ||= outcome._tag === "Reserved" || one.loaded.starts || one.state.amount === 0
  }
  const head =
    outcome._tag === "Reserved"
      ? [0, outcome.wait, 0]
      : [
          outcome._tag === "TooLong" ? 1 : 2,
          outcome._tag === "TooLong" ? outcome.wait : outcome.available,
          outcome.part + 1
        ]
  const rows = members.map((_, index) => {
    const one = reserved[index]
    if (one === undefined) return [0, 0, 0, 0, 0, 0]
    const { serial, beforeSerial, beforeGap, taken, before } = one
    return [serial, beforeSerial, beforeGap, taken, before?.level ?? 0, before?.ahead ?? -1]
  })
  return { reserved, reply: [...head, ...rows.flat()] }
}

const million = 1_000_000

const randomRules = (random: Random): Bucket.Rules => {
  const fine = random.chance(0.2)
  const unit = fine ? 1 : million
  const capacity = random.integer(1, random.pick([1, 5, 40])) * unit * (random.chance(0.02) ? 10_000_000 : 1)
  const quota = random.chance(0.1)
  const amount = quota ? 0 : Math.max(1, Math.floor(capacity * random.pick([1, random.next(), random.next() / 10])))
  return {
    capacity,
    amount,
    interval: quota ? 0 : random.pick([1, random.integer(1, 60), 1000, random.integer(1, million)]),
    origin: !quota && random.chance(0.3) ? random.integer(0, 2 * million) : -1,
    initial: random.chance(0.7) ? capacity : random.integer(0, capacity),
    expiry: random.pick([1, random.integer(1, 1000), million, 60 * million])
  }
}

interface Simulated {
  readonly key: string
  rules: Bucket.Rules
  state: Bucket.State | undefined
  readonly reservations: Array<Bucket.Reservation>
}

const randomOperation = (random: Random, bucket: Simulated): Operation => {
  const { capacity } = bucket.rules
  const dice = random.next()
  const amount = random.chance(0.5)
    ? Math.min(capacity, random.integer(1, 3) * Math.min(million, capacity))
    : random.integer(1, capacity)
  if (dice < 0.6) {
    return {
      _tag: "reserve",
      amount,
      maxWait: random.pick([0, Bucket.maxSpan, random.integer(0, 100 * million), random.integer(0, 1000)])
    }
  }
  if (dice < 0.85 && bucket.reservations.length > 0) {
    const index = random.chance(0.5)
      ? bucket.reservations.length - 1
      : random.integer(0, bucket.reservations.length - 1)
    const [reservation] = bucket.reservations.splice(index, 1)
    if (reservation === undefined) throw new Error("There was one a moment ago")
    return {
      _tag: "giveBack",
      reservation,
      amount: random.chance(0.7) ? reservation.amount : random.integer(0, reservation.amount)
    }
  }
  if (dice < 0.9) return { _tag: "charge", amount }
  if (dice < 0.92) {
    return {
      _tag: "pause",
      duration: random.chance(0.02)
        ? Bucket.maxSpan
        : random.pick([0, random.integer(0, 5000), random.integer(0, 20 * million)])
    }
  }
  if (dice < 0.99) return { _tag: "look", amount: random.chance(0.1) ? 0 : amount }
  return { _tag: "reset" }
}

const randomOperations = (random: Random, bucket: Simulated): ReadonlyArray<Operation> => {
  const list: Array<Operation> = []
  for (let count = random.chance(0.2) ? random.integer(2, 6) : 1; count > 0; count--) {
    const last = list.at(-1)
    const again = last?._tag === "reserve" && random.chance(0.4)
    list.push(again ? last : randomOperation(random, bucket))
  }
  return list
}

/** A reservation is given back to its own bucket. */
const mayBeAskedOfAll = ({ _tag }: Operation): boolean => _tag !== "giveBack"

const remember = (bucket: Simulated, operations: ReadonlyArray<Operation>, reply: ReadonlyArray<number>): void => {
  let at = 1
  for (const operation of operations) {
    if (operation._tag === "reserve") {
      const [code, , serial = 0, beforeSerial = 0, beforeGap = 0, taken = 0] = reply.slice(at, at + 6)
      if (code === 0) bucket.reservations.push({ amount: operation.amount, serial, beforeSerial, beforeGap, taken })
      at += 6
    } else at += operation._tag === "look" ? 3 : 1
  }
}

describe("lua/token-bucket.lua", () => {
  const source = readFileSync(new URL("../lua/token-bucket.lua", import.meta.url), "utf8")
  let redis: Redis
  let sha: string

  beforeAll(async () => {
    redis = new Redis(inject("redisUrl"))
    sha = String(await redis.script("LOAD", source))
  })
  afterAll(() => redis.quit())

  const run = async (
    keys: ReadonlyArray<string>,
    { now = 0, client = "", call = 0, notAfter = 0 },
    ...buckets: ReadonlyArray<readonly [rules: Bucket.Rules, operations: ReadonlyArray<Operation>]>
  ): Promise<ReadonlyArray<number | string>> => runJoint(keys, { now, client, call, notAfter }, buckets, [])

  const runJoint = async (
    keys: ReadonlyArray<string>,
    { now = 0, client = "", call = 0, notAfter = 0 },
    buckets: ReadonlyArray<readonly [rules: Bucket.Rules, operations: ReadonlyArray<Operation>]>,
    joint: ReadonlyArray<Joint>
  ): Promise<ReadonlyArray<number | string>> => {
    const told = buckets.map(([rules, operations]) => [encodeRules(rules), encodeAll(operations)] as const)
    const alike = (index: number, other: number) => JSON.stringify(told[index]) === JSON.stringify(told[other])
    const perBucket = told.flatMap(([rules, operations], index) => {
      if (index > 0 && alike(index, index - 1)) return []
      let next = index + 1
      while (next < told.length && alike(index, next)) next++
      return [next - index, rules === told[index - 1]?.[0] ? "" : rules, operations.length, ...operations]
    })
    const words = [now, client, call, notAfter, ...perBucket, ...joint.flatMap(encodeJoint)]
    const reply = await redis.callBuffer("evalsha", sha, keys.length, ...keys, ...words)
    return decodeAll(
      reply as Buffer,
      buckets.map(([, operations]) => operations),
      joint
    )
  }

  const far = async () => {
    const [seconds] = await redis.time()
    return (Number(seconds) + 86_400) * million
  }

  it("decides as src/internal/bucket.ts, over random programs with the time passed in", {
    timeout: 3_600_000
  }, async () => {
    const prefix = freshKeyPrefix()
    // Times in the future, so that Redis itself expires nothing: what is over must not matter before it is gone.
    const start = await far()
    let operations = 0
    let refused = 0
    let waited = 0
    let returned = 0
    let together = 0
    let heldOff = 0
    let alike = 0
    for (let seed = 1; operations < fuzzOperations; seed++) {
      const random = seeded(seed)
      const rulesOfAll = random.chance(0.3) ? randomRules(random) : undefined
      const buckets = Array.from(
        { length: random.integer(1, 4) },
        (_, index): Simulated => ({
          key: `${prefix}{${seed}}${index}`,
          rules: rulesOfAll ?? randomRules(random),
          state: undefined,
          reservations: []
        })
      )
      const alternative = buckets.map(({ rules }) => ({ ...randomRules(random), expiry: rules.expiry }))
      let now = start + random.integer(0, million)
      const log: Array<unknown> = []
      const calls: Array<Promise<void>> = []
      for (let step = 0; step < 150; step++) {
        now += random.pick([0, 0, 1, random.integer(0, 30), random.integer(0, 5000), random.integer(0, 3 * million)])
        if (random.chance(0.01)) now -= random.integer(0, 2 * million)
        if (random.chance(0.005)) now += 3600 * million
        const used = buckets.filter(() => random.chance(0.6))
        if (used.length === 0) continue
        let before: { readonly rules: Bucket.Rules; readonly list: ReadonlyArray<Operation> } | undefined
        const work = used.map((bucket) => {
          const index = buckets.indexOf(bucket)
          const rules = random.chance(0.03) ? (alternative[index] ?? bucket.rules) : bucket.rules
          const mayBeAlike = before?.rules === rules && before.list.every(mayBeAskedOfAll)
          const same = mayBeAlike && random.chance(0.7) ? before?.list : undefined
          const list = same ?? randomOperations(random, { ...bucket, rules })
          before = { rules, list }
          if (same !== undefined) alike++
          operations += list.length
          const decided = decide(bucket.state, rules, now, list)
          remember(bucket, list, decided.reply)
          for (let i = 0; i < list.length; i++) if (list[i]?._tag === "giveBack") returned++
          return { bucket, rules, list, decided, expected: decided.reply }
        })
        const joint: Array<Joint> = []
        const jointReply: Array<number> = []
        while (random.chance(0.3)) {
          const request: Joint = {
            minWait: random.pick([0, 0, random.integer(0, 5 * million)]),
            maxWait: random.pick([0, Bucket.maxSpan, Bucket.maxSpan, random.integer(0, 100 * million)]),
            times: random.integer(1, 3),
            members: work.flatMap(({ rules }, index) =>
              random.chance(0.7)
                ? [[index, random.integer(1, random.pick([rules.capacity, 1])), random.chance(0.8)] as const]
                : []
            )
          }
          if (request.members.length === 0) continue
          joint.push(request)
          for (let i = 0; i < request.times; i++) {
            operations += request.members.length
            const { reserved, reply } = decideJoint(
              work.map(({ decided }) => decided),
              request
            )
            jointReply.push(...reply)
            for (const [place, reservation] of reserved.entries()) {
              work[request.members[place]?.[0] ?? 0]?.bucket.reservations.push(reservation)
              if (reservation.before !== undefined) heldOff++
            }
            together++
          }
        }
        for (const { bucket, decided } of work) if (decided.changed) bucket.state = stored(decided.state)
        const expected = [now, 0, ...work.flatMap((one) => one.expected), ...jointReply]
        for (const { expected: reply } of work) {
          if (reply[1] === 1) refused++
          if (reply[1] === 0 && (reply[2] ?? 0) > 0) waited++
        }
        log.push({ now, work, joint, expected })
        const at = log.length
        calls.push(
          runJoint(
            used.map(({ key }) => key),
            { now },
            work.map(({ rules, list }) => [rules, list] as const),
            joint
          ).then((actual) => {
            assert.deepStrictEqual(
              actual,
              expected,
              `seed ${seed}: ${JSON.stringify(log.slice(Math.max(0, at - 5), at))}`
            )
          })
        )
      }
      await Promise.all(calls)
      await redis.del(...buckets.map(({ key }) => key))
    }
    console.log(JSON.stringify({ operations, refused, waited, returned, together, heldOff, alike }))
    assert.isAbove(refused, operations / 100)
    assert.isAbove(waited, operations / 100)
    assert.isAbove(returned, operations / 100)
    assert.isAbove(heldOff, operations / 100)
    assert.isAbove(alike, operations / 100)
  })

  const rules: Bucket.Rules = {
    capacity: 5 * million,
    amount: million,
    interval: million,
    origin: -1,
    initial: 5 * million,
    expiry: 60 * million
  }
  const one: Operation = { _tag: "reserve", amount: million, maxWait: Bucket.maxSpan }

  it("answers a repeated call as before, less the time that has passed, and decides nothing", async () => {
    const key = `${freshKeyPrefix()}{repeat}`
    const now = await far()
    const seven = Array.from({ length: 7 }, () => one)
    const first = await run([key], { now, client: "a", call: 1 }, [rules, seven])
    assert.deepStrictEqual(first.slice(-12, -10), [0, million])
    const again = await run([key], { now: now + 400_000, client: "a", call: 1 }, [rules, seven])
    assert.deepStrictEqual(again.slice(-12, -10), [0, 600_000])
    const looked = await run([key], { now: now + 400_000 }, [rules, [{ _tag: "look", amount: million }]])
    assert.deepStrictEqual(looked.slice(3), [0, 2_600_000, 2_600_000])
  })

  it("answers a repeated request to several buckets as before, less the time that has passed", async () => {
    const prefix = freshKeyPrefix()
    const keys = [`${prefix}{x}1`, `${prefix}{x}2`]
    const now = await far()
    const slow = { ...rules, capacity: million, initial: million, interval: 3 * million }
    const both: Joint = {
      minWait: 0,
      maxWait: Bucket.maxSpan,
      times: 2,
      members: [
        [0, million],
        [1, million]
      ]
    }
    const call = (later: number) =>
      runJoint(
        keys,
        { now: now + later, client: "a", call: 1 },
        [
          [rules, [one]],
          [slow, []]
        ],
        [both, both]
      )
    const first = await call(0)
    // Behind the headers and the answer about one bucket: three numbers and six for each bucket, of each request.
    const waits = (reply: ReadonlyArray<number | string>) =>
      [0, 1, 2, 3].map((n) => reply.slice(10 + 15 * n, 12 + 15 * n))
    assert.deepStrictEqual(waits(first), [
      [0, 0],
      [0, 3 * million],
      [0, 6 * million],
      [0, 9 * million]
    ])
    assert.deepStrictEqual(waits(await call(million)), [
      [0, 0],
      [0, 2 * million],
      [0, 5 * million],
      [0, 8 * million]
    ])
    const [, , , available] = await run([String(keys[0])], { now }, [rules, [{ _tag: "look", amount: million }]])
    assert.strictEqual(available, 0)
  })

  it("takes from none of several buckets if one of them refuses or can't be read, and tells which", async () => {
    const prefix = freshKeyPrefix()
    const keys = [`${prefix}{x}1`, `${prefix}{x}2`]
    const both: Joint = {
      minWait: 0,
      maxWait: 0,
      times: 1,
      members: [
        [0, million],
        [1, 5 * million]
      ]
    }
    const ask = (joint: Joint) =>
      runJoint(
        keys,
        {},
        [
          [rules, []],
          [rules, []]
        ],
        [joint]
      )
    await run([String(keys[1])], {}, [rules, [one]])
    const refused = await ask(both)
    assert.deepStrictEqual([refused[4], refused[6]], [1, 2])
    await redis.set(String(keys[1]), "something else")
    const unreadable = await ask(both)
    assert.deepStrictEqual(unreadable.slice(4, 7), [3, 0, 2])
    assert.strictEqual(await redis.exists(String(keys[0])), 0)
  })

  it("remembers the last call of each client, in the first bucket, whichever it changed", async () => {
    const prefix = freshKeyPrefix()
    const keys = [`${prefix}{x}1`, `${prefix}{x}2`]
    const now = await far()
    const look: Operation = { _tag: "look", amount: million }
    const call = (client: string, call: number) => run(keys, { now, client, call }, [rules, [look]], [rules, [one]])
    const first = await call("a", 1)
    const other = await call("b", 1)
    assert.deepStrictEqual(await call("a", 1), first)
    assert.deepStrictEqual(await call("b", 1), other)
    assert.sameMembers(await redis.hkeys(String(keys[0])), ["ca", "cb"])
    assert.deepStrictEqual(await redis.hkeys(String(keys[1])), ["s"])
    assert.approximately(await redis.pttl(String(keys[0])), 86_400_000 + 120_000, 5000)
  })

  it("remembers nothing of a call that changed nothing", async () => {
    const key = `${freshKeyPrefix()}{nothing}`
    await run([key], { client: "a", call: 1 }, [rules, [{ _tag: "look", amount: million }]])
    assert.strictEqual(await redis.exists(key), 0)
  })

  it("forgets clients that went away a minute ago once there are many", async () => {
    const key = `${freshKeyPrefix()}{many}`
    const now = await far()
    for (let n = 0; n < 40; n++) await run([key], { now, client: `old${n}`, call: 1 }, [rules, [one]])
    await run([key], { now: now + 61 * million, client: "new", call: 1 }, [rules, [one]])
    assert.sameMembers(await redis.hkeys(key), ["s", "cnew"])
  })

  it("decides nothing when nobody waits for the answer any more", async () => {
    const key = `${freshKeyPrefix()}{late}`
    const now = await far()
    assert.deepStrictEqual(await run([key], { now, notAfter: now - 1 }, [rules, [one]]), [now, 1])
    assert.strictEqual(await redis.exists(key), 0)
  })

  it("tells which bucket's key holds something else, and serves the others", async () => {
    const prefix = freshKeyPrefix()
    const keys = [`${prefix}{x}1`, `${prefix}{x}2`]
    await redis.set(String(keys[0]), "something else")
    const [, , error, disagreed, code] = await run(keys, { client: "a" }, [rules, [one]], [rules, [one]])
    assert.match(String(error), /^WRONGTYPE/)
    assert.deepStrictEqual([disagreed, code], [0, 0])
    assert.strictEqual(await redis.get(String(keys[0])), "something else")
    assert.sameMembers(await redis.hkeys(String(keys[1])), ["s", "ca"])
  })

  it("writes nothing for a refusal", async () => {
    const key = `${freshKeyPrefix()}{refused}`
    await run([key], {}, [rules, [{ ...one, amount: 5 * million }]])
    const before = await redis.hget(key, "s")
    await run([key], {}, [rules, [{ ...one, maxWait: 0 }]])
    assert.strictEqual(await redis.hget(key, "s"), before)
  })

  it("remembers a bucket that starts with too little from the first request on", async () => {
    const key = `${freshKeyPrefix()}{starts}`
    const now = await far()
    const empty = { ...rules, initial: 0 }
    const impatient = { ...one, maxWait: 0 }
    assert.strictEqual((await run([key], { now }, [empty, [impatient]]))[3], 1)
    assert.strictEqual((await run([key], { now: now + million }, [empty, [impatient]]))[3], 0)
  })

  it("expires a bucket within a minute after it is full and idle, and a client's answers not before a minute", async () => {
    const key = `${freshKeyPrefix()}{expiry}`
    const long = { ...rules, expiry: 90 * million }
    await run([key], {}, [long, [{ ...one, amount: 5 * million }]])
    assert.approximately(await redis.pttl(key), 155_000, 500)
    await run([key], {}, [long, [one]])
    assert.approximately(await redis.pttl(key), 155_000, 500)
    const other = `${freshKeyPrefix()}{expiry}`
    await run([other], { client: "a", call: 1 }, [{ ...rules, expiry: million }, [one]])
    assert.approximately(await redis.pttl(other), 120_000, 500)
  })
})
