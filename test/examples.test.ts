/**
 * Every example that a person can read is compiled, and run to its end in a process of its own.
 */
import { execFile } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, inject, it } from "vitest"
import { allPrograms, allSnippets, type Example, snippetsOf } from "./support/examples.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

// Within the project, so that "steindamm" is the package itself.
const folder = ".examples"

const snippets = allSnippets(root, folder)
const examples: ReadonlyArray<Example> = [...snippets, ...allPrograms(root)]

const execute = promisify(execFile)

/** A stack trace, a warning of Node or a last word: what a program that ends with 0 should not have said. */
const crash = /^\s+at .+:\d+:\d+\)?$|^\(node:\d+\)|\b(Uncaught|Unhandled)/m

const run = async ({ file }: Example): Promise<void> => {
  const { FORCE_COLOR: _, ...env } = process.env
  const { stderr } = await execute(process.execPath, ["--conditions", "steindamm-source", file], {
    cwd: root,
    env: { ...env, NO_COLOR: "1", REDIS_URL: inject("redisUrl"), REDIS_CLUSTER_URL: inject("clusterUrl") },
    timeout: 50_000,
    killSignal: "SIGKILL"
  }).catch(({ message, stdout, stderr, killed }) =>
    assert.fail([killed ? "did not end by itself" : message, stdout, stderr].join("\n"))
  )
  assert.notMatch(stderr, crash)
}

describe("examples", () => {
  beforeAll(() => {
    rmSync(join(root, folder), { recursive: true, force: true })
    mkdirSync(join(root, folder))
    for (const { file, text } of snippets) writeFileSync(join(root, file), text)
    writeFileSync(
      join(root, folder, "tsconfig.json"),
      JSON.stringify({
        extends: "../tsconfig.json",
        compilerOptions: { noUnusedLocals: false },
        include: ["*.ts", "../examples"]
      })
    )
  })
  afterAll(() => rmSync(join(root, folder), { recursive: true, force: true }))

  it("are found in the README and in docstrings", () => {
    const documents = new Set(snippets.map(({ label }) => label.replace(/:\d+$/, "")))
    for (const document of ["README.md", "src/TokenBucket.ts", "src/Semaphore.ts"]) {
      assert.isTrue(documents.has(document), document)
    }
  })

  it("compile", { timeout: 120_000 }, async () => {
    const tsc = join(root, "node_modules", ".bin", "tsc")
    await execute(tsc, ["-p", folder], { cwd: root }).catch(({ message, stdout }) =>
      assert.fail([message, stdout].join("\n"))
    )
  })

  describe.concurrent("run to their end", () => {
    for (const example of examples.filter(({ noRun }) => noRun === undefined)) {
      it(example.label, { timeout: 60_000 }, () => run(example))
    }
  })
})

describe("a snippet", () => {
  const textOf = (...document: ReadonlyArray<string>) =>
    snippetsOf("guide.md", document.join("\n"), folder).map(({ text }) => text)

  it("keeps the lines that it has in its document, without the margin", () => {
    assert.deepStrictEqual(textOf("Text", "```ts", "one()", "", "  two()", "```"), ["\n\none()\n\n  two()\n"])
    assert.deepStrictEqual(textOf(" * ```ts", " * one()", " *", " *   two()", " * ```"), ["\none()\n\n  two()\n"])
    assert.deepStrictEqual(textOf("- ```ts", "  one()", "", "    two()", "  ```"), ["\none()\n\n  two()\n"])
  })

  it("is not run only for a reason", () => {
    const [snippet] = snippetsOf("guide.md", "```ts no-run: needs a cluster\n```", folder)
    assert.strictEqual(snippet?.noRun, "needs a cluster")
    assert.throws(() => textOf("```ts no-run", "```"), "guide.md:1: say why it is not run")
  })

  it("can't escape the tests by another name, or by an open end", () => {
    assert.throws(() => textOf("", "```typescript", "```"), "guide.md:2: open it with ```ts")
    assert.throws(() => textOf("```ts", "one()"), "guide.md:1: the fence is not closed")
  })
})
