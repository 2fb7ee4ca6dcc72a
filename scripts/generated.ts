/**
 * Files that are made from something else. With `--check` they are only compared with what they should be.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** Of a file of this project. */
export const path = (relative: string): string => fileURLToPath(new URL(`../${relative}`, import.meta.url))

const current = (file: string): string => {
  try {
    return readFileSync(path(file), "utf8")
  } catch {
    return ""
  }
}

/** `source` says what the file should be, and `command` makes it so. */
export const generate = (file: string, text: string, source: string, command: string): void => {
  if (!process.argv.includes("--check")) writeFileSync(path(file), text)
  else if (current(file) !== text) {
    console.error(`${file} is not what ${source}: run \`${command}\`.`)
    process.exitCode = 1
  }
}
