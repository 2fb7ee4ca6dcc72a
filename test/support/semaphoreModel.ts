/**
 * A semaphore as plain lists, by the words of its description and without regard to speed: what `lua/semaphore.lua`
 * must agree with.
 */

export type Operation =
  | {
      readonly _tag: "acquire"
      readonly id: string
      readonly lease: number
      /** How long it waits; 0 not at all, -1 for ever. */
      readonly giveUp: number
      /** Its old place in the queue, or 0. */
      readonly ticket: number
    }
  | { readonly _tag: "release"; readonly id: string }
  | { readonly _tag: "revoke"; readonly id: string }
  | { readonly _tag: "keep"; readonly id: string; readonly lease: number; readonly fence: number }
  | { readonly _tag: "resize"; readonly capacity: number }
  | { readonly _tag: "reset" }
  | { readonly _tag: "look"; readonly count: number }

export interface Call {
  /** By the server's clock. */
  readonly time: number
  readonly client: string
  readonly notAfter: number
  readonly grace: number
  /** Of the server, in whole seconds. */
  readonly uptime: number
  readonly operations: ReadonlyArray<Operation>
}

export type Result = ReadonlyArray<string | number | ReadonlyArray<ReadonlyArray<string | number>>>

export interface Answer {
  readonly next: number
  readonly results: ReadonlyArray<Result>
  /** By client. */
  readonly notices: ReadonlyMap<string, ReadonlyArray<string>>
}

export interface Holder {
  readonly id: string
  readonly fence: number
  leaseEnd: number
}

export interface Waiter {
  readonly id: string
  readonly ticket: number
  /** Infinite if it waits for ever. */
  readonly giveUpAt: number
  leaseEnd: number
}

const parse = (id: string) => {
  const [weight, capacity, client = ""] = id.split(".")
  return { weight: Number(weight), capacity: Number(capacity), client }
}

const weightOf = (id: string) => parse(id).weight

const by =
  <A extends { readonly id: string }>(value: (entry: A) => number) =>
  (a: A, b: A): number =>
    value(a) - value(b) || (a.id < b.id ? -1 : 1)

export class SemaphoreModel {
  holders: Array<Holder> = []
  waiters: Array<Waiter> = []
  /** What `resize` set. */
  private override: number | undefined
  private lastToken = 0
  /**
   * When something last changed, and how far the server's clock was behind by then, for time never runs backwards.
   * Nothing is known before the first change, and after a loss of data.
   */
  private lastChange: { readonly time: number; readonly lag: number } | undefined
  private graceEnd = 0
  private now = 0
  private lag = 0
  private workLeft = false
  private notices = new Map<string, Array<string>>()
  private readonly batch: number

  constructor(batch: number) {
    this.batch = batch
  }

  get used(): number {
    return this.holders.reduce((sum, { id }) => sum + weightOf(id), 0)
  }

  capacityFor(id: string): number {
    return this.override ?? parse(id).capacity
  }

  /** The server has lost everything. */
  lose(): void {
    this.holders = []
    this.waiters = []
    this.override = undefined
    this.lastToken = 0
    this.lastChange = undefined
    this.graceEnd = 0
  }

  /** Whether nobody may be granted anything, whatever is free. */
  get closed(): boolean {
    return this.now < this.graceEnd || this.workLeft
  }

  call({ time, client, notAfter, grace, uptime, operations }: Call): Answer {
    this.lag = this.lastChange === undefined ? 0 : Math.max(this.lastChange.lag, this.lastChange.time - time)
    this.now = time + this.lag
    if (this.lastChange === undefined) this.graceEnd = grace > 0 ? this.now + grace - (uptime - 1) * 1_000_000 : 0
    this.workLeft = false
    this.notices = new Map([[client, []]])
    const late = notAfter > 0 && time > notAfter

    this.dropOverdue()
    const results = operations.map((operation) => {
      if (operation._tag !== "release") this.serveQueue()
      return this.serve(operation, late)
    })
    this.serveQueue()
    return { next: this.untilNextChance(), results, notices: this.notices }
  }

  private changed(): void {
    this.lastChange = { time: this.now, lag: this.lag }
  }

  private token(): number {
    this.lastToken = Math.max(this.lastToken + 1, this.now)
    return this.lastToken
  }

  private notify(client: string, notice: string): void {
    this.notices.set(client, [...(this.notices.get(client) ?? []), notice])
  }

  private remove(id: string): string {
    const { holders, waiters } = this
    this.holders = holders.filter((holder) => holder.id !== id)
    this.waiters = waiters.filter((waiter) => waiter.id !== id)
    if (this.holders.length < holders.length) {
      this.changed()
      return "released"
    }
    if (this.waiters.length < waiters.length) {
      this.changed()
      return "left"
    }
    return "unknown"
  }

  /** Whose lease has ended, and who would wait no longer: a limited number of each in one call. */
  private dropOverdue(): void {
    const leases: ReadonlyArray<Holder | Waiter> = [...this.holders, ...this.waiters]
    this.dropFirst(leases.filter(({ leaseEnd }) => leaseEnd <= this.now).sort(by(({ leaseEnd }) => leaseEnd)))
    this.dropFirst(this.waiters.filter(({ giveUpAt }) => giveUpAt <= this.now).sort(by(({ giveUpAt }) => giveUpAt)))
  }

