/**
 * A program in a real terminal: one that `script` opens for it.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"

export interface TerminalSession {
  /** All that it has written, escape sequences included. */
  readonly written: () => string
  readonly type: (keys: string) => void
  /** Resolves once it has written something that matches, after what was seen before. */
  readonly until: (pattern: RegExp) => Promise<string>
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
  let written = ""
  let seen = 0
  const listeners = new Set<() => void>()
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    written += text
    for (const listener of listeners) listener()
  })
  const ended = once(child, "close").then(([code]) => code as number | null)
  return {
    written: () => written,
    type: (keys) => void child.stdin.write(keys),
    until: (pattern) =>
      new Promise<string>((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(written.slice(seen))
          if (found === null) return
          listeners.delete(look)
          seen += found.index + found[0].length
          resolve(found[0])
        }
        listeners.add(look)
        look()
        ended.then(() => reject(new Error(`ended without ${pattern}:\n${written}`)))
      }),
    ended
  }
}
