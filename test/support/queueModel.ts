/**
 * Queues as a child would build them: a row of people, a jar of tokens or a pile of permits, and a look at the first of
 * the row whenever something has changed.
 */

/** People who each want equally many tokens from a jar. Whoever leaves the row is as if he had never come. */
export class TokenQueue {
  private level: number
  private row: Array<number> = []
  private nextRefill: number | undefined
  private readonly options: {
    readonly capacity: number
    readonly amount: number
    readonly interval: number
    readonly cost: number
  }
  /** Who was served, and when. */
  readonly served: Array<readonly [person: number, time: number]> = []

  constructor(options: TokenQueue["options"]) {
    this.options = options
    this.level = options.capacity
  }

  come(person: number, now: number): void {
    this.nextRefill ??= now + this.options.interval
    this.row.push(person)
    this.serve(now)
  }

  leave(person: number): void {
    this.row = this.row.filter((other) => other !== person)
  }

  /** To be called for every unit of time. */
  tick(now: number): void {
    if (now !== this.nextRefill) return
    this.nextRefill += this.options.interval
    this.level += this.options.amount
    this.serve(now)
    this.level = Math.min(this.options.capacity, this.level)
  }

  private serve(now: number): void {
    const { cost } = this.options
    for (let first = this.row[0]; first !== undefined && this.level >= cost; first = this.row[0]) {
      this.level -= cost
      this.row.shift()
      this.served.push([first, now])
    }
  }
}

interface Person {
  readonly name: number
  readonly permits: number
}

/** People who want some permits each from a pile, and bring them back. */
export class PermitPile {
  capacity: number
  row: Array<Person> = []
  holders: Array<Person> = []
  /** Whose request is larger than the pile has become. */
  readonly refused = new Set<number>()
  /** In the order in which they got their permits. */
  readonly served: Array<number> = []

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get held(): number {
    return this.holders.reduce((sum, { permits }) => sum + permits, 0)
  }

  come(person: Person): void {
    if (person.permits > this.capacity) this.refused.add(person.name)
    else this.row.push(person)
    this.look()
  }

  /** Whether he waits or holds. */
  go(name: number): void {
    this.row = this.row.filter((person) => person.name !== name)
    this.holders = this.holders.filter((person) => person.name !== name)
    this.look()
  }

  resize(capacity: number): void {
    this.capacity = capacity
    this.look()
  }

  private look(): void {
    for (let first = this.row[0]; first !== undefined; first = this.row[0]) {
      if (first.permits > this.capacity) this.refused.add(first.name)
      else if (this.held + first.permits <= this.capacity) {
        this.holders.push(first)
        this.served.push(first.name)
      } else return
      this.row.shift()
    }
  }
}
