/**
 * How a run ends: with an exit code for scripts, and with a sentence for people if it did not do what it was asked for.
 */
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as Exit from "effect/Exit"
import { Problem } from "./problem.ts"
import { printable } from "./render/quantities.ts"

export interface Ending {
  /** 0: done; 1: it could not be done; 2: it was asked for wrongly; 130: interrupted. */
  readonly exitCode: number
  readonly sentence?: string
}

export const endingOf = (exit: Exit.Exit<void, Problem | CliError.CliError>): Ending => {
  if (Exit.isSuccess(exit)) return { exitCode: 0 }
  if (Cause.hasInterruptsOnly(exit.cause)) return { exitCode: 130 }
  const error = Cause.squash(exit.cause)
  if (error instanceof Problem) return { exitCode: error.exitCode, sentence: printable(error.message) }
  // Help was shown: because it was asked for, or with what is wrong with the arguments.
  if (error instanceof CliError.ShowHelp) return { exitCode: error.errors.length === 0 ? 0 : 2 }
  const message = error instanceof Error ? error.message : String(error)
  return { exitCode: 1, sentence: `This is a bug, please report it: ${printable(message)}` }
}
