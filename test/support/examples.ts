/**
 * The examples that a person can read: fences in Markdown and in docstrings, and the programs of `examples/`.
 */
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"

export interface Example {
  /** Where a reader finds it, such as `README.md:24`. */
  readonly label: string
  /** The file to run, relative to the project. */
  readonly file: string
  /** Why it is compiled and not run, if that is so. */
  readonly noRun: string | undefined
}

/** An example that is part of a document, with the text of the file to write for it. */
export interface Snippet extends Example {
  readonly text: string
}

// The margin is that of a docstring, a list or a quotation.
const opening = /^(?<margin>\s*(?:(?:[-*+>]|\d+\.)\s+)*)```(?<language>\w+)(?<note>.*)$/

const noteOfNoRun = /^ no-run: (?<reason>.+)$/

// They would pass for code that is tested, and nothing would test it.
const untested = ["typescript", "tsx", "mts", "cts", "js", "jsx", "javascript", "mjs", "cjs"]

/**
 * Takes the snippets out of a document. Each opens with ```ts, or with ```ts no-run: and a reason. A snippet keeps the
 * line numbers that it has in the document, so that compiler errors and stack traces point there.
 */
export const snippetsOf = (path: string, document: string, folder: string): ReadonlyArray<Snippet> => {
  const lines = document.split("\n")
  return lines.flatMap((line, index) => {
    const { margin = "", language = "", note = "" } = opening.exec(line)?.groups ?? {}
    const label = `${path}:${index + 1}`
    if (untested.includes(language)) throw new Error(`${label}: open it with \`\`\`ts, so that it is tested`)
    if (language !== "ts") return []
    const reason = noteOfNoRun.exec(note)?.groups?.["reason"]
    if (note !== "" && reason === undefined) {
      throw new Error(`${label}: say why it is not run: \`\`\`ts no-run: reason`)
    }
    const end = lines.findIndex((line, at) => at > index && line.slice(margin.length).trimEnd() === "```")
    if (end === -1) throw new Error(`${label}: the fence is not closed`)
    const code = lines.slice(index + 1, end).map((line) => line.slice(margin.length))
    return {
      label,
      file: join(folder, `${path.replaceAll(/\W+/g, "-")}-${index + 1}.ts`),
      noRun: reason,
      text: `${"\n".repeat(index + 1)}${code.join("\n")}\n`
    }
  })
}

/** All snippets of the project, to be written into `folder`. */
export const allSnippets = (root: string, folder: string): ReadonlyArray<Snippet> =>
  ["*.md", "{docs,examples,bench}/**/*.md", "src/**/*.ts"]
    .flatMap((pattern) => globSync(pattern, { cwd: root }).sort())
    .flatMap((path) => snippetsOf(path, readFileSync(join(root, path), "utf8"), folder))

/** The programs of `examples/`. */
export const allPrograms = (root: string): ReadonlyArray<Example> =>
  globSync("examples/*.ts", { cwd: root })
    .sort()
    .map((path) => ({ label: path, file: path, noRun: undefined }))
