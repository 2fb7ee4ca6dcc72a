/**
 * A doubly linked list: whoever is in a queue can leave it in constant time, wherever it stands.
 */
// A class, for V8 may take it for granted that what a literal makes lives long: what was linked to such a node would be
// copied as if it were alive, long after both have gone.
export class Node<A> {
  readonly value: A
  list: LinkedList<A> | undefined
  previous: Node<A> | undefined
  next: Node<A> | undefined

  constructor(value: A, list: LinkedList<A>, previous: Node<A> | undefined, next: Node<A> | undefined) {
    this.value = value
    this.list = list
    this.previous = previous
    this.next = next
  }
}

export class LinkedList<A> {
  first: Node<A> | undefined
  last: Node<A> | undefined
  size = 0

  /** Adds at the end, or behind `after`; in front if `after` is null. */
  add(value: A, after: Node<A> | undefined | null = this.last): Node<A> {
    const previous = after ?? undefined
    const next = previous === undefined ? this.first : previous.next
    const node = new Node(value, this, previous, next)
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
