/**
 * Until when requests to something have to stay away, as far as this process was told.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import { monotonicMicros } from "./time.ts"

export class HoldOffs {
  /** On the monotonic clock. */
  private readonly ends = new Map<string, number>()

  /** What is over takes no room for longer than until the next is told. */
  extend(clock: Clock.Clock, name: string, duration: Duration.Duration): void {
    const now = monotonicMicros(clock)
    for (const [other, end] of this.ends) if (end <= now) this.ends.delete(other)
    this.ends.set(name, Math.max(this.ends.get(name) ?? 0, now + Duration.toMicros(duration)))
  }

  end(name: string): void {
    this.ends.delete(name)
  }

  left(clock: Clock.Clock, name: string): Duration.Duration {
    const end = this.ends.get(name) ?? 0
    return Duration.millis(Math.max(0, Math.ceil((end - monotonicMicros(clock)) / 1000)))
  }
}
