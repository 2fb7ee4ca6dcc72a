/**
 * Holds what `lua/semaphore.lua` makes of random programs against the model, call by call: replies, messages and the
 * whole state. Apart from the model, it checks what a semaphore promises.
 */
import { isDeepStrictEqual } from "node:util"
import type { Redis } from "ioredis"
import { semaphoreScript } from "../../src/internal/redisScripts.ts"
import type { Answer, Call, Operation } from "./semaphoreModel.ts"
import { type Counts, Program, type Step } from "./semaphoreProgram.ts"

const callsInProgram = 150

export const encode = (operation: Operation): ReadonlyArray<string | number> => {
  switch (operation._tag) {
    case "acquire":
      return ["acquire", operation.id, operation.lease, operation.giveUp, operation.ticket]
    case "release":
      return ["release", operation.id]
    case "revoke":
      return ["revoke", operation.id]
    case "keep":
      return ["keep", operation.id, operation.lease, operation.fence]
    case "resize":
      return ["resize", operation.capacity]
    case "reset":
      return ["reset"]
    case "look":
      return ["look", operation.count]
  }
}

/**
 * The script with two changes that let a test rule what it can't pass in: the server's uptime is read from a key, and
 * the work that one call may do is small, so that programs of a few dozen entries reach its bound.
 */

export interface Build {
  readonly script: string
  readonly probe: string
  readonly batch: number
}

export const build = async (redis: Redis, source: string, batch: number): Promise<Build> => {
  const changed = replaceOnce(
    replaceOnce(source, "redis.pcall('INFO', 'server')", "redis.call('GET', key .. ':info')"),
    "local batch = 200",
    `local batch = ${batch}`
  )
  const [script, probe] = await Promise.all([redis.script("LOAD", changed), redis.script("LOAD", probeSource)])
  return { script: String(script), probe: String(probe), batch }
}

export const replaceOnce = (text: string, from: string, to: string): string => {
  const parts = text.split(from)
  if (parts.length !== 2) throw new Error(`${parts.length - 1} places instead of one: ${from}`)
  return parts.join(to)
}

/**
 * Takes notices from lists, which RPUSH as the publishing command puts them in, and shows the whole semaphore. Its packed
 * counters, which come first, are written out.
 */
const probeSource = `
local lists = {}
for i, client in ipairs(ARGV) do
  lists[i] = redis.call('LRANGE', KEYS[1] .. ':' .. client, 0, -1)
  redis.call('DEL', KEYS[1] .. ':' .. client)
end
local members = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
if members[1] then
  local counters = { struct.unpack('<dddddddddd', members[1], 2) }
  for i = 1, 10 do counters[i] = string.format('%.0f', counters[i]) end
  members[1] = members[1]:sub(1, 1) .. table.concat(counters, ' ', 1, 10)
end
return { lists, members }`

const width = 3_000_000_000_000_000

interface Semaphore {
  readonly used: number
  /** What `resize` set, or 0. */
  readonly capacity: number
  readonly holders: ReadonlyArray<{ readonly id: string; readonly fence: number; readonly leaseEnd: number }>
  readonly waiters: ReadonlyArray<{
    readonly id: string
    readonly ticket: number
    readonly giveUpAt: number
    readonly leaseEnd: number
  }>
}

