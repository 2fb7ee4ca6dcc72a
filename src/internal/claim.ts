/**
 * What a request asks for until its work uses it. If the request ends before, at whatever moment, that goes back.
 *
 * Nothing is made uninterruptible for it: one finalizer stands by from the question to the first step of the work, and
 * whoever comes to hold something says so in the very step in which that happens.
 */
import * as Effect from "effect/Effect"

/** Something asked for, promised or granted that goes back when it is abandoned. */
export interface Abandonable {
  readonly abandon: () => void
}

export class Claim {
  private held: Abandonable | undefined

  /** Takes the place of what was held before. */
  hold(held: Abandonable): void {
    this.held = held
  }

  /** From now on it is the work's. */
  use(): void {
    this.held = undefined
  }

  end(): undefined {
    this.held?.abandon()
    return undefined
  }
}

/** Asks for something and goes on with it. */
export const claiming = <A, E, R>(ask: (claim: Claim) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const claim = new Claim()
    return Effect.onExitPrimitive(ask(claim), () => claim.end())
  })
