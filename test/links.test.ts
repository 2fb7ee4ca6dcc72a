/**
 * Whoever follows a link of a document arrives.
 */
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "vitest"
import { allLinks, anchorsOf, faultOf, linksOf } from "./support/links.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

describe("links", () => {
  it("lead to files and headings that exist", () => {
    const links = allLinks(root)
    assert.isAbove(links.length, 0)
    assert.deepStrictEqual(
      links.flatMap((link) => faultOf(root, link) ?? []),
      []
    )
  })

  it("are found wherever Markdown allows for them, and not in code", () => {
    const document = [
      "See [one](one.md) and ![two](<two.svg>), not `[three](three.md)`.",
      "```md",
      "[four](four.md)",
      "```",
      '<img src="five.svg"> and [six](https://example.com/six.md)',
      "[seven]: seven.md#heading"
    ]
    assert.deepStrictEqual(
      linksOf("guide.md", document.join("\n")).map(({ label, target }) => `${label} ${target}`),
      ["guide.md:1 one.md", "guide.md:1 two.svg", "guide.md:5 five.svg", "guide.md:6 seven.md#heading"]
    )
  })

  it("that lead nowhere are told", () => {
    const fault = (target: string) => faultOf(root, { label: "docs/guarantees.md:1", target })
    assert.isUndefined(fault("../README.md#license"))
    assert.isUndefined(fault("#semaphore"))
    assert.strictEqual(fault("nowhere.md"), "docs/guarantees.md:1: there is no docs/nowhere.md")
    assert.strictEqual(fault("#nowhere"), 'docs/guarantees.md:1: docs/guarantees.md has no heading "nowhere"')
    assert.strictEqual(fault("../../README.md"), "docs/guarantees.md:1: ../../README.md is outside of the project")
    assert.strictEqual(fault("/README.md"), "docs/guarantees.md:1: /README.md is not relative")
  })

  it("find headings by the names that GitHub gives them", () => {
    const document =
      "# What `state` shows, and when\n\n```sh\n# no heading\n```\n## Redis & Cluster\n## Redis & Cluster\n"
    assert.deepStrictEqual(Array.from(anchorsOf(document)), [
      "what-state-shows-and-when",
      "redis--cluster",
      "redis--cluster-1"
    ])
  })
})
