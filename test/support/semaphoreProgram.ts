/**
 * Random programs for a semaphore, as several processes would make them that start, work and crash, with a clock and a
 * server that fail them now and then. The time is passed in, so that a program is the same whenever it runs.
 */
import { type Random, seeded } from "./random.ts"
import { type Answer, type Call, type Holder, type Operation, SemaphoreModel, type Waiter } from "./semaphoreModel.ts"

const second = 1_000_000

interface Entry {
  readonly id: string
  ticket: number
  fence: number
}

interface Process {
  readonly name: string
  readonly entries: Array<Entry>
}

/** What happened in the programs, so that a test can tell that they were worth running. */
export type Counts = Record<string, number>

export interface Step {
  readonly call: Call
  readonly answer: Answer
  readonly holders: ReadonlyArray<Holder>
  readonly waiters: ReadonlyArray<Waiter>
  readonly closed: boolean
  readonly publishes: boolean
  readonly losesData: boolean
}

export class Program {
  private readonly random: Random
  readonly model: SemaphoreModel
  private readonly counts: Counts
  private readonly capacities: ReadonlyArray<number>
  private readonly lease: number
  private readonly grace: number
  private readonly publishes: boolean
  private readonly processes: Array<Process> = []
  private readonly gone: Array<Entry> = []
  private readonly acquired: Array<Operation> = []
  readonly names: Array<string> = []
  private serial = 0
  private time: number
  private startedAt: number

  constructor(seed: number, batch: number, counts: Counts) {
    const random = seeded(seed)
    this.random = random
    this.model = new SemaphoreModel(batch)
    this.counts = counts
    this.capacities = random.chance(0.7) ? [random.integer(1, 6)] : [random.integer(1, 6), random.integer(1, 6)]
    this.lease = random.integer(1, 60) * second
    this.grace = random.chance(0.7) ? this.lease : 0
    this.publishes = random.chance(0.95)
    this.time = 1_790_000_000 * second + random.integer(0, second)
    this.startedAt = this.time - random.integer(0, 100) * second
    for (let i = 0; i < 3; i++) this.startProcess()
  }

  private startProcess(): void {
    const name = `p${this.names.length}`
    this.names.push(name)
    this.processes.push({ name, entries: [] })
  }

  private count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  private passTime(): void {
    const { random, lease } = this
    const tick = random.integer(0, 10)
    this.time += random.pick([0, 0, 1, tick, random.integer(0, lease / 50), random.integer(0, lease / 10)])
    if (random.chance(0.03)) this.time += random.integer(0, lease)
    if (random.chance(0.005)) this.time += 3 * lease
    if (random.chance(0.01)) {
      this.time -= random.integer(1, 2 * lease)
      this.count("clock set back")
    }
  }

  private newId(process: Process): string {
    const { random } = this
    const weight = random.chance(0.6) ? 1 : random.integer(1, 7)
    return `${weight}.${random.pick(this.capacities)}.${process.name}.${this.serial++}`
  }

  private request(id: string, ticket: number): Operation {
    const { random, lease } = this
    const giveUp = random.pick([-1, -1, 0, random.integer(1, second), random.integer(1, 2 * lease)])
    const operation: Operation = { _tag: "acquire", id, lease, giveUp, ticket }
    this.acquired.push(operation)
    return operation
  }

  private keep({ id, fence }: Entry): Operation {
    return { _tag: "keep", id, lease: this.lease, fence }
  }

  private forget(process: Process, entry: Entry): void {
    process.entries.splice(process.entries.indexOf(entry), 1)
    this.gone.push(entry)
  }

