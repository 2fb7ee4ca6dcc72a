/**
 * Every example that a person can read is compiled and run: those of the README, of the guides, of docstrings, and the
 * programs of `examples/`.
 */
import { execFile } from "node:child_process"
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, inject, it } from "vitest"

const root = fileURLToPath(new URL("..", import.meta.url))
const folder = join(root, ".examples")
const node = join(root, "node_modules", ".bin", "node")
const run = promisify(execFile)

interface Example {
  readonly label: string
  readonly file: string
}

/** Fences that begin with ```ts; one that begins with ```ts no-run is compiled only. */
const fences = (path: string): ReadonlyArray<Example & { readonly code: string; readonly runs: boolean }> => {
  const text = readFileSync(join(root, path), "utf8").replace(/^ *\* ?/gm, "")
  return Array.from(text.matchAll(/^```ts( no-run)?\n([\s\S]*?)^```/gm), ([, noRun, code = ""], index) => ({
    label: `${path} ${index + 1}`,
    file: join(folder, `${path.replace(/\W+/g, "_")}_${index + 1}.ts`),
    code: `${code}\nexport {}\n`,
    runs: noRun === undefined
  }))
}

const documents = [
  ...globSync("*.md", { cwd: root }),
  ...globSync("docs/**/*.md", { cwd: root }),
  ...globSync("src/**/*.ts", { cwd: root })
].sort()

const snippets = documents.flatMap(fences)

const programs: ReadonlyArray<Example> = globSync("examples/*.ts", { cwd: root })
  .sort()
  .map((path) => ({ label: path, file: join(root, path) }))

describe("examples", () => {
  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder)
    for (const { file, code } of snippets) writeFileSync(file, code)
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({
        extends: "../tsconfig.json",
        compilerOptions: { noUnusedLocals: false, noUnusedParameters: false, rootDir: ".." },
        include: ["*.ts"]
      })
    )
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("are there", () => {
    assert.isAbove(snippets.length, 10)
  })

  it("compile", { timeout: 120_000 }, async () => {
    await run(join(root, "node_modules", ".bin", "tsc"), ["-p", folder], { cwd: root }).catch((error) =>
      assert.fail(error.stdout)
    )
  })

  describe.concurrent("run to their end", () => {
    for (const { label, file } of [...snippets.filter(({ runs }) => runs), ...programs]) {
      it(label, { timeout: 60_000 }, async () => {
        const env = { ...process.env, REDIS_URL: inject("redisUrl"), NO_COLOR: "1" }
        await run(node, ["--conditions", "steindamm-source", file], { cwd: root, env, timeout: 50_000 }).catch(
          ({ stdout, stderr, message }) => assert.fail([message, stdout, stderr].join("\n"))
        )
      })
    }
  })
})
