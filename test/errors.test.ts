import { inspect } from "node:util"
import { Duration, Redacted } from "effect"
import { BackendError, InvalidOptions, MaxSleepExceeded, NoTokensAvailable, PermitLost } from "steindamm"
import { assert, describe, it } from "vitest"

const cause = new TypeError("the reason behind it")

const errors = [
  new BackendError({ operation: "acquire", name: "github", reason: "Unreachable", cause }),
  new InvalidOptions({ name: "github", field: "capacity", value: "5", rule: "a number" }),
  new MaxSleepExceeded({
    name: "github",
    kind: "TokenBucket",
    maxSleep: Duration.millis(100),
    requiredSleep: Duration.nanos(1_500_100_000n)
  }),
  new NoTokensAvailable({ name: "github", available: 1, requested: 2 }),
  new PermitLost({ name: "github", permitId: "1", fencingToken: 7 })
]

describe("an error that is printed", () => {
  for (const error of errors) {
    it(`shows class, message, stack and fields of ${error._tag}`, () => {
      const printed = inspect(error)
      assert.isTrue(printed.startsWith(`${error._tag}: ${error.message}\n    at `), printed)
      assert.match(printed, /errors\.test\.ts/)
      const { _tag, name, ...fields } = error
      for (const field of Object.keys(fields)) assert.include(printed, `${field}:`)
    })
  }

  it("shows what caused it", () => {
    assert.include(inspect(errors[0]), "TypeError: the reason behind it")
  })
})

describe("the message of InvalidOptions", () => {
  const messageOf = (value: unknown) =>
    new InvalidOptions({ name: "api", field: "capacity", value, rule: "a number" }).message

  it("shows values that are short", () => {
    assert.strictEqual(messageOf("5"), `Invalid capacity for "api": "5" (must be a number)`)
    const unnamed = new InvalidOptions({ name: "", field: "name", value: undefined, rule: "a string" })
    assert.strictEqual(unnamed.message, "Invalid name: undefined (must be a string)")
    assert.include(messageOf(Number.NaN), ": NaN (")
    assert.include(messageOf(Duration.seconds(5)), ": 5s (")
    assert.include(messageOf(Symbol("five")), ": Symbol(five) (")
    assert.match(messageOf(new Date("2050-06-01T12:00:00Z")), /: \w+ Jun 01 2050/)
  })

  it("doesn't repeat what is long, and may be a stranger's or a secret", () => {
    const long = "x".repeat(10_000)
    const { message } = new InvalidOptions({ name: long, field: "key", value: long, rule: "short" })
    assert.isBelow(message.length, 300)
    assert.include(message, `"${"x".repeat(100)}…"`)
    assert.include(
      messageOf(() => "secret"),
      ": [object Function] ("
    )
    assert.include(messageOf({ password: "secret" }), ": [object Object] (")
    assert.include(messageOf(Redacted.make("secret")), ": <redacted> (")
  })
})

describe("the message of MaxSleepExceeded", () => {
  it("tells waits to the millisecond, rounded up", () => {
    assert.include(errors[2]?.message, "sleep 1s 501ms, and maxSleep is 100ms")
  })

  it("advises nobody to raise maxSleep where it doesn't count, for work may not wait at all", () => {
    const refused = { name: "api", maxSleep: Duration.zero }
    const bucket = new MaxSleepExceeded({ ...refused, kind: "TokenBucket", requiredSleep: Duration.seconds(1) })
    assert.include(bucket.message, "would have to sleep 1s, and may not")
    const semaphore = new MaxSleepExceeded({ ...refused, kind: "Semaphore" })
    assert.include(semaphore.message, "none may be waited for")
    for (const { message } of [bucket, semaphore]) assert.notInclude(message, "raise maxSleep")
  })
})
