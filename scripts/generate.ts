/**
 * Writes what is made from something else: `npm run generate`. With `--check` it only tells whether it is up to date.
 *
 * - The Lua scripts as a module, so that they travel with any bundle.
 * - The Grafana dashboard, from the definitions of the metrics.
 */
import { readdirSync, readFileSync } from "node:fs"
import { dashboardText } from "./dashboard.ts"
import { generate, path } from "./generated.ts"

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

const command = "npm run generate"

generate("src/internal/scripts.ts", scriptsText(), "lua/ says", command)
generate("docs/grafana-dashboard.json", dashboardText, "scripts/dashboard.ts says", command)