  private operations(process: Process): ReadonlyArray<Operation> {
    const { random, gone, acquired } = this
    const dice = random.next()
    if (dice < 0.37) {
      const id = this.newId(process)
      process.entries.push({ id, ticket: 0, fence: 0 })
      return [this.request(id, 0)]
    }
    if (dice < 0.41 && acquired.length > 0) {
      this.count("sent again")
      return [random.chance(0.7) ? (acquired.at(-1) ?? random.pick(acquired)) : random.pick(acquired)]
    }
    if (dice < 0.64) {
      const held = process.entries.filter(({ fence }) => fence > 0)
      const entries = random.chance(0.8) ? held : process.entries
      if (entries.length === 0) return []
      const entry = random.pick(entries)
      this.forget(process, entry)
      return [{ _tag: "release", id: entry.id }]
    }
    if (dice < 0.66 && gone.length > 0) return [{ _tag: "release", id: random.pick(gone).id }]
    if (dice < 0.68) {
      const anyone = this.processes.flatMap(({ entries }) => entries)
      return anyone.length > 0 ? [{ _tag: "revoke", id: random.pick(anyone).id }] : []
    }
    if (dice < 0.82) return process.entries.map((entry) => this.keep(entry))
    if (dice < 0.85 && gone.length > 0) return [this.keep(random.pick(gone))]
    if (dice < 0.93) {
      const lost = process.entries.filter(({ ticket, fence }) => ticket > 0 && fence === 0)
      return lost.map(({ id, ticket }) => this.request(id, ticket))
    }
    if (dice < 0.943) return [{ _tag: "resize", capacity: random.pick([0, 0, random.integer(1, 7)]) }]
    if (dice < 0.947) return [{ _tag: "reset" }]
    if (dice < 0.98) return [{ _tag: "look", count: random.pick([0, 1, 1000]) }]
    return [{ _tag: "release", id: this.newId(process) }]
  }

  /** What a process remembers of an answer, as far as it matters to what it asks next. */
  private learn(operations: ReadonlyArray<Operation>, { results, notices }: Answer): void {
    const find = (id: string) => {
      for (const process of this.processes) {
        const entry = process.entries.find((one) => one.id === id)
        if (entry !== undefined) return { process, entry }
      }
      return undefined
    }
    operations.forEach((operation, i) => {
      const [code, value] = results[i] ?? []
      this.count(`${operation._tag} ${code}`)
      const found = "id" in operation ? find(operation.id) : undefined
      if (found === undefined) return
      if (code === "held") found.entry.fence = Number(value)
      else if (code === "queued") found.entry.ticket = Number(value)
      else if (this.random.chance(0.7)) this.forget(found.process, found.entry)
    })
    for (const [, list] of notices) {
      for (const notice of list) {
        const [what, id, number] = notice.split(" ")
        this.count(`notice ${what}`)
        const found = find(String(id))
        if (what === "grant" && found !== undefined) found.entry.fence = Number(number)
      }
    }
  }

  private countRecovered(before: ReadonlySet<string>, { operations }: Call, { results }: Answer): void {
    operations.forEach((operation, i) => {
      if (operation._tag === "keep" && results[i]?.[0] === "held" && !before.has(operation.id)) this.count("recovered")
    })
  }

  step(): Step {
    const { random, model, lease } = this
    this.passTime()
    const losesData = random.chance(0.01)
    if (losesData) {
      model.lose()
      this.startedAt = this.time - random.integer(0, Math.floor(1.2 * lease))
      this.count("data lost")
    }
    if (random.chance(0.01)) {
      const [crashed] = this.processes.splice(0, 1)
      this.gone.push(...(crashed?.entries ?? []))
      this.startProcess()
      this.count("process crashed")
    }
    const process = random.pick(this.processes)
    const operations: Array<Operation> = []
    const wanted = random.chance(0.3) ? random.integer(2, 6) : 1
    while (operations.length < wanted) operations.push(...this.operations(process))
    const call: Call = {
      time: this.time,
      client: process.name,
      notAfter: random.chance(0.5) ? 0 : this.time + (random.chance(0.15) ? -1 : random.integer(0, second)),
      grace: this.grace,
      uptime: Math.max(0, Math.floor((this.time - this.startedAt) / second)),
      operations
    }
    const before = new Set([...model.holders, ...model.waiters].map(({ id }) => id))
    const answer = model.call(call)
    this.countRecovered(before, call, answer)
    this.learn(operations, answer)
    return {
      call,
      answer,
      holders: model.holders.map((holder) => ({ ...holder })),
      waiters: model.waiters.map((waiter) => ({ ...waiter })),
      closed: model.closed,
      publishes: this.publishes,
      losesData
    }
  }
}
