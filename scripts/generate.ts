/**
 * Writes the Lua scripts into a module, so that they travel with any bundle: `npm run generate`.
 * With `--check` it only tells whether the module is up to date.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const path = (relative: string) => fileURLToPath(new URL(`../${relative}`, import.meta.url))

const target = path("src/internal/scripts.ts")

const constantOf = (file: string) => {
  const name = file.replace(/\.lua$/, "").replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
  const source = readFileSync(path(`lua/${file}`), "utf8")
  const literal = source.replaceAll("\\", "\\\\").replaceAll("`", "\\`").replaceAll("${", "\\${")
  return `export const ${name}Script: string = \`${literal}\`\n`
}

const files = readdirSync(path("lua"))
  .filter((file) => file.endsWith(".lua"))
  .sort()
const generated = ["// Generated from lua/ by `npm run generate`.\n", ...files.map(constantOf)].join("\n")

const current = (() => {
  try {
    return readFileSync(target, "utf8")
  } catch {
    return ""
  }
})()

if (!process.argv.includes("--check")) {
  writeFileSync(target, generated)
} else if (current !== generated) {
  console.error("src/internal/scripts.ts is not what lua/ says: run `npm run generate`.")
  process.exitCode = 1
}
