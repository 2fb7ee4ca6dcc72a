import { assert, describe, it } from "vitest"
import { examine, fairness, type Line } from "./support/history.ts"

const began = (t: number, pid: number, fencingToken: number, { asked = t, permits = 1 } = {}): Line => ({
  event: "in",
  t,
  pid,
  id: `${pid}.${fencingToken}`,
  worker: 0,
  permits,
  fencingToken,
  asked
})

const ended = (t: number, pid: number, fencingToken: number): Line => ({
  event: "out",
  t,
  pid,
  id: `${pid}.${fencingToken}`
})

describe("the examination of a history", () => {
  it("counts the permits whose sections run at the same time, and for how long they are too many", () => {
    const lines = [began(0, 1, 1), began(2000, 2, 2, { permits: 2 }), ended(5000, 1, 1), ended(9000, 2, 2)]
    const { peak, longestOverlap } = examine(lines, 2)
    assert.deepStrictEqual({ peak, longestOverlap }, { peak: 3, longestOverlap: 3 })
  })

  it("sees no overlap where one section ends in the microsecond in which the next begins", () => {
    const { peak } = examine([began(0, 1, 1), ended(1000, 1, 1), began(1000, 2, 2), ended(2000, 2, 2)], 1)
    assert.strictEqual(peak, 1)
  })

  it("sees a section of a stopped process run only until it is stopped, and from when it goes on", () => {
    const lines: ReadonlyArray<Line> = [
      began(0, 1, 1),
      { event: "stopped", t: 1000, pid: 1 },
      began(3000, 2, 2),
      { event: "continued", t: 5000, pid: 1 },
      ended(7000, 1, 1),
      ended(9000, 2, 2)
    ]
    const { peak, longestOverlap } = examine(lines, 1)
    assert.deepStrictEqual({ peak, longestOverlap }, { peak: 2, longestOverlap: 2 })
  })

  it("ends the sections of a process when it is killed", () => {
    const lines: ReadonlyArray<Line> = [began(0, 1, 1), { event: "killed", t: 1000, pid: 1 }, began(1000, 2, 2)]
    const { peak, unended } = examine(lines, 1)
    assert.deepStrictEqual({ peak, unended }, { peak: 1, unended: 1 })
  })

  it("finds fencing tokens that come twice, and such as fall", () => {
    const again = examine([began(0, 1, 7), ended(1, 1, 7), began(2, 2, 7), ended(3, 2, 7)], 1)
    assert.deepStrictEqual([again.repeatedTokens, again.tokensOutOfOrder], [1, 1])
    const fallen = examine([began(0, 1, 7), ended(1, 1, 7), began(2, 2, 6), ended(3, 2, 6)], 1)
    assert.deepStrictEqual([fallen.repeatedTokens, fallen.tokensOutOfOrder], [0, 1])
    const crossed = examine([began(5, 1, 7, { asked: 0 }), began(6, 2, 6, { asked: 1 })], 2)
    assert.strictEqual(crossed.tokensOutOfOrder, 0)
  })

  it("finds the longest time without an admission", () => {
    const { longestStall } = examine([began(0, 1, 1), began(3000, 2, 2), began(10_000, 3, 3)], 3)
    assert.strictEqual(longestStall, 7)
  })
})

describe("fairness", () => {
  it("is 1 if all have the same, and 1 / n if one has all", () => {
    assert.strictEqual(fairness([5, 5, 5, 5]), 1)
    assert.strictEqual(fairness([8, 0, 0, 0]), 0.25)
  })
})
