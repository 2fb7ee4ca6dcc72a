import { createSemaphore, createTokenBucket, InvalidOptions } from "steindamm/promise"
import { assert, describe, it } from "vitest"
import { rejection } from "./support/promises.ts"

// As they look to a caller without a compiler.
const make: Record<string, (options?: unknown) => unknown> = {
  createTokenBucket: createTokenBucket as never,
  createSemaphore: createSemaphore as never
}

// biome-ignore lint/suspicious/noExplicitAny: these calls are what a compiler would refuse
const bucket: any = createTokenBucket({ name: "arguments", capacity: 3 })
// biome-ignore lint/suspicious/noExplicitAny: as above
const semaphore: any = createSemaphore({ name: "arguments", capacity: 3 })

const names = (error: unknown, field: string): InvalidOptions => {
  assert.instanceOf(error, InvalidOptions)
  assert.strictEqual(error.field, field)
  assert.include(error.message, field)
  assert.include(error.message, error.rule)
  assert.match(error.stack?.split("\n").slice(1).join("\n") ?? "", /promiseArguments\.test\.ts/)
  return error
}

const thrown = (f: () => unknown): unknown => {
  try {
    f()
  } catch (error) {
    return error
  }
  return assert.fail("nothing was thrown")
}

describe("callers whose compiler checked nothing", () => {
  for (const [verb, create] of Object.entries(make)) {
    for (const [field, options] of [
      ["options", undefined],
      ["options", null],
      ["options", "github"],
      ["name", {}],
      ["name", { name: "" }],
      ["capacity", { name: "github", capacity: "5" }],
      ["capacity", { name: "github", capacity: 0 }],
      ["maxSleep", { name: "github", maxSleep: "soon" }],
      ["expiry", { name: "github", expiry: -1 }],
      ["capasity", { name: "github", capasity: 5 }],
      ["redis", { name: "github", redis: null }],
      ["redis", { name: "github", redis: 6379 }],
      ["redis", { name: "github", redis: {} }],
      ["redis", { name: "github", redis: "localhost:6379" }],
      ["redis", { name: "github", redis: "" }],
      ["redis", { name: "github", redis: "redis://localhost/staging" }],
      ["redis", { name: "github", redis: "redis://user:secret@host:port" }],
      ["redis", { name: "github", redis: "redis://:secret%@host" }],
      ["keyPrefix", { name: "github", keyPrefix: "{all}" }],
      ["keyPrefix", { name: "github", keyPrefix: 1, redis: "redis://localhost" }],
      ["observe", { name: "github", observe: "yes" }]
    ] as const) {
      it(`are told at once what is wrong with ${field} in ${verb}(${JSON.stringify(options)})`, () => {
        const error = names(
          thrown(() => create(options)),
          field
        )
        assert.notInclude(error.message, "secret")
        assert.match(error.stack?.split("\n")[1] ?? "", /promiseArguments\.test\.ts/)
      })
    }
  }

  for (const [label, limiter] of [
    ["a token bucket", bucket],
    ["a semaphore", semaphore]
  ] as const) {
    const work = () => assert.fail("ran")
    const calls: ReadonlyArray<readonly [field: string, call: string, f: () => unknown]> = [
      ["callback", "withPermit()", () => limiter.withPermit()],
      ["callback", "withPermit({})", () => limiter.withPermit({})],
      ["callback", "withPermit(promise)", () => limiter.withPermit(Promise.resolve())],
      ["options", "withPermit(work, null)", () => limiter.withPermit(work, null)],
      ["options", "withPermit(work, [2])", () => limiter.withPermit(work, [2])],
      ["options", "acquire([])", () => limiter.acquire([])],
      ["options", 'withPermit(work, "2")', () => limiter.withPermit(work, "2")],
      ["permits", 'withPermit(work, { permits: "2" })', () => limiter.withPermit(work, { permits: "2" })],
      ["permits", "withPermit(work, { permits: 4 })", () => limiter.withPermit(work, { permits: 4 })],
      ["permits", "withPermit(work, NaN)", () => limiter.withPermit(work, Number.NaN)],
      ["permit", "withPermit(work, { permit: 2 })", () => limiter.withPermit(work, { permit: 2 })],
      ["signal", "withPermit(work, { signal: {} })", () => limiter.withPermit(work, { signal: {} })],
      ["signal", "acquire({ signal: controller })", () => limiter.acquire({ signal: new AbortController() })],
      ["signal", "acquire({ signal: null })", () => limiter.acquire({ signal: null })],
      ["permits", "acquire(-1)", () => limiter.acquire(-1)],
      ["permits", "tryAcquire(4)", () => limiter.tryAcquire(4)],
      ["timeout", 'close({ timeout: "soon" })', () => limiter.close({ timeout: "soon" })],
      ["after", "close({ after: 1 })", () => limiter.close({ after: 1 })]
    ]
    for (const [field, call, f] of calls) {
      it(`are told what is wrong with ${field} in ${call} of ${label}`, async () => {
        names(await rejection(f() as Promise<unknown>), field)
      })
    }

    it(`are told at once what is wrong with a key or a function of ${label}`, () => {
      names(
        thrown(() => limiter.forKey(5)),
        "key"
      )
      names(
        thrown(() => limiter.forKey()),
        "key"
      )
      names(
        thrown(() => limiter.wrap("f")),
        "f"
      )
    })
  }

  it("are told what is wrong with the arguments that only a token bucket has", async () => {
    names(
      thrown(() => make["createTokenBucket"]?.({ name: "github", whenAway: "wait" })),
      "whenAway"
    )
    names(await rejection(bucket.reserve({ tokens: 1 })), "tokens")
    names(await rejection(bucket.state("1")), "permits")
    names(await rejection(bucket.pause()), "duration")
    const permit = await bucket.acquire()
    names(await rejection(permit.settle("1")), "actual")
    const reservation = await bucket.reserve()
    names(await rejection(reservation.wait({ signal: 1 })), "signal")
    names(await rejection(reservation.wait("1 second")), "options")
    await bucket.reset()
  })

  it("are told what is wrong with the arguments that only a semaphore has", async () => {
    names(await rejection(semaphore.resize()), "capacity")
    names(await rejection(semaphore.resize("3")), "capacity")
    names(await rejection(semaphore.resize(0.5)), "capacity")
  })

  it("have changed nothing", async () => {
    assert.strictEqual((await bucket.state()).tokens, 3)
    const { held, waiting, capacity } = await semaphore.state()
    assert.deepStrictEqual({ held, waiting, capacity }, { held: 0, waiting: 0, capacity: 3 })
  })
})
