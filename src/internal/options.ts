/**
 * Every rule for options and arguments, checked once, when a limiter is made or called. The first that is broken is
 * told as `InvalidOptions` with field, value and rule, also to callers whose compiler didn't check anything.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { InvalidOptions } from "../Errors.ts"
import type { JointMember } from "../Limiter.ts"
import type { LimitRequestsOptions } from "../LimitRequests.ts"
import type { ObservationOptions } from "../Observation.ts"
import type { RateLimitOptions } from "../RateLimit.ts"
import type { RedisClientSettings } from "../RedisClient.ts"
import type { RedisLayerOptions } from "../RedisLive.ts"
import type { RetryAfterOptions } from "../RetryAfter.ts"
import type { SemaphoreOptions } from "../Semaphore.ts"
import type { MapWithPermitOptions } from "../Throttle.ts"
import type { TokenBucketOptions } from "../TokenBucket.ts"
import type { WhenAway } from "../WhenAway.ts"
import { maxAmount, maxSpan, type Rules, unitsPerToken } from "./bucket.ts"

const maxTokens = maxAmount / unitsPerToken

/** Of a limiter's name, in UTF-8 bytes. */
export const maxNameLength = 512

const functionRule = "a function"

const nameRule = `a non-empty string of at most ${maxNameLength} UTF-8 bytes`

const encoder = new TextEncoder()

/** In bytes. */
export const utf8Length = (text: string): number => encoder.encode(text).length

/** Which limiter is meant. */
export interface Identity {
  readonly name: string
  /** Only if it isn't the name. */
  readonly tag?: string
}

const isName = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && utf8Length(value) <= maxNameLength

/** A token bucket's options as its decisions need them: units and microseconds. */
export interface BucketConfig extends Identity {
  readonly rules: Rules
  readonly tokensToConsume: number
  readonly maxSleep: number
  /** Undefined: as the layer says. */
  readonly whenAway: WhenAway | undefined
}

/** A semaphore's options in microseconds. */
export interface SemaphoreConfig extends Identity {
  readonly capacity: number
  readonly maxSleep: number
  /** The lease. */
  readonly expiry: number
  /** Undefined: as the layer says. */
  readonly whenAway: WhenAway | undefined
}

export const tokensOf = (units: number): number => units / unitsPerToken

export const durationOf = (micros: number): Duration.Duration =>
  micros >= maxSpan ? Duration.infinity : Duration.millis(micros / 1000)

// A cost is rounded up and a supply down to whole units, so that rounding never admits anything. What is within the
// error of the multiplication counts as whole: 1.1 tokens are 1,100,000 units.
const toUnits = (tokens: number, round: (n: number) => number): number => {
  const units = tokens * unitsPerToken
  const nearest = Math.round(units)
  return Math.abs(units - nearest) < 1e-3 ? nearest : round(units)
}

const costOf = (tokens: number): number => (tokens > 0 ? Math.max(1, toUnits(tokens, Math.ceil)) : 0)

const supplyOf = (tokens: number): number => toUnits(tokens, Math.floor)

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b))

class Broken {
  readonly error: InvalidOptions
  constructor(error: InvalidOptions) {
    this.error = error
  }
}

/** Reads fields one by one; the first broken rule ends the reading. */
class Reader {
  readonly name: string
  private readonly options: Record<string, unknown>

  /** `of`: what has these options, unless that is a limiter whose name is among them. */
  constructor(options: unknown, known: ReadonlyArray<string>, of?: string) {
    this.options = isRecord(options) ? options : {}
    const name = of ?? this.options["name"]
    this.name = typeof name === "string" ? name : ""
    if (this.options !== options) this.fail("options", options, "an object")
    const unknown = Object.keys(this.options).find((key) => !known.includes(key))
    if (unknown !== undefined) this.fail(unknown, this.options[unknown], `one of the options ${known.join(", ")}`)
    if (of === undefined && !isName(name)) this.fail("name", name, nameRule)
  }

