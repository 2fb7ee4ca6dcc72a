/**
 * Who is to be told when a caller's signal aborts.
 *
 * A signal is listened to once, however many calls it is passed to: Node 20 takes more than ten listeners for a leak.
 */

import { LinkedList, type Node } from "../linkedList.ts"

export interface AbortListener {
  readonly onAbort: (reason: unknown) => void
}

/** All who listen to one signal. */
class Audience {
  readonly listeners = new LinkedList<AbortListener>()
  private readonly signal: AbortSignal

  constructor(signal: AbortSignal) {
    this.signal = signal
  }

  handleEvent(): void {
    for (const listener of Array.from(this.listeners)) listener.onAbort(this.signal.reason)
  }
}

const audiences = new WeakMap<AbortSignal, Audience>()

/** Gives what to stop listening with. */
export const listen = (signal: AbortSignal, listener: AbortListener): Node<AbortListener> => {
  let audience = audiences.get(signal)
  if (audience === undefined) {
    audience = new Audience(signal)
    audiences.set(signal, audience)
  }
  if (audience.listeners.size === 0) signal.addEventListener("abort", audience)
  return audience.listeners.add(listener)
}

export const unlisten = (signal: AbortSignal, listening: Node<AbortListener>): void => {
  const audience = audiences.get(signal)
  if (audience?.listeners.remove(listening) && audience.listeners.size === 0) {
    signal.removeEventListener("abort", audience)
  }
}
