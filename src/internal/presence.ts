/**
 * Whether a server is there, judged by its answers.
 *
 * It is away once somebody has waited too long for one, whatever the reason: a dead server, a slow one and one that
 * answers every call with "not now" are the same to whoever needs a decision. It is back once it has answered a probe in
 * time. Told the time with everything that happens, it does nothing by itself.
 */

/** A call that has no answer yet. */
export interface Call {
  /** On the monotonic clock, in microseconds. */
  asked: number
  /** Made before the server was last away. */
  isOld: boolean
}

/**
 * A process that was busy reads what has arrived meanwhile before it says that nothing has: so long, in microseconds.
 */
const secondLook = 5_000

interface Suspicion {
  readonly call: Call
  readonly confirmedAt: number
}

export class Presence {
  /** In microseconds. */
  private readonly awayAfter: number
  /** In the order in which they were made. */
  private readonly unanswered = new Set<Call>()
  private suspicion: Suspicion | undefined
  private left: number | undefined
  private isClosed = false

  constructor(awayAfter: number) {
    this.awayAfter = awayAfter
  }

  /** Since when nobody has had an answer; undefined: it is there. */
  get awaySince(): number | undefined {
    return this.left
  }

  asked(now: number): Call {
    const call = { asked: now, isOld: false }
    if (!this.isClosed) this.unanswered.add(call)
    return call
  }

  /** Whatever the answer was, or nobody needs it any more. */
  over(call: Call): void {
    this.unanswered.delete(call)
  }

  /** A call came to nothing. Gives whether that makes a difference: an old one tells no news. */
  failed(call: Call, now: number): boolean {
    const isAway = !call.isOld && this.missed(now)
    this.over(call)
    return isAway
  }

  /** Somebody could wait no longer. Gives whether that makes a difference. */
  missed(now: number): boolean {
    if (this.left !== undefined || this.isClosed) return false
    this.left = this.oldest?.asked ?? now
    this.suspicion = undefined
    return true
  }

  /** Gives whether it has been found to be away. */
  look(now: number): boolean {
    const { oldest } = this
    if (this.left !== undefined || oldest === undefined || now < oldest.asked + this.awayAfter) return false
    if (this.suspicion?.call !== oldest) {
      this.suspicion = { call: oldest, confirmedAt: now + secondLook }
      return false
    }
    return now >= this.suspicion.confirmedAt && this.missed(now)
  }

  /** When to look next; infinity: not before another call. */
  get nextLook(): number {
    const { oldest } = this
    if (this.left !== undefined || oldest === undefined) return Number.POSITIVE_INFINITY
    return this.suspicion?.call === oldest ? this.suspicion.confirmedAt : oldest.asked + this.awayAfter
  }

  /** A probe that was sent then has been answered. Gives whether it is back by that. */
  probed(sent: number, now: number): boolean {
    if (this.left === undefined || now > sent + this.awayAfter) return false
    this.left = undefined
    // Calls that were made in vain have their chance from now on.
    for (const call of this.unanswered) {
      call.asked = now
      call.isOld = true
    }
    return true
  }

  /** Nobody needs it any more: from now on it passes for there. */
  close(): void {
    this.left = undefined
    this.unanswered.clear()
    this.isClosed = true
  }

  private get oldest(): Call | undefined {
    for (const call of this.unanswered) return call
    return undefined
  }
}
