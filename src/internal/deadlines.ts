/**
 * One timer for the deadlines of any number of calls, because nearly all of them are answered long before: the timer
 * stays as it is while calls come and go, and only when it fires looks for the calls that are due.
 */
import { LinkedList, type Node } from "./linkedList.ts"

export interface Waiting {
  /** Monotonic microseconds. */
  readonly deadline: number
  readonly onDeadline: () => void
}

const longestTimer = 2 ** 31 - 1

export class Deadlines {
  private readonly waiting = new LinkedList<Waiting>()
  private readonly now: () => number
  private timer: NodeJS.Timeout | undefined
  private firesAt = Number.POSITIVE_INFINITY

  constructor(now: () => number) {
    this.now = now
  }

  /** For a deadline that is not infinite. */
  add(call: Waiting): Node<Waiting> {
    if (call.deadline < this.firesAt) this.arm(call.deadline)
    return this.waiting.add(call)
  }

  remove(node: Node<Waiting>): void {
    this.waiting.remove(node)
  }

  close(): void {
    this.arm(Number.POSITIVE_INFINITY)
  }

  private arm(moment: number): void {
    clearTimeout(this.timer)
    this.firesAt = moment
    if (moment === Number.POSITIVE_INFINITY) return
    const millis = Math.ceil((moment - this.now()) / 1000)
    this.timer = setTimeout(this.fire, Math.min(Math.max(millis, 0), longestTimer))
    // What a call waits for is a socket, and that keeps the process alive.
    this.timer.unref()
  }

  private readonly fire = (): void => {
    const now = this.now()
    const due: Array<Node<Waiting>> = []
    let next = Number.POSITIVE_INFINITY
    for (let node = this.waiting.first; node !== undefined; node = node.next) {
      const { deadline } = node.value
      if (deadline <= now) due.push(node)
      else if (deadline < next) next = deadline
    }
    this.arm(next)
    for (const node of due) {
      // An earlier one may have made it leave.
      if (this.waiting.remove(node)) node.value.onDeadline()
    }
  }
}
