/**
 * A doubly linked list: whoever is in a queue can leave it in constant time, wherever it stands.
 */
export interface Node<A> {
  readonly value: A
  list: LinkedList<A> | undefined
  previous: Node<A> | undefined
  next: Node<A> | undefined
}

export class LinkedList<A> {
  first: Node<A> | undefined
  last: Node<A> | undefined
  size = 0

  /** Adds at the end, or behind `after`; in front if `after` is null. */
  add(value: A, after: Node<A> | undefined | null = this.last): Node<A> {
    const previous = after ?? undefined
    const next = previous === undefined ? this.first : previous.next
    const node: Node<A> = { value, list: this, previous, next }
    if (previous === undefined) this.first = node
    else previous.next = node
    if (next === undefined) this.last = node
    else next.previous = node
    this.size++
    return node
  }

  /** Takes a node out; false if it has left before. */
  remove(node: Node<A>): boolean {
    if (node.list !== this) return false
    if (node.previous === undefined) this.first = node.next
    else node.previous.next = node.next
    if (node.next === undefined) this.last = node.previous
    else node.next.previous = node.previous
    node.list = node.previous = node.next = undefined
    this.size--
    return true
  }

  *[Symbol.iterator](): Iterator<A> {
    for (let node = this.first; node !== undefined; node = node.next) yield node.value
  }
}
