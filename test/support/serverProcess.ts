/**
 * One Redis (or Valkey) process that can't outlive the process that started it.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { createServer } from "node:net"

/**
 * Runs a server as its child, says the child's pid, and kills the child at the first line on standard input. If the
 * owner dies in whatever way, the pipe ends without a line: then the server's directory goes too, and nothing is left.
 */
const watchdog = `
directory=$1; shift
"$@" </dev/null 2>&1 &
server=$!
trap 'kill -KILL $server; wait $server; test "$kept" || rm -rf "$directory"' EXIT
trap exit INT TERM HUP
echo "pid $server"
exec >/dev/null 2>&1
if read -r _; then kept=yes; fi
`

export interface ServerProcess {
  readonly pid: number
  /** Ends the process with SIGKILL and waits until it is gone, with its ports. */
  readonly kill: () => Promise<void>
}

/** Why a server did not start: what it printed until it ended. */
export class ServerDidNotStart extends Error {
  readonly portTaken: boolean
  constructor(command: string, output: string) {
    super(`${command} did not start:\n${output}`)
    this.portTaken = /Address already in use|Failed listening on port/i.test(output)
  }
}

/**
 * Starts a server that works in `directory`, and waits until it prints `readyWhen`.
 */
export const spawnServer = (
  directory: string,
  command: string,
  args: ReadonlyArray<string>,
  readyWhen: RegExp
): Promise<ServerProcess> =>
  new Promise((resolve, reject) => {
    const shell = spawn("sh", ["-c", watchdog, "watchdog", directory, command, ...args], {
      stdio: ["pipe", "pipe", "ignore"]
    })
    const exited = new Promise<void>((done) => shell.once("exit", () => done()))
    let output = ""
    const fail = () => {
      end(shell)
      reject(new ServerDidNotStart(command, output))
    }
    const onData = (chunk: Buffer) => {
      output += chunk
      const pid = /^pid (\d+)$/m.exec(output)?.[1]
      if (pid === undefined || !readyWhen.test(output)) return
      shell.stdout.off("data", onData).off("end", fail).resume()
      resolve({
        pid: Number(pid),
        kill: () => {
          end(shell)
          return exited
        }
      })
    }
    shell.once("error", reject)
    shell.stdin.on("error", () => {})
    shell.stdout.on("data", onData).once("end", fail)
  })

const end = (shell: ChildProcess) => void shell.stdin?.end("\n")

/**
 * A loopback port that is free now. It lies below the range that operating systems use for outgoing connections:
 * otherwise a client that keeps reconnecting to a stopped server could be given the server's port as its own.
 */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000)
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer()
      probe.once("error", () => resolve(false))
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)))
    })
    if (free) return port
  }
}

const findOnPath = (): string | undefined =>
  ["redis-server", "valkey-server"].find((command) => {
    try {
      execFileSync(command, ["--version"], { stdio: "ignore" })
      return true
    } catch {
      return false
    }
  })

const installFromDebian = (): void => {
  const apt = (...args: ReadonlyArray<string>) =>
    execFileSync("apt-get", ["-qq", ...args], {
      stdio: "ignore",
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" }
    })
  try {
    if (process.getuid?.() !== 0) return
    apt("update")
    apt("install", "--yes", "--no-install-recommends", "redis-server")
  } catch {
    // no apt-get, or no network: the caller says what to do
  }
}

let found: string | undefined

/**
 * The server program: `redis-server` or `valkey-server` on the PATH, else Debian's package where it may be installed.
 */
export const serverCommand = (): string => {
  found ??= findOnPath()
  if (found === undefined) {
    installFromDebian()
    found = findOnPath()
  }
  if (found === undefined) {
    throw new Error("The tests need Redis: put redis-server or valkey-server (7.0 or later) on the PATH.")
  }
  return found
}
