/**
 * The command `steindamm` as people run it: a process of its own.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

/** The words that start it. */
export const steindamm: ReadonlyArray<string> = [process.execPath, "--conditions", "steindamm-source", main]

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program without a terminal to its end, and gives it so much to read. */
export const runToEnd = async (
  [program = "", ...args]: ReadonlyArray<string>,
  options: { readonly env?: NodeJS.ProcessEnv; readonly input?: string } = {}
): Promise<Ended> => {
  const { FORCE_COLOR: _, REDIS_URL: __, ...env } = process.env
  const child: ChildProcess = spawn(program, args, { env: { ...env, ...options.env } })
  let stdout = ""
  let stderr = ""
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
  })
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text
  })
  child.stdin?.end(options.input)
  const [code] = await once(child, "close")
  return { code, stdout, stderr }
}