  get identity(): Identity {
    const tag = this.get("tag", this.name)
    if (!isName(tag)) this.fail("tag", tag, nameRule)
    return tag === this.name ? { name: this.name } : { name: this.name, tag }
  }

  fail(field: string, value: unknown, rule: string): never {
    throw new Broken(new InvalidOptions({ name: this.name, field, value, rule }))
  }

  private get(field: string, fallback: unknown): unknown {
    const value = this.options[field]
    return value === undefined ? fallback : value
  }

  number(field: string, fallback: number, rule: string, holds: (n: number) => boolean): number {
    const value = this.get(field, fallback)
    if (typeof value !== "number" || !holds(value)) this.fail(field, value, rule)
    return value
  }

  boolean(field: string, fallback: boolean): boolean {
    const value = this.get(field, fallback)
    return typeof value === "boolean" ? value : this.fail(field, value, "true or false")
  }

  /** Of a type that nobody can check. */
  callback<F extends (...args: never) => unknown>(field: string): F | undefined {
    const value = this.options[field]
    return value === undefined || typeof value === "function"
      ? (value as F | undefined)
      : this.fail(field, value, functionRule)
  }

  literal<A extends string>(field: string, fallback: A, allowed: ReadonlyArray<A>): A {
    const value = this.get(field, fallback)
    const found = allowed.find((one) => one === value)
    return found ?? this.fail(field, value, allowed.map((one) => `"${one}"`).join(" or "))
  }

  /** In whole microseconds. */
  duration(field: string, fallback: Duration.Input, rule: string, holds: (micros: number) => boolean): number {
    const value = this.get(field, fallback)
    const micros = microsOf(value)
    if (micros === undefined || !holds(micros)) this.fail(field, value, rule)
    return micros
  }

  maxSleep(): number {
    const micros = this.duration(
      "maxSleep",
      "30 seconds",
      "a duration of at least 0 (0 or infinity: no bound)",
      (n) => n >= 0
    )
    return micros === 0 ? maxSpan : Math.min(micros, maxSpan)
  }

  whenAway(): WhenAway | undefined {
    const value = this.get("whenAway", undefined)
    return value === undefined || isWhenAway(value)
      ? value
      : this.fail("whenAway", value, `"fail", "allow" or { local: share } with a share above 0 and at most 1`)
  }

