import { assert, describe, it } from "@effect/vitest"
import { sorted } from "../src/cli/order.ts"
import { type Row, rowOf, unreadableRow } from "../src/cli/overview.ts"
import { RateHistory } from "../src/cli/rateHistory.ts"
import { overviewLines } from "../src/cli/render/overviewLines.ts"
import { amount, counted, duration, fitted, perSecond, printable } from "../src/cli/render/quantities.ts"
import { sparkLine } from "../src/cli/render/sparkLine.ts"
import { tableLines } from "../src/cli/render/table.ts"
import { columnsOf, plain, toText, width } from "../src/cli/render/text.ts"
import type { BucketReport, SemaphoreReport } from "../src/cli/report.ts"

const bucket: BucketReport = {
  kind: "token-bucket",
  name: "mail",
  tag: null,
  capacity: 10,
  tokens: 2.5,
  owed: 0,
  waitMs: 0,
  nextRefillMs: 340,
  taken: 100,
  options: { refillAmount: 1, refillFrequencyMs: 1000, initialTokens: 10, expiryMs: 60_000, windowStartTime: null }
}

const semaphore: SemaphoreReport = {
  kind: "semaphore",
  name: "database",
  tag: null,
  capacity: 3,
  resized: false,
  ownCapacities: [3],
  inUse: 3,
  waiting: 2,
  holders: [],
  waiters: []
}

const holding = (...fencingTokens: ReadonlyArray<number>): SemaphoreReport => ({
  ...semaphore,
  holders: fencingTokens.map((fencingToken) => ({
    id: `1.3.a.${fencingToken}`,
    permits: 1,
    fencingToken,
    heldMs: 0,
    leaseLeftMs: 0
  }))
})

describe("quantities", () => {
  it("are told in the unit that suits them", () => {
    const durations = [0, 3.2, 340, 999.6, 1040, 2000, 12_340, 59_960, 125_000, 3_599_700, 10_800_000, 266_400_000]
    assert.deepStrictEqual(durations.map(duration), [
      ...["0 ms", "3 ms", "340 ms", "1.00 s", "1.04 s", "2 s", "12.3 s"],
      ...["1 min", "2 min 5 s", "1 h", "3 h", "3 d 2 h"]
    ])
    assert.deepStrictEqual([5, 0.25, 0.9999, 1_234_567, 0.3].map(amount), ["5", "0.25", "0.999", "1234567", "0.3"])
    assert.deepStrictEqual([0, 0.024, 0.5, 12.34, 1320.4].map(perSecond), [
      ...["0", "0.02 /s", "0.5 /s", "12.3 /s", "1320 /s"]
    ])
    assert.deepStrictEqual(
      [0, 1, 2].map((count) => counted(count, "waiter")),
      ["0 waiters", "1 waiter", "2 waiters"]
    )
  })

  it("show what would not be seen, or would do more than be seen", () => {
    assert.strictEqual(printable("user/ü 📊"), "user/ü 📊")
    assert.strictEqual(
      printable("a\u001B[2J\u0007\u009B\u202E\uD800"),
      String.raw`a\u{1b}[2J\u{7}\u{9b}\u{202e}\u{d800}`
    )
  })

  it("take exactly the columns that they are given, also where characters are wide", () => {
    for (const text of ["", "name", "漢字漢字漢字", "📊📊📊📊", "é\u0301é\u0301", "a longer name"]) {
      for (const columns of [1, 4, 5, 9, 20]) assert.strictEqual(columnsOf(fitted(text, columns)), columns, text)
    }
    assert.deepStrictEqual([fitted("abcdef", 4), fitted("ab", 4, "right")], ["abc…", "  ab"])
  })
})

describe("a spark line", () => {
  it("is as wide as it was asked to be, the latest at the right, the highest at full height", () => {
    assert.strictEqual(sparkLine([1, 2, 4, 8, 0], 7), "  ▁▂▄█ ")
    assert.strictEqual(sparkLine([8, 1, 2, 3], 3), "▃▆█")
    assert.strictEqual(sparkLine([0, 0], 3), "   ")
    assert.strictEqual(sparkLine([], 0), "")
  })
})