/** The sorted set as its layout in the header of the script says; throws where it breaks a rule of its own. */
const decode = (members: ReadonlyArray<string>): Semaphore => {
  const classes = {
    C: new Map<string, number>(),
    Q: new Map<string, number>(),
    H: new Map<string, number>(),
    G: new Map<string, number>(),
    L: new Map<string, number>()
  }
  const names = ["C", "Q", "H", "G", "L"] as const
  const prefixes = { C: "C", Q: "", H: "", G: "G", L: "L" }
  for (let i = 0; i < members.length; i += 2) {
    const member = String(members[i])
    const score = Number(members[i + 1])
    const range = Math.floor(score / width)
    const name = names[range + 2]
    if (name === undefined) throw new Error(`${member} has a score out of all ranges: ${score}`)
    const [, prefix = "", id = ""] = /^([A-Z]?)(.*)$/.exec(member) ?? []
    if (prefix !== prefixes[name]) throw new Error(`${member} is among the ${name}`)
    classes[name].set(id, score - range * width)
  }
  const { C, Q, H, G, L } = classes
  if (C.size > 1 || (C.size === 0 && L.size > 0)) throw new Error(`There are ${C.size} sets of counters`)
  for (const id of Q.keys()) if (H.has(id)) throw new Error(`${id} both holds and waits`)
  for (const id of [...Q.keys(), ...H.keys()]) if (!L.has(id)) throw new Error(`${id} has no lease`)
  for (const id of L.keys()) if (!Q.has(id) && !H.has(id)) throw new Error(`${id} has a lease for nothing`)
  for (const id of G.keys()) if (!Q.has(id)) throw new Error(`${id} doesn't wait, and gives up`)
  const [counters = ""] = C.keys()
  const [used = 0, waiting = 0, , capacity = 0] = counters.split(" ").map(Number)
  const held = Array.from(H.keys(), weightOf).reduce((sum, weight) => sum + weight, 0)
  if (used !== held) throw new Error(`${held} permits are held, not ${used}`)
  if (waiting !== Q.size) throw new Error(`${Q.size} wait, not ${waiting}`)
  return {
    used,
    capacity,
    holders: Array.from(H, ([id, fence]) => ({ id, fence, leaseEnd: L.get(id) ?? 0 })),
    waiters: Array.from(Q, ([id, ticket]) => ({
      id,
      ticket,
      giveUpAt: G.get(id) ?? Number.POSITIVE_INFINITY,
      leaseEnd: L.get(id) ?? 0
    }))
  }
}

const weightOf = (id: string) => Number(id.split(".")[0])

/** What holds from one call to the next, whatever the model says. */
class Promises {
  private before: Semaphore = { used: 0, capacity: 0, holders: [], waiters: [] }
  private highestFence = 0

  check({ call: { operations }, closed, losesData }: Step, after: Semaphore): void {
    const { holders, waiters, used, capacity } = after
    if (losesData) this.highestFence = 0
    const capacityFor = (id: string) => capacity || Number(id.split(".")[1])

    const [head] = waiters
    if (head !== undefined && !closed && used + weightOf(head.id) <= capacityFor(head.id)) {
      throw new Error(`${head.id} waits at the head, and fits`)
    }

    const known = new Set((losesData ? [] : this.before.holders).map(({ fence }) => fence))
    const recovered = new Set(operations.map((operation) => (operation._tag === "keep" ? operation.fence : 0)))
    const granted = holders.filter(({ fence }) => !known.has(fence) && !recovered.has(fence))
    for (const { id, fence } of granted) {
      if (fence <= this.highestFence) throw new Error(`${id} was granted with an old fencing token, ${fence}`)
      this.highestFence = fence
      this.checkOrder(id, operations, waiters)
    }

    const last = granted.at(-1)
    const measured = operations.every(({ _tag }) => _tag !== "resize" && _tag !== "reset" && _tag !== "keep")
    if (last !== undefined && measured && used > capacityFor(last.id)) {
      throw new Error(`${last.id} was granted, and ${used} permits are in use`)
    }
    this.before = after
  }

  /** Nobody who has waited since an earlier call had a right to come first. */
  private checkOrder(id: string, operations: ReadonlyArray<Operation>, waiters: Semaphore["waiters"]): void {
    const waited = new Map(this.before.waiters.map((waiter) => [waiter.id, waiter.ticket]))
    const asked = new Map(operations.flatMap((one) => (one._tag === "acquire" ? [[one.id, one.ticket] as const] : [])))
    const place = waited.get(id) ?? (asked.get(id) || Number.POSITIVE_INFINITY)
    const passed = waiters.find((one) => waited.get(one.id) === one.ticket && !asked.has(one.id) && one.ticket < place)
    if (passed !== undefined) throw new Error(`${id} was granted before ${passed.id}`)
  }
}

