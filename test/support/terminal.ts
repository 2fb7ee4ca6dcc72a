/**
 * A program in a real terminal: one that `script` opens for it.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { type Output, outputOf } from "./output.ts"

/** Its output is all that the program writes, escape sequences included. */
export interface TerminalSession extends Output {
  readonly type: (keys: string) => void
  /** Its exit code. */
  readonly ended: Promise<number | null>
}

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`

/** Runs the words as a program in a terminal of so many columns and rows, or what `shell` makes of them. */
export const openTerminal = (
  words: ReadonlyArray<string>,
  options: { readonly columns?: number; readonly rows?: number; readonly shell?: (program: string) => string } = {}
): TerminalSession => {
  const { columns = 100, rows = 24, shell = (program) => `exec ${program}` } = options
  const commands = `stty cols ${columns} rows ${rows}; ${shell(words.map(quoted).join(" "))}`
  const { FORCE_COLOR: _, NO_COLOR: __, REDIS_URL: ___, ...env } = process.env
  const child = spawn("script", ["--quiet", "--return", "--command", commands, "/dev/null"], {
    env: { ...env, TERM: "xterm-256color", SHELL: "/bin/sh" },
    stdio: ["pipe", "pipe", "inherit"]
  })
  const ended = once(child, "close").then(([code]) => code as number | null)
  return { ...outputOf([child.stdout], ended), type: (keys) => void child.stdin.write(keys), ended }
}
