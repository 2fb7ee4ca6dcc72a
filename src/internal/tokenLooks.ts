/**
 * Looks now and then at how many tokens are left in buckets that are in use.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { TokenBucketLimiter } from "../TokenBucket.ts"

/** A bucket, and who is told what is in it. */
export interface Look {
  readonly limiter: Pick<TokenBucketLimiter, "state">
  readonly onTokens: (tokens: number) => void
}

/** So many at once. */
const concurrency = 64

export class TokenLooks {
  private due = new Set<Look>()

  /** To be looked at the next time, and from then on until the bucket is full. */
  add(look: Look): void {
    this.due.add(look)
  }

  every(interval: Duration.Duration): Effect.Effect<never> {
    const round = Effect.suspend(() => {
      const { due } = this
      this.due = new Set()
      return Effect.forEach(due, (look) => this.look(look), { concurrency, discard: true })
    })
    return Effect.forever(Effect.andThen(Effect.sleep(interval), round))
  }

  private look(look: Look): Effect.Effect<void> {
    return Effect.match(look.limiter.state, {
      // A backend that is away is asked again the next time.
      onFailure: () => this.add(look),
      onSuccess: ({ tokens, capacity, fillTime }) => {
        look.onTokens(tokens)
        if (tokens < capacity && Duration.isFinite(fillTime)) this.add(look)
      }
    })
  }
}
