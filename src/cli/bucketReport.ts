/**
 * What Redis remembers of a token bucket, and what that means now.
 */
import { load, look, maxSpan, type Rules, type State, unitsPerToken } from "../internal/bucket.ts"
import type { LimiterAddress } from "../internal/limiterKeys.ts"
import { tokensOf } from "../internal/options.ts"
import { inspectTokenBucketScript as source } from "../internal/scripts.ts"
import { makeRedisScript, type RedisScript } from "../RedisScript.ts"
import type { BucketReport } from "./report.ts"

export interface RememberedBucket {
  /** In microseconds, by the server's clock. */
  readonly now: number
  /** As the bucket's script takes them. */
  readonly rulesText: string
  readonly rules: Rules
  readonly state: State
}

const readRules = (text: string): Rules => {
  const [capacity = 0, amount = 0, interval = 0, origin = 0, initial = 0, expiry = 0] = text.split(" ").map(Number)
  return { capacity, amount, interval, origin, initial, expiry }
}

const readReply = (reply: unknown): RememberedBucket | undefined => {
  if (!Array.isArray(reply)) return undefined
  const [now, rulesText, level, slot, at, tail, tailSerial, serial, born, surplus, held, since, taken] = reply
  const rules = readRules(rulesText)
  const { capacity, amount, interval, origin } = rules
  const counters = { level, slot, at, tail, tailSerial, serial, born, surplus, held, since, taken }
  return { now, rulesText, rules, state: { ...counters, capacity, amount, interval, origin } }
}

export const inspectTokenBucketScript: RedisScript<RememberedBucket | undefined> = makeRedisScript({
  name: "inspect-token-bucket",
  source,
  decode: readReply
})

const millis = (micros: number): number | null => (micros < maxSpan ? micros / 1000 : null)

export const bucketReport = (
  { name, tag = null }: { readonly name: string; readonly tag?: LimiterAddress["tag"] | null },
  { now, rules, state: remembered }: RememberedBucket
): BucketReport => {
  const { state } = load(remembered, rules, now)
  const { available, wait } = look(state, Math.min(unitsPerToken, state.capacity))
  const refills = state.amount > 0 && state.level < state.capacity
  return {
    kind: "token-bucket",
    name,
    tag,
    capacity: tokensOf(state.capacity),
    tokens: tokensOf(available),
    owed: tokensOf(Math.max(0, -state.level)),
    waitMs: millis(wait),
    nextRefillMs: refills ? millis(Math.max(0, state.slot + state.interval - now)) : null,
    taken: tokensOf(state.taken),
    options: {
      refillAmount: tokensOf(rules.amount),
      refillFrequencyMs: rules.interval / 1000,
      initialTokens: tokensOf(rules.initial),
      expiryMs: rules.expiry / 1000,
      windowStartTime: rules.origin < 0 ? null : new Date(rules.origin / 1000).toISOString()
    }
  }
}
