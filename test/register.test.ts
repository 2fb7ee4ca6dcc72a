import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import { Register } from "../src/internal/register.ts"

setFlagsFromString("--expose-gc")
const collect: (options: { readonly type: "major" | "minor" }) => void = runInNewContext("gc")

/** Where objects are that are taken for long-lived: a short collection does not look for garbage there. */
const oldSpace = (): number =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space")?.space_used_size ?? 0

/** In bytes: what outlives short collections of entries that come and go, a few of them there at any time. */
const outliving = (entries: Pick<Register<Array<number>>, "set" | "delete">): number => {
  const turnOver = (from: number, to: number) => {
    for (let i = from; i < to; i++) {
      entries.set(
        String(i),
        Array.from({ length: 100 }, () => i)
      )
      entries.delete(String(i - 8))
    }
  }
  turnOver(0, 1000)
  // What is there now is old from here on.
  collect({ type: "major" })
  const before = oldSpace()
  for (let i = 1000; i < 21_000; i += 500) {
    turnOver(i, i + 500)
    collect({ type: "minor" })
  }
  return oldSpace() - before
}

describe("a register", () => {
  it("is a map that knows its entries in the order in which they came", () => {
    const register = new Register<number>()
    for (let i = 0; i < 10_000; i++) {
      register.set(`${i}`, i)
      assert.strictEqual(register.delete(`${i - 3}`), i >= 3)
      assert.isFalse(register.delete(`${i - 3}`))
      assert.strictEqual(register.size, Math.min(3, i + 1))
    }
    assert.deepStrictEqual(Array.from(register.values()), [9997, 9998, 9999])
    assert.strictEqual(register.get("9998"), 9998)
    assert.isUndefined(register.get("9996"))
  })

  it("lets go of what has left it, which a map does not", () => {
    const all = 20_000 * 800
    assert.isAbove(outliving(new Map<string, Array<number>>()), all / 2)
    assert.isBelow(outliving(new Register()), all / 10)
  })
})
