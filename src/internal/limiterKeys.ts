/**
 * Under which key a limiter lives.
 *
 * A key is `<prefix>{<tag>}:<kind>`, where the tag is the limiter's name: a bucket and a semaphore of one name differ,
 * and share a slot. Limiters that are to be decided about together are given one tag, and then the key is
 * `<prefix>{<tag>}:<kind>:<name>`. Names are escaped, so that a key has exactly one hash tag, no two limiters have the
 * same key, and the name can be read from the key again.
 */
import type { LimiterKind } from "../Errors.ts"

/** What a key tells of its limiter. */
export interface LimiterAddress {
  readonly kind: LimiterKind
  readonly name: string
  /** Only if it isn't the limiter's name. */
  readonly tag?: string
}

/** Tells a limiter from all others of its kind: its name, unless it has a tag. */
export const limiterIdentity = (kind: LimiterKind, { name, tag }: Omit<LimiterAddress, "kind">): string => {
  if (tag !== undefined) return limiterKey("", { kind, name, tag })
  return name.startsWith("{") ? `{${name}` : name
}

const segment: Record<LimiterKind, string> = { TokenBucket: "token-bucket", Semaphore: "semaphore" }

const kinds = new Map<string, LimiterKind>([
  ["token-bucket", "TokenBucket"],
  ["semaphore", "Semaphore"]
])

export const limiterKey = (prefix: string, { kind, name, tag }: LimiterAddress): string =>
  tag === undefined
    ? `${prefix}{${escapeName(name)}}:${segment[kind]}`
    : `${prefix}{${escapeName(tag)}}:${segment[kind]}:${escapeName(name)}`

export const parseLimiterKey = (prefix: string, key: string): LimiterAddress | undefined => {
  if (!key.startsWith(prefix)) return undefined
  const parts = /^\{([^{}]+)\}:([^:]+)(?::([^{}]+))?$/.exec(key.slice(prefix.length))
  const kind = kinds.get(parts?.[2] ?? "")
  if (parts?.[1] === undefined || kind === undefined) return undefined
  const tag = unescapeName(parts[1])
  return parts[3] === undefined ? { kind, name: tag } : { kind, name: unescapeName(parts[3]), tag }
}

// Besides the braces and the escape itself: halves of surrogate pairs, which UTF-8 can't tell from one another.
const escapeName = (name: string): string =>
  name.replace(/[%{}\p{Surrogate}]/gu, (unit) => `%${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`)

const unescapeName = (escaped: string): string =>
  escaped.replace(/%([0-9A-F]{4})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
