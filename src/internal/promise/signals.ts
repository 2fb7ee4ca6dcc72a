/**
 * Who is to be told when a caller's signal aborts.
 *
 * A signal is listened to once, however many calls it is passed to: Node 20 takes more than ten listeners for a leak.
 */

export interface AbortListener {
  readonly onAbort: (reason: unknown) => void
}

/** All who listen to one signal. */
class Audience {
  readonly listeners = new Set<AbortListener>()
  private readonly signal: AbortSignal

  constructor(signal: AbortSignal) {
    this.signal = signal
  }

  handleEvent(): void {
    for (const listener of Array.from(this.listeners)) listener.onAbort(this.signal.reason)
  }
}

const audiences = new WeakMap<AbortSignal, Audience>()

export const listen = (signal: AbortSignal, listener: AbortListener): void => {
  let audience = audiences.get(signal)
  if (audience === undefined) {
    audience = new Audience(signal)
    audiences.set(signal, audience)
  }
  if (audience.listeners.size === 0) signal.addEventListener("abort", audience)
  audience.listeners.add(listener)
}

export const unlisten = (signal: AbortSignal, listener: AbortListener): void => {
  const audience = audiences.get(signal)
  if (audience?.listeners.delete(listener) && audience.listeners.size === 0) {
    signal.removeEventListener("abort", audience)
  }
}
