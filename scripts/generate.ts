/**
 * Writes what is made from something else: `npm run generate`. With `--check` it only tells whether it is up to date.
 *
 * - The Lua scripts as a module, so that they travel with any bundle.
 * - The Grafana dashboard, from the definitions of the metrics.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { dashboardText } from "./dashboard.ts"

const path = (relative: string) => fileURLToPath(new URL(`../${relative}`, import.meta.url))

const constantOf = (file: string) => {
  const name = file.replace(/\.lua$/, "").replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
  const source = readFileSync(path(`lua/${file}`), "utf8")
  const literal = source.replaceAll("\\", "\\\\").replaceAll("`", "\\`").replaceAll("${", "\\${")
  return `export const ${name}Script: string = \`${literal}\`\n`
}

const scriptsText = () => {
  const files = readdirSync(path("lua"))
    .filter((file) => file.endsWith(".lua"))
    .sort()
  return ["// Generated from lua/ by `npm run generate`.\n", ...files.map(constantOf)].join("\n")
}

const current = (target: string) => {
  try {
    return readFileSync(path(target), "utf8")
  } catch {
    return ""
  }
}

for (const [target, source, text] of [
  ["src/internal/scripts.ts", "lua/", scriptsText()],
  ["docs/grafana-dashboard.json", "scripts/dashboard.ts", dashboardText]
] as const) {
  if (!process.argv.includes("--check")) writeFileSync(path(target), text)
  else if (current(target) !== text) {
    console.error(`${target} is not what ${source} says: run \`npm run generate\`.`)
    process.exitCode = 1
  }
}