  moment(field: string, now: number): number | undefined {
    const value = this.options[field]
    if (value === undefined) return undefined
    const moment = momentOf(value)
    if (moment === undefined || moment < 0 || moment > now)
      this.fail(field, value, "a moment since 1970 and not in the future")
    return moment
  }
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isWhenAway = (value: unknown): value is WhenAway => {
  if (!isRecord(value)) return value === "fail" || value === "allow"
  const { local: share, ...others } = value
  return typeof share === "number" && share > 0 && share <= 1 && Object.keys(others).length === 0
}

const microsOf = (value: unknown): number | undefined => {
  // Effect takes these for nothing at all; here they are mistakes.
  if (Number.isNaN(value) || (isRecord(value) && Object.keys(value).length === 0)) return undefined
  const duration = Duration.fromInput(value as Duration.Input)
  return Option.isSome(duration) ? Math.round(Duration.toMicros(duration.value)) : undefined
}

/** In milliseconds since 1970. */
const momentOf = (value: unknown): number | undefined => {
  if (typeof value === "number") return Number.isFinite(value) ? Math.round(value) : undefined
  if (!(value instanceof Date || typeof value === "string" || DateTime.isDateTime(value))) return undefined
  const moment = DateTime.make(value)
  return Option.isSome(moment) ? DateTime.toEpochMillis(moment.value) : undefined
}

const read = <A>(f: () => A): Result.Result<A, InvalidOptions> => {
  try {
    return Result.succeed(f())
  } catch (thrown) {
    if (thrown instanceof Broken) return Result.fail(thrown.error)
    throw thrown
  }
}

const bucketFields = [
  "name",
  "tag",
  "capacity",
  "refillAmount",
  "refillFrequency",
  "refill",
  "initialTokens",
  "tokensToConsume",
  "maxSleep",
  "expiry",
  "windowStartTime",
  "whenAway"
] satisfies ReadonlyArray<keyof TokenBucketOptions>

/** Check a token bucket's options; `now` in milliseconds since 1970. Others, if any, are checked elsewhere. */
export const bucketConfig = (
  options: unknown,
  now: number,
  others: ReadonlyArray<string> = []
): Result.Result<BucketConfig, InvalidOptions> =>
  read(() => {
    const reader = new Reader(options, [...bucketFields, ...others])
    const identity = reader.identity
    const capacity = reader.number(
      "capacity",
      5,
      `a number of at least 0.000001 and at most ${maxTokens}`,
      (n) => n >= 1 / unitsPerToken && n <= maxTokens
    )
    const refillAmount = reader.number(
      "refillAmount",
      1,
      `a number of at least 0.000001 and at most capacity (${capacity}), or 0 together with refillFrequency 0`,
      (n) => n === 0 || (n >= 1 / unitsPerToken && n <= capacity)
    )
    const frequencyRule =
      "a duration from 1 millisecond to 40 years, in which an empty bucket can fill, or 0 together with refillAmount 0"
    const refillFrequency = reader.duration(
      "refillFrequency",
      "1 second",
      frequencyRule,
      (n) => n === 0 || (n >= 1_000 && n <= maxSpan && Math.ceil(capacity / (refillAmount || capacity)) * n <= maxSpan)
    )
    if (refillAmount === 0 && refillFrequency !== 0) {
      reader.fail("refillAmount", refillAmount, "greater than 0, or 0 together with refillFrequency 0")
    }
    if (refillFrequency === 0 && refillAmount !== 0) reader.fail("refillFrequency", 0, frequencyRule)
    const refill = reader.literal("refill", "interval", ["interval", "continuous"])
    const inCapacity = (n: number) => n >= 0 && n <= capacity
    const initialTokens = reader.number(
      "initialTokens",
      capacity,
      `a number from 0 to capacity (${capacity})`,
      inCapacity
    )
    const tokensToConsume = reader.number("tokensToConsume", 1, `a number from 0 to capacity (${capacity})`, inCapacity)
    const maxSleep = reader.maxSleep()
    const expiry = reader.duration("expiry", "60 seconds", "a duration greater than 0", (n) => n > 0)
    const windowStart = reader.moment("windowStartTime", now)
    const amount = supplyOf(refillAmount)
    // Trickling evenly is refilling by the finest step that is exact in both units and microseconds.
    const step = refill === "continuous" && amount > 0 ? greatestCommonDivisor(amount, refillFrequency) : 1
    return {
      ...identity,
      rules: {
        capacity: supplyOf(capacity),
        amount: amount / step,
        interval: refillFrequency / step,
        origin: windowStart === undefined ? -1 : windowStart * 1000,
        initial: supplyOf(initialTokens),
        expiry: Math.min(expiry, maxSpan)
      },
      tokensToConsume: Math.min(costOf(tokensToConsume), supplyOf(capacity)),
      maxSleep,
      whenAway: reader.whenAway()
    }
  })

const semaphoreFields = ["name", "tag", "capacity", "maxSleep", "expiry", "whenAway"] satisfies ReadonlyArray<
  keyof SemaphoreOptions
>

/** Of a semaphore. */
export const maxCapacity = 2 ** 31 - 1

const capacityRule = `an integer from 1 to ${maxCapacity}`

const isCapacity = (n: unknown): n is number =>
  typeof n === "number" && Number.isInteger(n) && n >= 1 && n <= maxCapacity

/** Check a semaphore's options. Others, if any, are checked elsewhere. */
export const semaphoreConfig = (
  options: unknown,
  others: ReadonlyArray<string> = []
): Result.Result<SemaphoreConfig, InvalidOptions> =>
  read(() => {
    const reader = new Reader(options, [...semaphoreFields, ...others])
    return {
      ...reader.identity,
      capacity: reader.number("capacity", 5, capacityRule, isCapacity),
      maxSleep: reader.maxSleep(),
      expiry: Math.min(
        maxSpan,
        reader.duration("expiry", "60 seconds", "a duration of at least 100 milliseconds", (n) => n >= 100_000)
      ),
      whenAway: reader.whenAway()
    }
  })

/** A Redis layer's options in microseconds. */
export interface RedisLayerConfig {
  readonly whenAway: WhenAway
  readonly awayAfter: number
}

/** What holds for layers that are not told anything. */
export const failing: RedisLayerConfig = { whenAway: "fail", awayAfter: 500_000 }

const redisLayerFields = ["whenAway", "awayAfter"] satisfies ReadonlyArray<keyof RedisLayerOptions>

/** Check a Redis layer's options. */
export const redisLayerConfig = (options: unknown): Result.Result<RedisLayerConfig, InvalidOptions> =>
  read(() => {
    const reader = new Reader(options, redisLayerFields, "redisLayer")
    return {
      whenAway: reader.whenAway() ?? failing.whenAway,
      awayAfter: reader.duration(
        "awayAfter",
        durationOf(failing.awayAfter),
        "a finite duration of at least 1 millisecond",
        (n) => n >= 1_000 && n <= maxSpan
      )
    }
  })

const redisClientFields = ["keyPrefix", "replyTimeout"] satisfies ReadonlyArray<keyof RedisClientSettings>

/** Check the settings of connections, but for their prefix; gives the reply timeout. */
export const replyTimeoutOf = (settings: unknown): Result.Result<Duration.Duration, InvalidOptions> =>
  read(() => {
    const reader = new Reader(settings, redisClientFields, "RedisClient")
    const rule = "a finite duration of at least 1 millisecond"
    return durationOf(reader.duration("replyTimeout", "2 seconds", rule, (n) => n >= 1_000 && n < maxSpan))
  })

/** What is observed, and how closely. */
export interface ObservationConfig {
  readonly byKey: boolean
  readonly lookEvery: Duration.Duration
  readonly spans: boolean
  readonly logs: boolean
}

const observationFields = ["byKey", "lookEvery", "spans", "logs"] satisfies ReadonlyArray<keyof ObservationOptions>

/** Check the options of an observation. */
export const observationConfig = (options: unknown): Result.Result<ObservationConfig, InvalidOptions> =>
  read(() => {
    const reader = new Reader(options, observationFields, "Observation")
    const rule = "a duration of at least 1 millisecond"
    return {
      byKey: reader.boolean("byKey", false),
      lookEvery: durationOf(reader.duration("lookEvery", "10 seconds", rule, (n) => n >= 1_000)),
      spans: reader.boolean("spans", false),
      logs: reader.boolean("logs", false)
    }
  })

const durationRule = "a duration of at least 0"

/** The name of a limiter that is passed to a function: one of which `isSuch` is true. */
const limiterName = (
  user: string,
  limiter: unknown,
  rule: string,
  isSuch: (limiter: Record<string, unknown>) => boolean = () => true
): string => {
  const { name, withPermit } = isRecord(limiter) ? limiter : {}
  if (typeof name === "string" && typeof withPermit === "function" && isSuch(limiter as never)) return name
  throw new Broken(new InvalidOptions({ name: user, field: "limiter", value: limiter, rule }))
}

const isKeyed = (limiter: object): boolean => "forKey" in limiter

const limitRequestsFields = ["key", "cost", "maxPause"] satisfies ReadonlyArray<keyof LimitRequestsOptions>

/** How requests of an HTTP client are limited. */
export interface LimitRequestsConfig extends Pick<LimitRequestsOptions, "key" | "cost"> {
  readonly maxPause: Duration.Duration
}

/** Check the options of an HTTP client that this limiter limits. */
export const limitRequestsConfig = (
  limiter: unknown,
  options: unknown
): Result.Result<LimitRequestsConfig, InvalidOptions> =>
  read(() => {
    const reader = new Reader(options, limitRequestsFields, limiterName("limitRequests", limiter, "a limiter"))
    return {
      key: reader.callback<NonNullable<LimitRequestsOptions["key"]>>("key"),
      cost: reader.callback<NonNullable<LimitRequestsOptions["cost"]>>("cost"),
      maxPause: durationOf(reader.duration("maxPause", "1 hour", durationRule, (n) => n >= 0))
    }
  })

const rateLimitFields = ["key", "cost", "wait", "failOpen", "retryAfter"] satisfies ReadonlyArray<
  keyof RateLimitOptions
>

/** How routes of an HTTP server are limited. */
export interface RateLimitConfig extends Pick<RateLimitOptions, "key" | "cost"> {
  readonly wait: boolean
  readonly failOpen: boolean
  readonly retryAfter: Duration.Duration
}

/** Check the options of HTTP routes that this limiter limits. */
export const rateLimitConfig = (limiter: unknown, options: unknown): Result.Result<RateLimitConfig, InvalidOptions> =>
  read(() => {
    const name = limiterName("rateLimit", limiter, "a token bucket or a semaphore", ({ kind }) => kind !== "Joint")
    const reader = new Reader(options, rateLimitFields, name)
    return {
      key: reader.callback<NonNullable<RateLimitOptions["key"]>>("key"),
      cost: reader.callback<NonNullable<RateLimitOptions["cost"]>>("cost"),
      wait: reader.boolean("wait", false),
      failOpen: reader.boolean("failOpen", false),
      retryAfter: durationOf(reader.duration("retryAfter", "1 second", durationRule, (n) => n >= 0))
    }
  })

/** Check the options of a stream that this limiter throttles; `cost` is of its elements' type. */
export const throttleConfig = (limiter: unknown, options: unknown): Result.Result<void, InvalidOptions> =>
  read(() => {
    const isBucket = (one: Record<string, unknown>) => one["kind"] === "TokenBucket" && !isKeyed(one)
    new Reader(options, ["cost"], limiterName("throttle", limiter, "a token bucket", isBucket)).callback("cost")
  })

const mapWithPermitFields = ["concurrency", "unordered", "cost"] satisfies ReadonlyArray<
  keyof MapWithPermitOptions | "cost"
>

/** How many of a stream's elements are under way. */
export interface MapWithPermitConfig {
  readonly concurrency: number
  readonly unordered: boolean
}

/** Check the options of a stream that is worked on with permits of this limiter; `cost` is of its elements' type. */
export const mapWithPermitConfig = (
  limiter: unknown,
  f: unknown,
  options: unknown
): Result.Result<MapWithPermitConfig, InvalidOptions> =>
  read(() => {
    const rule = "a limiter, or that of one key"
    const name = limiterName("mapWithPermit", limiter, rule, (one) => !isKeyed(one))
    const reader = new Reader(options, mapWithPermitFields, name)
    if (typeof f !== "function") reader.fail("f", f, functionRule)
    reader.callback("cost")
    return {
      concurrency: reader.number("concurrency", 16, "a number of at least 1", (n) => n >= 1),
      unordered: reader.boolean("unordered", false)
    }
  })

const retryAfterFields = ["times", "jitter"] satisfies ReadonlyArray<keyof RetryAfterOptions>

/** How a schedule comes back. */
export interface RetryAfterConfig {
  readonly times: number
  readonly jitter: number
}

/** Check the options of a schedule that comes back. */
export const retryAfterConfig = (options: unknown): Result.Result<RetryAfterConfig, InvalidOptions> =>
  read(() => {
    const reader = new Reader(options, retryAfterFields, "retryAfter")
    return {
      times: reader.number("times", Number.POSITIVE_INFINITY, "a number of at least 0", (n) => n >= 0),
      jitter: reader.number("jitter", 0, "a finite number of at least 0", (n) => n >= 0 && Number.isFinite(n))
    }
  })

const jointMemberFields = ["limiter", "permits", "wait"] satisfies ReadonlyArray<
  keyof Extract<JointMember, { readonly limiter: unknown }>
>

/** What work takes of one limiter among several. */
export interface JointMemberConfig {
  /** Undefined: as many as its own `withPermit` takes. */
  readonly permits: number | undefined
  readonly wait: boolean
}

/**
 * Check what is said about this limiter among several. How many permits it can give is checked when they are asked for.
 */
export const jointMemberConfig = (name: string, said: unknown): Result.Result<JointMemberConfig, InvalidOptions> =>
  read(() => {
    const reader = new Reader(said, jointMemberFields, name)
    const { permits } = said as { readonly permits?: number }
    if (permits !== undefined && typeof permits !== "number") reader.fail("permits", permits, "a number")
    return { permits, wait: reader.boolean("wait", true) }
  })

/** Check a number of tokens asked of a bucket, against its capacity in units; gives units. */
export const tokensArgument = (
  name: string,
  value: unknown,
  capacity: number
): Result.Result<number, InvalidOptions> =>
  typeof value === "number" && value >= 0 && costOf(value) <= capacity
    ? Result.succeed(costOf(value))
    : Result.fail(
        new InvalidOptions({
          name,
          field: "permits",
          value,
          rule: `a number from 0 to capacity (${tokensOf(capacity)})`
        })
      )

/** Check what some work really cost, which may be more than the capacity; gives units. */
export const actualArgument = (name: string, value: unknown): Result.Result<number, InvalidOptions> =>
  typeof value === "number" && value >= 0 && value <= maxTokens
    ? Result.succeed(costOf(value))
    : Result.fail(new InvalidOptions({ name, field: "actual", value, rule: `a number from 0 to ${maxTokens}` }))

/** Check what is going to be called. */
export const functionArgument = (name: string, field: string, value: unknown): Result.Result<void, InvalidOptions> =>
  typeof value === "function"
    ? Result.void
    : Result.fail(new InvalidOptions({ name, field, value, rule: functionRule }))

/** Check for how long something is to last; gives microseconds. */
export const durationArgument = (
  name: string,
  field: string,
  value: unknown
): Result.Result<number, InvalidOptions> => {
  const micros = microsOf(value)
  return micros !== undefined && micros >= 0
    ? Result.succeed(Math.min(micros, maxSpan))
    : Result.fail(new InvalidOptions({ name, field, value, rule: durationRule }))
}

/** That many permits can't be had of a semaphore of that capacity. */
export const invalidPermits = (name: string, value: unknown, capacity: number): InvalidOptions =>
  new InvalidOptions({ name, field: "permits", value, rule: `an integer from 1 to capacity (${capacity})` })

/** Check a number of permits asked of a semaphore, whose capacity may have changed since it was made. */
export const permitsArgument = (
  name: string,
  value: unknown,
  capacity: number
): Result.Result<number, InvalidOptions> =>
  isCapacity(value) ? Result.succeed(value) : Result.fail(invalidPermits(name, value, capacity))

/** Check a new capacity. */
export const capacityArgument = (name: string, value: unknown): Result.Result<number, InvalidOptions> =>
  isCapacity(value)
    ? Result.succeed(value)
    : Result.fail(new InvalidOptions({ name, field: "capacity", value, rule: capacityRule }))
