/**
 * What a failed call to Redis means: why it failed, and whether it may be made again.
 */
import type { BackendErrorReason } from "../Errors.ts"

/**
 * `notRun`: nothing happened at Redis, so the call may be repeated · `lost`: it may have run, and its reply will never
 * come · `hopeless`: no repetition would help.
 */
export type Outcome = "notRun" | "lost" | "hopeless"

export class Failure {
  readonly reason: BackendErrorReason
  readonly outcome: Outcome
  readonly cause: unknown
  constructor(reason: BackendErrorReason, outcome: Outcome, cause: unknown) {
    this.reason = reason
    this.outcome = outcome
    this.cause = cause
  }
}

// A script checks before its first write, and Redis refuses a script's first write or none: so what is refused with
// one of these has changed nothing.
const meanings = new Map<string, readonly [BackendErrorReason, Outcome]>([
  ["READONLY", ["ReadOnly", "notRun"]],
  ["MASTERDOWN", ["ReadOnly", "notRun"]],
  ["LOADING", ["Loading", "notRun"]],
  ["CLUSTERDOWN", ["ClusterDown", "notRun"]],
  ["TRYAGAIN", ["TryAgain", "notRun"]],
  ["MOVED", ["WrongNode", "notRun"]],
  ["ASK", ["WrongNode", "notRun"]],
  ["BUSY", ["Busy", "notRun"]],
  ["MISCONF", ["Misconfigured", "notRun"]],
  ["NOREPLICAS", ["Misconfigured", "notRun"]],
  ["OOM", ["OutOfMemory", "notRun"]],
  ["WRONGTYPE", ["WrongType", "hopeless"]],
  ["NOAUTH", ["Unauthorized", "hopeless"]],
  ["WRONGPASS", ["Unauthorized", "hopeless"]],
  ["NOPERM", ["Unauthorized", "hopeless"]],
  ["CROSSSLOT", ["Script", "hopeless"]]
])

/**
 * The code is the first word, except where Redis 6 or ioredis quote an error: "ERR Error running script … -OOM …",
 * "Too many Cluster redirections. Last error: ReplyError: TRYAGAIN …".
 */
const codePattern = new RegExp(
  `^(?:(?:ERR Error running script|Too many Cluster redirections)[^]*?\\b)?(${[...meanings.keys()].join("|")})\\b`
)

/** A user who may run scripts, but not all of what they do. There is no code of its own for it. */
const isForbidden = (error: Error): boolean => error.message.includes("The user executing the script can't")

/** What an error that Redis itself gave means, if it is one that tells anything. */
export const meaningOf = (error: Error): readonly [BackendErrorReason, Outcome] | undefined =>
  isForbidden(error) ? ["Unauthorized", "hopeless"] : meanings.get(codePattern.exec(error.message)?.[1] ?? "")

/** Whether Redis answered with the error; otherwise it comes from ioredis. */
export const isReply = (error: Error): boolean => error.name === "ReplyError"

/** Whether the server refuses the database that a connection is to use: it has none of that number, or the user may not. */
export const isRefusedDatabase = (error: Error & { readonly command?: { readonly name?: string } }): boolean =>
  isReply(error) && error.command?.name === "select"

export const isNoScript = (error: Error): boolean => isReply(error) && error.message.startsWith("NOSCRIPT")

/** The meaning of an error reply to a script. */
export const failedReply = (error: Error): Failure => {
  const [reason, outcome] = meaningOf(error) ?? [/script/i.test(error.message) ? "Script" : "Unknown", "hopeless"]
  return new Failure(reason, outcome, error)
}
