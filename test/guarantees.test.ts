import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8")

describe("docs/guarantees.md", () => {
  const rows = read("docs/guarantees.md")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| ---"))
  const cells = rows.map((row) => row.split(" | ").at(-1) ?? "")

  it("names tests that exist", () => {
    const named = cells.flatMap((cell) =>
      cell.split("<br>").flatMap((source) => {
        const [, file = "", names = ""] = /^`(test\/[\w/.]+)`: (.*?)(?: \|)?$/.exec(source) ?? []
        return Array.from(names.matchAll(/\*(.+?)\*/g), ([, name = ""]) => [file, name] as const)
      })
    )
    assert.isAbove(named.length, 40)
    for (const [file, name] of named) assert.include(read(file), `"${name}"`, file)
  })

  it("has one for every promise", () => {
    const without = rows.filter((_, index) => !/^`test\/|^shown by/.test(cells[index] ?? ""))
    assert.deepStrictEqual(without, [])
  })
})
