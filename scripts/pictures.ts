/**
 * Draws the pictures of the guides from the decisions that the limiters really make: `npm run pictures`. With `--check`
 * it only tells whether they are up to date.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { themes } from "./pictures/drawing.ts"
import { scenes } from "./pictures/scenes.ts"

const folder = fileURLToPath(new URL("../docs/pictures", import.meta.url))

const read = (file: string): string | undefined => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return undefined
  }
}

mkdirSync(folder, { recursive: true })
for (const [name, draw] of Object.entries(scenes)) {
  const drawing = await draw()
  for (const [suffix, theme] of Object.entries(themes)) {
    const file = `${folder}/${name}${suffix}.svg`
    const picture = drawing.toSvg(theme)
    if (!process.argv.includes("--check")) writeFileSync(file, picture)
    else if (read(file) !== picture) {
      console.error(`docs/pictures/${name}${suffix}.svg is not what the limiters do: run \`npm run pictures\`.`)
      process.exitCode = 1
    }
  }
}