describe("a table", () => {
  it("has columns as wide as what they hold", () => {
    const lines = tableLines<{ readonly name: string; readonly count: number }>(
      [
        { head: "name", most: 6, cell: ({ name }) => plain(name) },
        { head: "n", align: "right", cell: ({ count }) => plain(String(count)) }
      ],
      [
        { name: "a", count: 1 },
        { name: "a long name", count: 1000 }
      ]
    )
    assert.deepStrictEqual(
      lines.map((line) => toText(line, false)),
      ["name       n", "a          1", "a lon…  1000"]
    )
  })
})

describe("a rate", () => {
  it("is unknown after one look", () => {
    const history = new RateHistory()
    history.observe(0, bucket)
    assert.deepStrictEqual([history.rate, history.rates], [null, []])
  })

  it("is what was taken from a bucket over the last five seconds", () => {
    const history = new RateHistory()
    for (let second = 0; second <= 10; second++) {
      history.observe(second, { ...bucket, taken: second <= 5 ? 100 * second : 500 + 2 * (second - 5) })
    }
    assert.strictEqual(history.rate, 2)
    assert.deepStrictEqual(history.rates, [100, 100, 100, 100, 100, 2, 2, 2, 2, 2])
  })

  it("is zero, and never below, when tokens are given back or the bucket is reset", () => {
    const history = new RateHistory()
    history.observe(0, bucket)
    history.observe(1, { ...bucket, taken: 0 })
    assert.strictEqual(history.rate, 0)
    history.observe(2, { ...bucket, taken: 4 })
    assert.strictEqual(history.rate, 2)
  })

  it("counts each grant of a semaphore once", () => {
    const history = new RateHistory()
    history.observe(0, holding(10, 11))
    history.observe(1, holding(11, 12, 13))
    history.observe(2, holding())
    history.observe(3, holding(13))
    history.observe(4, holding(14))
    assert.deepStrictEqual(history.rates, [2, 0, 0, 1])
    assert.strictEqual(history.rate, 0.75)
  })
})

describe("the table of limiters", () => {
  const rows: ReadonlyArray<Row> = [
    rowOf(semaphore, 1.5),
    rowOf(bucket, 20),
    rowOf({ ...bucket, name: "paid 📊", tokens: 0, owed: 3, waitMs: 4000 }, null),
    unreadableRow({ kind: "semaphore", name: "taken", tag: null }, "something else lives there")
  ]
  const shown = (columns: number) =>
    overviewLines(rows, { columns, ratesOf: () => [1, 2, 3] }).map((line) => toText(line, false).trimEnd())

  it("shows of each kind what it has", () => {
    assert.deepStrictEqual(shown(90), [
      "name      kind       capacity  in use  waiting  tokens  next refill      rate  rate over t",
      "database  semaphore         3       3        2       –            –  ≥ 1.5 /s          ▃▆█",
      "mail      bucket           10       –        –     2.5       340 ms     20 /s          ▃▆█",
      "paid 📊   bucket           10       –      4 s      -3       340 ms         –          ▃▆█",
      "taken     something else lives there"
    ])
  })

  it("fits every terminal, and leaves the name and what is in use for last", () => {
    for (let columns = 1; columns <= 120; columns++) {
      for (const line of overviewLines(rows, { columns, ratesOf: () => [1] })) {
        assert.isAtMost(width(line), columns)
      }
    }
    const [heads = "", first = ""] = shown(30)
    assert.match(heads, /^name +in use +tokens$/)
    assert.match(first, /^database +3 +–$/)
  })

  it("is in the order that is asked for", () => {
    const names = (order: "name" | "waiting" | "rate") => sorted(rows, order).map(({ name }) => name)
    assert.deepStrictEqual(names("name"), ["database", "mail", "paid 📊", "taken"])
    assert.deepStrictEqual(names("waiting"), ["paid 📊", "database", "mail", "taken"])
    assert.deepStrictEqual(names("rate"), ["mail", "database", "paid 📊", "taken"])
  })
})
