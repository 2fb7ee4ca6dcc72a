/**
 * What HTTP says about limits: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), the fields
 * that were in use before them, and `Retry-After` (RFC 9110).
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Headers from "effect/http/Headers"
import * as Result from "effect/Result"

/** What is left of one quota. */
export interface ServiceLimit {
  readonly policy: string
  readonly remaining: number
  /** Until there is more. */
  readonly reset?: Duration.Duration | undefined
}

/** Of how much a quota is, and over what time. */
export interface QuotaPolicy {
  readonly policy: string
  readonly quota: number
  readonly window?: Duration.Duration | undefined
  readonly unit?: string
}

/** Whole seconds, and never less. */
export const seconds = (duration: Duration.Duration): number => Math.ceil(Duration.toSeconds(duration))

export const formatServiceLimit = ({ policy, remaining, reset }: ServiceLimit): string =>
  formatItem(policy, { r: remaining, t: reset && seconds(reset) })

export const formatQuotaPolicy = ({ policy, quota, window, unit }: QuotaPolicy): string =>
  formatItem(policy, { q: quota, qu: unit, w: window && seconds(window) })

/** An item of a structured field (RFC 9651): a string with parameters. */
const formatItem = (value: string, parameters: Readonly<Record<string, number | string | undefined>>): string =>
  Object.entries(parameters).reduce(
    (item, [name, value]) =>
      value === undefined ? item : `${item};${name}=${typeof value === "number" ? value : formatString(value)}`,
    formatString(value)
  )

// Such strings know ASCII only: what is not is encoded as in a URL.
const formatString = (text: string): string => {
  const ascii = text.replace(/[^\x20-\x7e]+/g, (others) => Array.from(encoder.encode(others), percent).join(""))
  return `"${ascii.replace(/["\\]/g, "\\$&")}"`
}

const encoder = new TextEncoder()

const percent = (byte: number): string => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`

/** An item's value and its parameters, of which only integers are of interest. */
interface Item {
  readonly value: string
  readonly integers: ReadonlyMap<string, number>
}

const bareItem = /\s*(?:"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|([A-Za-z*][\w:/!#$%&'*+.^`|~-]*))/y
const parameter = /\s*;\s*([a-z*][a-z0-9_.*-]*)(?:=(?:(-?\d{1,15})(?![\d.])|[^;,"\s]+|"(?:[^"\\]|\\.)*"))?/y
const separator = /\s*(?:,|$)/y

/** Undefined if the list is malformed, and then nobody may go by any of it. */
const parseItems = (field: string): ReadonlyArray<Item> | undefined => {
  const items: Array<Item> = []
  let position = 0
  const next = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = position
    const found = pattern.exec(field)
    if (found !== null) position = pattern.lastIndex
    return found
  }
  while (position < field.length) {
    const bare = next(bareItem)
    if (bare === null) return undefined
    const integers = new Map<string, number>()
    for (let one = next(parameter); one !== null; one = next(parameter)) {
      if (one[1] !== undefined && one[2] !== undefined) integers.set(one[1], Number(one[2]))
    }
    if (next(separator) === null) return undefined
    items.push({ value: bare[1] ?? bare[2] ?? "", integers })
  }
  return items
}

/** Until which quotas that are used up have more again: the longest time. */
const rateLimitReset = (field: string): Duration.Duration | undefined => {
  let reset: number | undefined
  for (const { integers } of parseItems(field) ?? []) {
    const until = integers.get("t")
    if (integers.get("r") === 0 && until !== undefined && until >= 0) reset = Math.max(reset ?? 0, until)
  }
  return reset === undefined ? undefined : Duration.seconds(reset)
}

// Fields of one number each, as they were before there was one field. Some tell the time of the reset instead of the
// seconds until then; nobody means a thousand million seconds.
const separateReset = (headers: Headers.Headers, now: number): Duration.Duration | undefined => {
  for (const prefix of ["", "x-"]) {
    const number = (name: string) => {
      const value = headers[`${prefix}ratelimit-${name}`]
      return value !== undefined && /^\s*\d+(\.\d+)?\s*$/.test(value) ? Number(value) : undefined
    }
    const reset = number("reset")
    if (reset === undefined || (number("remaining") ?? 0) > 0) continue
    const millis = reset > 1e11 ? reset - now : reset > 1e9 ? reset * 1000 - now : reset * 1000
    return Duration.millis(Math.max(0, millis))
  }
  return undefined
}

/**
 * For how long a response that refuses tells to stay away: by `Retry-After` if it is there, otherwise by the `RateLimit`
 * field, otherwise by the fields before it. What is malformed counts for nothing. `now` in milliseconds since 1970, for
 * servers that don't tell their own time.
 */
export const retryDelay = (headers: Headers.Headers, now: number): Duration.Duration | undefined => {
  const date = Headers.parseHttpDate(headers["date"] ?? "")
  const serverNow = Result.isSuccess(date) ? DateTime.toEpochMillis(date.success) : now
  const retryAfter = Headers.parseRetryAfter(headers["retry-after"] ?? "")
  if (Result.isSuccess(retryAfter)) return Headers.retryAfterDelay(retryAfter.success, serverNow)
  return rateLimitReset(headers["ratelimit"] ?? "") ?? separateReset(headers, serverNow)
}
