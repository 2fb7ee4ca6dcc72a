/**
 * The numbers of several limiters that are asked as one: a request is one to each of them.
 */
import type { Held, RefusalReason, RequestMeters } from "./limiterMeters.ts"
import { tellGranted, type Watch } from "./observedRequest.ts"

/** A limiter that is counted. */
export interface MeteredPart extends Pick<Watch, "meters" | "isAway"> {
  /** As errors call it. */
  readonly name: string
  /** What `withPermit` of all takes of this one. */
  readonly usual: number
}

export class JointMeters implements RequestMeters {
  private readonly parts: ReadonlyArray<MeteredPart>

  constructor(parts: ReadonlyArray<MeteredPart>) {
    this.parts = parts
  }

  asked(): void {
    for (const { meters } of this.parts) meters.asked()
  }

  granted(times: number, waited: number): void {
    for (const part of this.parts) tellGranted(part, times * part.usual, waited)
  }

  /** Each part knows by itself whether its backend is away. */
  grantedAway(): void {}

  /** Who refused counts it. Without a name, everybody's request came to nothing. */
  refused(reason: RefusalReason, by: string | undefined): void {
    for (const { meters, name } of this.parts) {
      if (by === undefined || by === name) meters.refused(reason, by)
      else meters.withdrawn()
    }
  }

  withdrawn(): void {
    for (const { meters } of this.parts) meters.withdrawn()
  }

  released({ permits, heldSeconds }: Held): void {
    for (const { meters, usual } of this.parts) meters.released({ permits: permits * usual, heldSeconds })
  }
}
