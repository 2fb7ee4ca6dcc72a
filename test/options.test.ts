import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  InvalidOptions,
  Limiter,
  LocalLive,
  mapWithPermit,
  Observation,
  retryAfter,
  Semaphore,
  type SemaphoreLimiter,
  TokenBucket,
  type TokenBucketLimiter,
  throttle
} from "steindamm"
import { limitRequests, rateLimit } from "steindamm/http"

type Options = Record<string, unknown>

type Made = Effect.Effect<TokenBucketLimiter | SemaphoreLimiter, InvalidOptions, TokenBucket | Semaphore>

const make = {
  TokenBucket: (options: unknown): Made => TokenBucket.make(options as never),
  Semaphore: (options: unknown): Made => Semaphore.make(options as never)
} as const

const notNumbers = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, "3", null, {}, [], true, 3n]
const notDurations = [Number.NaN, -1, "soon", "-1 second", Duration.millis(-1), null, {}, true, () => 1]

const notPolicies = [
  "never",
  "",
  1,
  null,
  true,
  [],
  {},
  { local: 0 },
  { local: 1.1 },
  { local: "1" },
  { local: 1, remote: 1 }
]

/** For each field, what breaks its rule; an array with a second member sets other fields as well. */
const broken: Record<keyof typeof make, Record<string, ReadonlyArray<readonly [value: unknown, others?: Options]>>> = {
  TokenBucket: {
    name: ["", undefined, null, 5, "x".repeat(513), "é".repeat(257)].map((value) => [value] as const),
    capacity: [...notNumbers, 0, -1, 1e-7, 4e9 + 1].map((value) => [value] as const),
    refillAmount: [
      ...[...notNumbers, -1, 1e-7, 6].map((value) => [value] as const),
      [0],
      [0, { refillFrequency: "1 second" }]
    ],
    refillFrequency: [
      ...[...notDurations, 0, 0.5, "999 micros", "Infinity"].map((value) => [value] as const),
      ["2080 weeks", { refillAmount: 1 }]
    ],
    refill: ["sometimes", "", 1, null, true].map((value) => [value] as const),
    initialTokens: [...notNumbers, -1, 5.1].map((value) => [value] as const),
    tokensToConsume: [...notNumbers, -1, 5.1].map((value) => [value] as const),
    maxSleep: notDurations.map((value) => [value] as const),
    expiry: [...notDurations, 0, "0 millis"].map((value) => [value] as const),
    windowStartTime: [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      -1,
      "yesterday",
      new Date(Number.NaN),
      new Date(86_400_001),
      true,
      {}
    ].map((value) => [value] as const),
    whenAway: notPolicies.map((value) => [value] as const)
  },
  Semaphore: {
    name: ["", undefined, null, 5, "x".repeat(513)].map((value) => [value] as const),
    capacity: [...notNumbers, 0, -1, 1.5, 2 ** 31].map((value) => [value] as const),
    maxSleep: notDurations.map((value) => [value] as const),
    expiry: [...notDurations, 0, 99, "99 millis"].map((value) => [value] as const),
    whenAway: notPolicies.map((value) => [value] as const)
  }
}

const allowed: Record<keyof typeof make, Record<string, ReadonlyArray<readonly [value: unknown, others?: Options]>>> = {
  TokenBucket: {
    name: ["x", "x".repeat(512), "é".repeat(256), "{}", "a b\n", "🚦"].map((value) => [value] as const),
    capacity: [
      [1e-6, { refillAmount: 1e-6, tokensToConsume: 0 }],
      [4e9, { refillAmount: 4e9 }],
      [0.5, { refillAmount: 0.5, tokensToConsume: 0.5 }]
    ],
    refillAmount: [[1e-6], [5], [0, { refillFrequency: 0 }]],
    refillFrequency: [["1 millis"], [1], ["52 weeks"], [Duration.seconds(2)], [0, { refillAmount: 0 }]],
    refill: [["interval"], ["continuous"]],
    initialTokens: [[0], [5], [2.5]],
    tokensToConsume: [[0], [5], [1e-9]],
    maxSleep: [[0], ["Infinity"], [Duration.infinity], [1.5], ["1 minute"]],
    expiry: [[1], ["Infinity"], ["1 minute"]],
    windowStartTime: [[0], [86_400_000], [new Date(0)], ["1970-01-01T12:00:00Z"], [DateTime.makeUnsafe(5)]],
    whenAway: [["fail"], ["allow"], [{ local: 1 }], [{ local: 0.01 }]]
  },
  Semaphore: {
    name: [["x"]],
    capacity: [[1], [2 ** 31 - 1]],
    maxSleep: [[0], ["Infinity"], ["1 minute"]],
    expiry: [[100], ["100 millis"], ["Infinity"]],
    whenAway: [["fail"], ["allow"], [{ local: 1 }], [{ local: 0.01 }]]
  }
}