/** Whether a lease was made longer: then all are looked at. */
const renews = ({ operations }: Call, { results }: Answer): boolean =>
  operations.some(({ _tag }, i) => _tag === "keep" && (results[i]?.[0] === "held" || results[i]?.[0] === "queued"))

const checkModel = (
  step: Step,
  names: ReadonlyArray<string>,
  reply: unknown,
  lists: unknown,
  after: Semaphore
): void => {
  const { call, answer, holders, waiters, publishes, closed } = step
  const mustBe = (what: string, actual: unknown, expected: unknown) => {
    if (isDeepStrictEqual(actual, expected)) return
    throw new Error(`${what}:\n  actual ${JSON.stringify(actual)}\n  model  ${JSON.stringify(expected)}`)
  }
  const [time, next, own, results] = semaphoreScript.decode(reply)
  mustBe("results", results, answer.results)
  mustBe("time", time, call.time)
  // The lease that was to end first may be gone by now; a holder that comes back in a grace was not known before.
  const mayBeSooner = answer.next > 0 && next > 0 && next < answer.next && (closed || !renews(call, answer))
  if (!mayBeSooner) mustBe("next", next, answer.next)
  mustBe("notices of the caller", own, answer.notices.get(call.client))
  const messages = names.map((name) => {
    const others = name === call.client || !publishes ? undefined : answer.notices.get(name)
    return others === undefined ? [] : [others.join(",")]
  })
  mustBe("messages", lists, messages)
  mustBe("holders", after.holders, holders)
  mustBe("waiters", after.waiters, waiters)
}

/**
 * Runs the program of a seed against the server. Fails with the first difference, and with the calls that led to it.
 */
export const runProgram = async (
  redis: Redis,
  { script, probe, batch }: Build,
  keyPrefix: string,
  seed: number,
  counts: Counts
): Promise<void> => {
  const key = `${keyPrefix}{${seed}}`
  const program = new Program(seed, batch, counts)
  const pipeline = redis.pipeline().del(key)
  const steps: Array<Step> = []
  const probed: Array<ReadonlyArray<string>> = []
  for (let i = 0; i < callsInProgram; i++) {
    const step = program.step()
    const { client, time, notAfter, grace, uptime, operations } = step.call
    const names = [...program.names]
    steps.push(step)
    probed.push(names)
    counts["operations"] = (counts["operations"] ?? 0) + operations.length
    if (step.losesData) pipeline.del(key)
    pipeline.set(`${key}:info`, `redis_version:7\r\nuptime_in_seconds:${uptime}\r\nuptime_in_days:0`)
    const command = step.publishes ? "RPUSH" : ""
    pipeline.evalsha(script, 1, key, time, client, notAfter, command, grace, ...operations.flatMap(encode))
    pipeline.evalsha(probe, 1, key, ...names)
  }
  pipeline.del(key, `${key}:info`)
  const replies = (await pipeline.exec()) ?? []
  const promises = new Promises()
  let at = 1
  steps.forEach((step, i) => {
    if (step.losesData) at++
    const [[error, reply], [, seen]] = [replies[at + 1] ?? [], replies[at + 2] ?? []] as [
      [Error | null, unknown],
      [unknown, unknown]
    ]
    at += 3
    try {
      if (error) throw error
      const [lists, members] = seen as [unknown, ReadonlyArray<string>]
      const after = decode(members)
      checkModel(step, probed[i] ?? [], reply, lists, after)
      promises.check(step, after)
    } catch (cause) {
      const calls = steps.slice(Math.max(0, i - 5), i + 1).map(({ call, answer }) => JSON.stringify({ call, answer }))
      throw new Error(`seed ${seed}, call ${i}: ${cause}\n${calls.join("\n")}`, { cause })
    }
  })
}