  private dropFirst(overdue: ReadonlyArray<{ readonly id: string }>): void {
    for (const { id } of overdue.slice(0, this.batch)) this.remove(id)
    if (overdue.length >= this.batch) this.workLeft = true
  }

  private hold(id: string, fence: number, leaseEnd: number): void {
    this.changed()
    this.holders = [...this.holders, { id, fence, leaseEnd }].sort(by((holder) => holder.fence))
  }

  /** The head of the queue first, as long as it fits. */
  private serveQueue(): void {
    for (let served = 0; !this.closed; served++) {
      const [head] = this.waiters
      if (head === undefined) return
      if (served === this.batch) {
        this.workLeft = true
        return
      }
      const { weight, client } = parse(head.id)
      const capacity = this.capacityFor(head.id)
      if (weight > capacity) {
        this.remove(head.id)
        this.notify(client, `refuse ${head.id} ${capacity}`)
      } else if (this.used + weight <= capacity) {
        this.remove(head.id)
        const fence = this.token()
        this.hold(head.id, fence, head.leaseEnd)
        this.notify(client, `grant ${head.id} ${fence}`)
      } else return
    }
  }

  private serve(operation: Operation, late: boolean): Result {
    switch (operation._tag) {
      case "acquire":
        return this.renew(operation.id, operation.lease) ?? (late ? ["late"] : this.acquire(operation))
      case "release":
        return [this.remove(operation.id)]
      case "revoke":
        return [this.revoke(operation.id)]
      case "keep":
        return this.renew(operation.id, operation.lease) ?? this.recover(operation, late)
      case "resize":
        if (late) return ["late"]
        this.changed()
        this.override = operation.capacity || undefined
        return ["resized"]
      case "reset":
        return late ? ["late"] : this.reset()
      case "look":
        return this.look(operation.count)
    }
  }

  private revoke(id: string): string {
    const holder = this.holders.find((one) => one.id === id)
    if (holder === undefined) return "unknown"
    this.notify(parse(id).client, `revoke ${id} ${holder.fence}`)
    return this.remove(id)
  }

  private renew(id: string, lease: number): Result | undefined {
    const holder = this.holders.find((one) => one.id === id)
    const waiter = this.waiters.find((one) => one.id === id)
    const entry = holder ?? waiter
    if (entry === undefined) return undefined
    this.changed()
    entry.leaseEnd = this.now + lease
    if (holder !== undefined) return ["held", holder.fence]
    return ["queued", waiter?.ticket ?? 0, this.lastToken]
  }

  private acquire({ id, lease, giveUp, ticket }: Operation & { readonly _tag: "acquire" }): Result {
    const { weight } = parse(id)
    const capacity = this.capacityFor(id)
    if (weight > capacity) return ["refused", capacity]
    const leaseEnd = this.now + lease
    if (this.waiters.length === 0 && this.used + weight <= capacity && !this.closed) {
      const fence = this.token()
      this.hold(id, fence, leaseEnd)
      return ["held", fence]
    }
    if (giveUp === 0) return ["busy"]
    const place = ticket === 0 ? this.token() : ticket
    this.lastToken = Math.max(this.lastToken, place)
    this.changed()
    const giveUpAt = giveUp === -1 ? Number.POSITIVE_INFINITY : this.now + giveUp
    this.waiters = [...this.waiters, { id, ticket: place, giveUpAt, leaseEnd }].sort(by((waiter) => waiter.ticket))
    return ["queued", place, this.lastToken]
  }

  /** After a loss of data, while nothing is granted, a holder that nobody knows is still one. */
  private recover({ id, lease, fence }: Operation & { readonly _tag: "keep" }, late: boolean): Result {
    if (fence === 0 || this.now >= this.graceEnd) return ["unknown"]
    if (late) return ["late"]
    this.lastToken = Math.max(this.lastToken, fence)
    this.hold(id, fence, this.now + lease)
    return ["held", fence]
  }

  private reset(): Result {
    this.changed()
    const fence = this.token()
    const clients = new Set([...this.holders, ...this.waiters].map(({ id }) => parse(id).client))
    for (const client of clients) this.notify(client, `reset * ${fence}`)
    this.holders = []
    this.waiters = []
    this.override = undefined
    this.graceEnd = 0
    this.workLeft = false
    return ["reset", fence]
  }

  private look(count: number): Result {
    return [
      "look",
      this.override ?? 0,
      this.used,
      this.waiters.length,
      this.holders.slice(0, count).map(({ id, fence, leaseEnd }) => [id, weightOf(id), fence, leaseEnd - this.now]),
      this.waiters.slice(0, count).map(({ id, ticket, leaseEnd }) => [id, weightOf(id), ticket, leaseEnd - this.now])
    ]
  }

  private untilNextChance(): number {
    if (this.waiters.length === 0) return -1
    if (this.workLeft) return 0
    const leaseEnds = [...this.holders, ...this.waiters].map(({ leaseEnd }) => leaseEnd)
    const chances = this.now < this.graceEnd ? [...leaseEnds, this.graceEnd] : leaseEnds
    return Math.min(...chances) - this.now
  }
}