const kinds = ["TokenBucket", "Semaphore"] as const

const show = (value: unknown): string => {
  if (typeof value === "string")
    return value.length > 20 ? `${value.slice(0, 5)}… (${value.length})` : JSON.stringify(value)
  return typeof value === "object" && value !== null ? (Array.isArray(value) ? "[]" : String(value)) : String(value)
}

describe.each(kinds)("%s.make", (kind) => {
  for (const [field, values] of Object.entries(broken[kind])) {
    for (const [value, others = {}] of values) {
      it.effect(
        `refuses ${field} = ${show(value)}${Object.keys(others).length === 0 ? "" : ` with ${JSON.stringify(others)}`}`,
        () =>
          Effect.gen(function* () {
            yield* TestClock.setTime(86_400_000)
            const error = yield* Effect.flip(make[kind]({ name: "limiter", ...others, [field]: value }))
            assert.instanceOf(error, InvalidOptions)
            assert.strictEqual(error.field, field)
            assert.strictEqual(
              error.name,
              field === "name" && typeof value !== "string" ? "" : field === "name" ? value : "limiter"
            )
            assert.isNotEmpty(error.rule)
            assert.include(error.message, field)
            if (value === undefined || Number.isNaN(value)) return
            assert.strictEqual(error.value, value)
          }).pipe(Effect.provide(LocalLive))
      )
    }
  }

  for (const [field, values] of Object.entries(allowed[kind])) {
    for (const [value, others = {}] of values) {
      it.effect(`takes ${field} = ${show(value)}`, () =>
        Effect.gen(function* () {
          yield* TestClock.setTime(86_400_000)
          const limiter = yield* make[kind]({ name: "limiter", ...others, [field]: value })
          assert.isAbove((yield* limiter.state).capacity, 0)
        }).pipe(Effect.provide(LocalLive))
      )
    }
  }

  it.effect("refuses what is no object, and fields that it doesn't know", () =>
    Effect.gen(function* () {
      for (const options of [undefined, null, 5, "limiter", []]) {
        assert.strictEqual((yield* Effect.flip(make[kind](options))).field, "options")
      }
      const error = yield* Effect.flip(make[kind]({ name: "limiter", capcity: 3 }))
      assert.deepInclude(error, { field: "capcity", value: 3 })
      assert.include(error.rule, "capacity")
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("treats an undefined option as one that isn't there", () =>
    Effect.gen(function* () {
      const limiter = yield* make[kind]({ name: "limiter", capacity: undefined, maxSleep: undefined })
      assert.strictEqual((yield* limiter.state).capacity, 5)
    }).pipe(Effect.provide(LocalLive))
  )
})

describe("arguments", () => {
  /** As they are passed where no compiler checks anything. */
  const untyped = (...values: ReadonlyArray<unknown>) => values as ReadonlyArray<never>

  const refused = (effect: Effect.Effect<unknown, unknown>, field: string, value: unknown) =>
    Effect.map(Effect.flip(effect), (error) => {
      assert.instanceOf(error, InvalidOptions)
      assert.strictEqual(error.field, field)
      if (!Number.isNaN(value)) assert.strictEqual(error.value, value)
    })

  it.effect("of a token bucket follow its rules, and nothing is consumed when they don't", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "limiter" })
      for (const value of untyped(Number.NaN, -1, 5.1, Number.POSITIVE_INFINITY, "2", null)) {
        yield* refused(limiter.withPermits(value)(Effect.void), "permits", value)
        yield* refused(limiter.withPermitsIfAvailable(value)(Effect.void), "permits", value)
        yield* refused(Effect.scoped(limiter.acquire(value)), "permits", value)
        yield* refused(limiter.reserve(value), "permits", value)
      }
      for (const value of untyped(...notDurations)) {
        yield* refused(limiter.pause(value), "duration", value)
      }
      assert.strictEqual((yield* limiter.state).tokens, 5)
      const reservation = yield* limiter.reserve(2)
      for (const value of untyped(Number.NaN, -1, Number.POSITIVE_INFINITY, "2")) {
        yield* refused(reservation.settle(value), "actual", value)
      }
      yield* reservation.settle(1)
      assert.strictEqual((yield* limiter.state).tokens, 4)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a token bucket count for what they are written as, though no binary number is that", () =>
    Effect.gen(function* () {
      for (const capacity of [1.1, 0.57, 2.01, 8.2, 1e-6]) {
        const limiter = yield* TokenBucket.make({
          name: `${capacity}`,
          capacity,
          refillAmount: capacity,
          tokensToConsume: capacity
        })
        assert.strictEqual((yield* limiter.state).tokens, capacity)
        yield* limiter.withPermits(capacity)(Effect.void)
        assert.strictEqual((yield* limiter.state).tokens, 0)
      }
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a token bucket are rounded up to a millionth, so that nothing is free", () =>
    Effect.gen(function* () {
      const limiter = yield* TokenBucket.make({ name: "limiter" })
      yield* limiter.withPermits(1e-12)(Effect.void)
      assert.strictEqual((yield* limiter.state).tokens, 4.999999)
      yield* limiter.withPermits(1.0000004)(Effect.void)
      assert.strictEqual((yield* limiter.state).tokens, 3.999998)
      const capacity = 1.0000004
      const all = yield* TokenBucket.make({ name: "all", capacity, tokensToConsume: capacity })
      yield* all.withPermit(Effect.void)
      assert.strictEqual((yield* all.state).tokens, 0)
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of a semaphore follow its rules, and nothing is held when they don't", () =>
    Effect.gen(function* () {
      const limiter = yield* Semaphore.make({ name: "limiter" })
      for (const value of untyped(Number.NaN, -1, 0, 1.5, 6, 2 ** 31, "2", null)) {
        yield* refused(limiter.withPermits(value)(Effect.void), "permits", value)
        yield* refused(limiter.withPermitsIfAvailable(value)(Effect.void), "permits", value)
        yield* refused(Effect.scoped(limiter.acquire(value)), "permits", value)
      }
      for (const value of untyped(Number.NaN, -1, 0, 1.5, 2 ** 31, "2")) {
        yield* refused(limiter.resize(value), "capacity", value)
      }
      assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0, capacity: 5 })
    }).pipe(Effect.provide(LocalLive))
  )

  it.effect("of several limiters are told as they were passed, and nothing is taken when they are no numbers", () =>
    Effect.gen(function* () {
      const bucket = yield* TokenBucket.make({ name: "bucket" })
      const joint = Limiter.all([bucket, yield* Semaphore.make({ name: "semaphore" })])
      for (const value of [undefined, null, "2", [2], true, 2n, Symbol("2")] as ReadonlyArray<unknown>) {
        yield* refused(joint.withPermits(value as never)(Effect.void), "permits", value)
        yield* refused(joint.withPermitsIfAvailable(value as never)(Effect.void), "permits", value)
        if (value !== undefined) yield* refused(Effect.scoped(joint.acquire(value as never)), "permits", value)
      }
      assert.strictEqual((yield* bucket.state).tokens, 5)
    }).pipe(Effect.provide(LocalLive))
  )
})

describe("options of what is used with limiters", () => {
  const limiter = Effect.runSync(TokenBucket.make({ name: "limiter" }).pipe(Effect.provide(LocalLive)))

  const thrownBy = (use: () => unknown): unknown => {
    try {
      return use()
    } catch (error) {
      return error
    }
  }

  const uses: Record<string, (options: never) => unknown> = {
    "Observation.layer": (options) =>
      Effect.runSync(Effect.flip(Effect.provide(Effect.void, Observation.layer(options)))),
    retryAfter: (options) => retryAfter(options),
    limitRequests: (options) => limitRequests(limiter, options),
    rateLimit: (options) => rateLimit(limiter, options),
    throttle: (options) => throttle(Stream.empty, limiter, options),
    mapWithPermit: (options) => mapWithPermit(Stream.empty, limiter, Effect.succeed, options),
    "Limiter.all": (options: Options) => Limiter.all([{ limiter, ...options } as never])
  }

  const notSwitches = [0, 1, "", "no", null, {}]
  const notFunctions = [0, "host", null, {}]

  const rules: Record<keyof typeof uses, Record<string, ReadonlyArray<unknown>>> = {
    "Observation.layer": {
      byKey: notSwitches,
      lookEvery: [...notDurations, 0, "999 micros"],
      spans: notSwitches,
      logs: notSwitches,
      lookevery: ["1 second"]
    },
    retryAfter: { times: [Number.NaN, -1, "3", null], jitter: [...notNumbers, -1], attempts: [3] },
    limitRequests: { key: notFunctions, cost: notFunctions, maxPause: notDurations, costs: [() => 1] },
    rateLimit: {
      key: notFunctions,
      cost: notFunctions,
      wait: notSwitches,
      failOpen: notSwitches,
      retryAfter: notDurations,
      failopen: [true]
    },
    throttle: { cost: notFunctions, costs: [() => 1] },
    mapWithPermit: {
      concurrency: [Number.NaN, 0, -1, "3", null],
      unordered: notSwitches,
      cost: notFunctions,
      concurency: [3]
    },
    "Limiter.all": { permits: ["3", null, {}, true], wait: notSwitches, permit: [3] }
  }

  for (const [what, fields] of Object.entries(rules)) {
    for (const [field, values] of Object.entries(fields)) {
      it(`of ${what} break the rule of ${field}`, () => {
        for (const value of values) {
          const error = thrownBy(() => uses[what]?.({ [field]: value } as never))
          assert.instanceOf(error, InvalidOptions, String(value))
          assert.deepInclude({ ...(error as InvalidOptions) }, { field, value })
        }
      })
    }
  }

  it("may be left out, or undefined", () => {
    const nothing = { key: undefined, cost: undefined, maxPause: undefined }
    limitRequests(limiter, nothing)
    rateLimit(limiter, { key: undefined, wait: undefined, failOpen: undefined, retryAfter: undefined })
    retryAfter({ times: undefined, jitter: undefined })
    retryAfter({ times: Number.POSITIVE_INFINITY })
    Limiter.all([{ limiter, permits: undefined, wait: undefined }])
    Effect.runSync(Effect.provide(Effect.void, Observation.layer({ byKey: undefined, lookEvery: "Infinity" })))
  })

  const semaphore = Effect.runSync(Semaphore.make({ name: "semaphore" }).pipe(Effect.provide(LocalLive)))
  const keyed = Effect.runSync(TokenBucket.makeKeyed({ name: "keyed" }).pipe(Effect.provide(LocalLive)))
  const joint = Limiter.all([limiter, semaphore])

  const breaks = (use: () => unknown, field: string, value: unknown) => {
    const error = thrownBy(use)
    assert.instanceOf(error, InvalidOptions, String(value))
    assert.deepInclude({ ...(error as InvalidOptions) }, { field, value })
  }

  it("come with a limiter that suits them", () => {
    const noLimiters = [undefined, null, 5, "limiter", [limiter], {}, { name: "limiter" }]
    for (const none of [...noLimiters, semaphore, joint, keyed]) {
      breaks(() => throttle(Stream.empty, none as never), "limiter", none)
    }
    for (const none of [...noLimiters, keyed]) {
      breaks(() => mapWithPermit(Stream.empty, none as never, Effect.succeed), "limiter", none)
    }
    for (const none of noLimiters) breaks(() => limitRequests(none as never), "limiter", none)
    for (const none of [...noLimiters, joint]) breaks(() => rateLimit(none as never), "limiter", none)
    breaks(() => limitRequests(limiter, null as never), "options", null)
  })

  it("come with a function where one is to be called", () => {
    for (const none of [undefined, null, "f", {}, Effect.void]) {
      breaks(() => mapWithPermit(Stream.empty, limiter, none as never), "f", none)
      for (const one of [limiter, semaphore, joint]) breaks(() => one.wrap(none as never), "f", none)
      breaks(() => keyed.wrap(none as never, String), "f", none)
      breaks(() => keyed.wrap(Effect.succeed, none as never), "key", none)
    }
  })

  it("of Limiter.all are told if they are no limiters", () => {
    for (const members of [
      undefined,
      limiter,
      [null],
      ["limiter"],
      [{ limiter: undefined }],
      [Limiter.all([limiter])]
    ]) {
      const error = thrownBy(() => Limiter.all(members as never))
      assert.instanceOf(error, InvalidOptions)
      assert.strictEqual((error as InvalidOptions).field, "limiters")
    }
  })
})
