import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import { Headers } from "effect/http"
import { formatQuotaPolicy, formatServiceLimit, retryDelay } from "../src/internal/rateLimitFields.ts"

const now = Date.UTC(2026, 0, 1, 12)

/** Seconds that a response with these fields asks for; undefined if it asks for none. */
const delay = (fields: Record<string, string>): number | undefined => {
  const duration = retryDelay(Headers.fromInput(fields), now)
  return duration === undefined ? undefined : Duration.toSeconds(duration)
}

describe("a response that refuses", () => {
  it("tells by Retry-After in how many seconds to come back, or when", () => {
    assert.strictEqual(delay({ "retry-after": "120" }), 120)
    assert.strictEqual(delay({ "retry-after": "0" }), 0)
    assert.strictEqual(delay({ "retry-after": "Thu, 01 Jan 2026 12:00:30 GMT" }), 30)
    assert.strictEqual(delay({ "retry-after": "Thu, 01 Jan 2026 11:00:00 GMT" }), 0)
  })

  it("tells when to come back by its own clock, if it shows it", () => {
    const fields = { "retry-after": "Thu, 01 Jan 2026 14:00:30 GMT", date: "Thu, 01 Jan 2026 14:00:00 GMT" }
    assert.strictEqual(delay(fields), 30)
    assert.strictEqual(delay({ ...fields, date: "yesterday" }), 7230)
    const reset = String(now / 1000 + 7230)
    assert.strictEqual(delay({ "x-ratelimit-reset": reset, date: fields.date }), 30)
  })

  it("tells by RateLimit when there is more of what is used up", () => {
    assert.strictEqual(delay({ ratelimit: '"default";r=0;t=30' }), 30)
    assert.strictEqual(delay({ ratelimit: '"burst";r=0;t=2, "day";r=0;t=3600;pk=:cHsdsRa894==:' }), 3600)
    assert.strictEqual(delay({ ratelimit: '"burst";r=0;t=2,"day";r=17;t=3600' }), 2)
    assert.strictEqual(delay({ ratelimit: ' "a \\"b\\" \\\\c" ; t=5 ; r=0 ; acme-note="x;r=7, y" ; flag ' }), 5)
    assert.strictEqual(delay({ ratelimit: "default;r=0;t=30" }), 30)
  })

  it("tells nothing by a RateLimit field that is malformed, or in which nothing is used up", () => {
    for (const ratelimit of [
      '"default";r=3;t=30',
      '"default";r=0',
      '"default";t=30',
      '"default";r=0;t=-1',
      '"default";r=0;t=1.5',
      '"default;r=0;t=30',
      '"default";r=0;t=30 "other"',
      '"default";r=0;t=30;',
      '"a";r=0;t=5, é;r=0;t=9',
      "limit=100, remaining=0, reset=30",
      "",
      ",",
      '"'
    ]) {
      assert.isUndefined(delay({ ratelimit }), ratelimit)
    }
  })

  it("tells by the fields of before how many seconds are left, or when the quota is reset", () => {
    assert.strictEqual(delay({ "ratelimit-remaining": "0", "ratelimit-reset": "17" }), 17)
    assert.strictEqual(delay({ "ratelimit-reset": "17" }), 17)
    assert.strictEqual(delay({ "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(now / 1000 + 90) }), 90)
    assert.strictEqual(delay({ "x-ratelimit-reset": String(now + 1500) }), 1.5)
    assert.strictEqual(delay({ "x-ratelimit-reset": String(now / 1000 - 90) }), 0)
    assert.isUndefined(delay({ "ratelimit-remaining": "5", "ratelimit-reset": "17" }))
    assert.isUndefined(delay({ "ratelimit-reset": "soon" }))
    assert.isUndefined(delay({ "x-ratelimit-remaining": "0" }))
  })

  it("is believed by Retry-After before all others", () => {
    const others = { ratelimit: '"default";r=0;t=30', "ratelimit-reset": "40" }
    assert.strictEqual(delay({ "retry-after": "5", ...others }), 5)
    assert.strictEqual(delay({ "retry-after": "-5", ...others }), 30)
    assert.strictEqual(delay(others), 30)
    assert.isUndefined(delay({}))
  })

  it("takes no time to read, whatever it holds", () => {
    const begun = performance.now()
    for (const one of ['"', "\\", ";", ",", " ", '"a";', '"a";b="', "*", "a=", "0"]) {
      delay({ ratelimit: one.repeat(20_000), "retry-after": one.repeat(20_000), "ratelimit-reset": one.repeat(20_000) })
    }
    assert.isBelow(performance.now() - begun, 1000)
  })
})

describe("an answer", () => {
  it("tells a limit as an item of a structured field", () => {
    assert.strictEqual(
      formatServiceLimit({ policy: "search", remaining: 3, reset: Duration.millis(1001) }),
      '"search";r=3;t=2'
    )
    assert.strictEqual(formatServiceLimit({ policy: "search", remaining: 0 }), '"search";r=0')
    assert.strictEqual(
      formatQuotaPolicy({ policy: "search", quota: 100, window: Duration.minutes(1) }),
      '"search";q=100;w=60'
    )
    assert.strictEqual(
      formatQuotaPolicy({ policy: "tiny", quota: 1, window: Duration.millis(5), unit: "concurrent-requests" }),
      '"tiny";q=1;qu="concurrent-requests";w=1'
    )
  })

  it("tells any name in ASCII, so that it can be read again", () => {
    assert.strictEqual(formatServiceLimit({ policy: 'a "b" \\c', remaining: 1 }), '"a \\"b\\" \\\\c";r=1')
    assert.strictEqual(formatServiceLimit({ policy: "grün\n\ud800", remaining: 1 }), '"gr%C3%BCn%0A%EF%BF%BD";r=1')
    for (const policy of ['a "b" \\c', "grün", ", ;=", "\t"]) {
      const ratelimit = formatServiceLimit({ policy, remaining: 0, reset: Duration.seconds(7) })
      assert.strictEqual(delay({ ratelimit }), 7)
    }
  })
})
