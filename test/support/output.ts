/**
 * What a process writes, as it comes.
 */
import type { Readable } from "node:stream"

export interface Output {
  readonly written: () => string
  /** Resolves once something is written that matches, after what was seen before. */
  readonly until: (pattern: RegExp) => Promise<string>
}

/** Who waits for more than there will be is told when the process has ended. */
export const outputOf = (streams: ReadonlyArray<Readable>, ended: Promise<unknown>): Output => {
  let written = ""
  let seen = 0
  const listeners = new Set<() => void>()
  for (const stream of streams) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      written += text
      for (const listener of listeners) listener()
    })
  }
  return {
    written: () => written,
    until: (pattern) =>
      new Promise((resolve, reject) => {
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
      })
  }
}
