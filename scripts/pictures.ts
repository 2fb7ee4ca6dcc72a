/**
 * Draws the pictures of the guides from the decisions that the limiters really make: `npm run pictures`. With `--check`
 * it only tells whether they are up to date.
 */
import { generate } from "./generated.ts"
import { themes } from "./pictures/drawing.ts"
import { scenes } from "./pictures/scenes.ts"

for (const [name, draw] of Object.entries(scenes)) {
  const drawing = await draw()
  for (const [suffix, theme] of Object.entries(themes)) {
    generate(`docs/pictures/${name}${suffix}.svg`, drawing.toSvg(theme), "the limiters do", "npm run pictures")
  }
}
