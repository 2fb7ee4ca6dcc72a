/**
 * A map whose entries come and go all the time.
 *
 * When a `Map` of V8 moves to another table, the old table refers to the new one. Once one of them has been in memory for
 * a while, all that follow it pass for alive, and so does whatever was in them, until the next full garbage collection:
 * every short one has to copy it. A new map now and then puts an end to that.
 */

/** After so many entries have left, and more if there are many. */
const longestUse = 1024

export class Register<A> {
  private entries = new Map<string, A>()
  private deleted = 0

  get size(): number {
    return this.entries.size
  }

  get(key: string): A | undefined {
    return this.entries.get(key)
  }

  set(key: string, value: A): void {
    this.entries.set(key, value)
  }

  /** Whether it was there. */
  delete(key: string): boolean {
    const isDeleted = this.entries.delete(key)
    if (isDeleted && ++this.deleted > longestUse + this.size) {
      this.entries = new Map(this.entries)
      this.deleted = 0
    }
    return isDeleted
  }

  /** In the order in which they were added. Valid until something is deleted. */
  values(): Iterable<A> {
    return this.entries.values()
  }
}
