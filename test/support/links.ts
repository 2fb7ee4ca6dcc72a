/**
 * Links of Markdown documents to files of the project, and to headings of other documents.
 */
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"

/** A link, and where a reader finds it, such as `docs/redis.md:24`. */
export interface Link {
  readonly label: string
  readonly target: string
}

/** The lines of a document, those of fences empty. */
const prose = (document: string): ReadonlyArray<string> => {
  let fence: string | undefined
  return document.split("\n").map((line) => {
    const marker = /^\s*(?<marker>`{3,}|~{3,})/.exec(line)?.groups?.["marker"]
    if (fence === undefined) {
      fence = marker
      return fence === undefined ? line : ""
    }
    if (marker?.startsWith(fence)) fence = undefined
    return ""
  })
}

const withoutCode = (line: string): string => line.replace(/(`+)[^`].*?\1/g, "")

const patterns = [
  /\]\(\s*<?(?<target>[^)\s>]+)/g,
  /\b(?:src|srcset|href)="(?<target>[^"\s]+)"/g,
  /^\[[^\]]+\]:\s*(?<target>\S+)/g
]

/** The links of a document that lead to something of this project. */
export const linksOf = (path: string, document: string): ReadonlyArray<Link> =>
  prose(document)
    .map(withoutCode)
    .flatMap((line, index) =>
      patterns
        .flatMap((pattern) => Array.from(line.matchAll(pattern), ({ groups }) => groups?.["target"] ?? ""))
        .filter((target) => !/^[a-z][a-z+.-]*:/i.test(target))
        .map((target) => ({ label: `${path}:${index + 1}`, target }))
    )

/** The names under which GitHub finds the headings of a document. */
export const anchorsOf = (document: string): ReadonlySet<string> => {
  const anchors = new Set<string>()
  for (const line of prose(document)) {
    const heading = /^#{1,6}\s+(?<heading>.+?)\s*#*$/.exec(line)?.groups?.["heading"]
    if (heading === undefined) continue
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    const slug = text
      .toLowerCase()
      .replace(/[^\p{Letter}\p{Mark}\p{Number}\p{Connector_Punctuation} -]/gu, "")
      .replaceAll(" ", "-")
    let anchor = slug
    for (let again = 1; anchors.has(anchor); again++) anchor = `${slug}-${again}`
    anchors.add(anchor)
  }
  return anchors
}

/** Why a link leads nowhere, if it does. */
export const faultOf = (root: string, { label, target }: Link): string | undefined => {
  const document = label.replace(/:\d+$/, "")
  const [path = "", anchor] = decodeURI(target).split("#")
  const file = path === "" ? document : join(dirname(document), path)
  if (relative("", file).startsWith("..")) return `${label}: ${target} is outside of the project`
  if (path.startsWith("/")) return `${label}: ${target} is not relative`
  if (!existsSync(join(root, file))) return `${label}: there is no ${file}`
  if (anchor === undefined || !file.endsWith(".md")) return undefined
  return anchorsOf(readFileSync(join(root, file), "utf8")).has(anchor)
    ? undefined
    : `${label}: ${file} has no heading "${anchor}"`
}

/** The links of all documents of the project. */
export const allLinks = (root: string): ReadonlyArray<Link> =>
  ["*.md", "{docs,examples,bench}/**/*.md"]
    .flatMap((pattern) => globSync(pattern, { cwd: root }).sort())
    .flatMap((path) => linksOf(path, readFileSync(join(root, path), "utf8")))
