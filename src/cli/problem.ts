/**
 * What ends a command before it has done what it was asked for: one sentence for a person, an exit code for a script.
 */
import * as Data from "effect/Data"

export class Problem extends Data.TaggedError("Problem")<{
  /** A sentence that says what to do about it. */
  readonly message: string
  /** 1: it could not be done; 2: it was asked for wrongly. */
  readonly exitCode: 1 | 2
  /** It concerns one limiter, and others may be well. */
  readonly isLocal: boolean
}> {}

export const problem = (message: string): Problem => new Problem({ message, exitCode: 1, isLocal: false })

export const problemOfLimiter = (message: string): Problem => new Problem({ message, exitCode: 1, isLocal: true })

export const misuse = (message: string): Problem => new Problem({ message, exitCode: 2, isLocal: false })
