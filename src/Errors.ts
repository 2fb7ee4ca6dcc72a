/**
 * Everything that can go wrong with a limiter, as tagged errors: each says in its message what to do, and carries
 * fields for programs. All of them are real `Error`s, yieldable in Effect programs, and thrown as they are by the
 * promise adapter.
 */
import * as Duration from "effect/Duration"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * Which of the two limiters an error or a metric speaks of.
 */
export type LimiterKind = "TokenBucket" | "Semaphore"

const Kind = Schema.Literals(["TokenBucket", "Semaphore"])

const noun: Record<LimiterKind, string> = { TokenBucket: "token bucket", Semaphore: "semaphore" }

/**
 * The request would have had to wait longer than `maxSleep`. Nothing was consumed, nothing is held.
 *
 * A token bucket knows beforehand, so it fails at once and tells `requiredSleep`, the wait that the request would
 * have met. A semaphore can't know when permits come back: it fails when `maxSleep` has passed.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { LocalLive, TokenBucket } from "steindamm"
 *
 * const program = Effect.gen(function* () {
 *   const limiter = yield* TokenBucket.make({ name: "api", capacity: 1, maxSleep: "100 millis" })
 *   yield* limiter.withPermit(Effect.void)
 *   return yield* limiter.withPermit(Effect.succeed("sent"))
 * }).pipe(Effect.catchTag("MaxSleepExceeded", (error) => Effect.succeed(`try again later: ${error.message}`)))
 *
 * Effect.runPromise(program.pipe(Effect.provide(LocalLive))).then(console.log)
 * ```
 */
export class MaxSleepExceeded extends Schema.TaggedError<MaxSleepExceeded>("steindamm/MaxSleepExceeded")(
  "MaxSleepExceeded",
  {
    name: Schema.String,
    kind: Kind,
    maxSleep: Schema.Duration,
    requiredSleep: Schema.optionalKey(Schema.Duration)
  }
) {
  override get message(): string {
    const limiter = `${noun[this.kind]} "${this.name}"`
    const allowed = inWords(this.maxSleep)
    // Of several limiters that decide as one, some may not be waited for.
    const isTry = Duration.isZero(this.maxSleep)
    if (this.requiredSleep === undefined) {
      return isTry
        ? `No permit of ${limiter} is free, and none may be waited for: try again later, or raise capacity`
        : `No permit of ${limiter} came free within maxSleep (${allowed}): try again later, or raise maxSleep or capacity`
    }
    const required = `A request to ${limiter} would have to sleep ${inWords(this.requiredSleep)}`
    return isTry
      ? `${required}, and may not: try again after that time`
      : `${required}, and maxSleep is ${allowed}: try again after that time, or raise maxSleep`
  }

  override [NodeInspectSymbol](): Error {
    return printable(this)
  }
}

/**
 * The bucket never refills (`refillAmount: 0`) and holds fewer tokens than were asked for: no wait would help.
 */
export class NoTokensAvailable extends Schema.TaggedError<NoTokensAvailable>("steindamm/NoTokensAvailable")(
  "NoTokensAvailable",
  {
    name: Schema.String,
    /** Tokens that are left. */
    available: Schema.Number,
    /** Tokens that were asked for. */
    requested: Schema.Number
  }
) {
  override get message(): string {
    return `Token bucket "${this.name}" has ${this.available} tokens left of a quota that never refills, and ${this.requested} were requested: reset it, or ask for less`
  }

  override [NodeInspectSymbol](): Error {
    return printable(this)
  }
}

/**
 * An option or argument breaks its rule. `name` tells the limiter, or what else is used wrongly; `field` the argument,
 * `value` what was passed, `rule` what is allowed.
 */
export class InvalidOptions extends Schema.TaggedError<InvalidOptions>("steindamm/InvalidOptions")("InvalidOptions", {
  name: Schema.String,
  field: Schema.String,
  value: Schema.Unknown,
  rule: Schema.String
}) {
  override get message(): string {
    const whose = this.name === "" ? "" : ` for "${cut(this.name)}"`
    return `Invalid ${this.field}${whose}: ${show(this.value)} (must be ${this.rule})`
  }

  override [NodeInspectSymbol](): Error {
    return printable(this)
  }
}

/**
 * The lease of a permit could not be kept: it ran out while the process was stalled or Redis out of reach, or the
 * limiter was reset, or somebody took the permit away (`steindamm release`). Whatever the permit guarded may since run
 * elsewhere; `fencingToken` tells the stale holder from the new one.
 */
export class PermitLost extends Schema.TaggedError<PermitLost>("steindamm/PermitLost")("PermitLost", {
  name: Schema.String,
  permitId: Schema.String,
  fencingToken: Schema.Number
}) {
  override get message(): string {
    return `Permit ${this.permitId} of semaphore "${this.name}" was lost (fencing token ${this.fencingToken}): its lease ran out, or it was taken away by a release or a reset, so others may hold it now`
  }

  override [NodeInspectSymbol](): Error {
    return printable(this)
  }
}

/**
 * Why the backend gave no answer.
 *
 * `Unreachable`: no connection, or it dropped · `TimedOut`: connected, but no reply in time · `ReadOnly`: a replica
 * answered · `Loading`: the server is still reading its data · `ClusterDown`, `TryAgain`: the cluster can't serve the
 * slot now · `WrongNode`: another node serves the slot · `Busy`: another script blocks the server · `Misconfigured`:
 * the server refuses writes (`MISCONF`, `NOREPLICAS`) · `OutOfMemory`: `maxmemory` is reached · `WrongType`: something
 * else lives under our key · `Unauthorized`: credentials or ACL · `Script`: the script itself failed · `Closed`: the
 * layer or limiter is closed · `NotInstalled`: there is no ioredis to connect with · `Unknown`: none of these, as the
 * cause tells.
 */
export type BackendErrorReason = typeof BackendErrorReason.Type

const BackendErrorReason = Schema.Literals([
  "Unreachable",
  "TimedOut",
  "ReadOnly",
  "Loading",
  "ClusterDown",
  "TryAgain",
  "WrongNode",
  "Busy",
  "Misconfigured",
  "OutOfMemory",
  "WrongType",
  "Unauthorized",
  "Script",
  "Closed",
  "NotInstalled",
  "Unknown"
])

const advice: Record<BackendErrorReason, string> = {
  Unreachable: "can't be reached: check that it runs and that the address is right",
  TimedOut: "did not answer in time: check its load and the network",
  ReadOnly: "is a read-only replica: connect to the primary",
  Loading: "is loading its data: try again in a moment",
  ClusterDown: "reports that its cluster is down: check that every slot has a primary",
  TryAgain: "is moving the slot of this limiter: try again in a moment",
  WrongNode: "does not serve this limiter's slot: connect to it as a cluster, by its nodes",
  Busy: "is blocked by a long script: find and kill it",
  Misconfigured: "refuses writes: check its persistence and replication",
  OutOfMemory: "has reached maxmemory: raise it, or delete what is not needed",
  WrongType: "holds something else under this limiter's key: choose another keyPrefix or name",
  Unauthorized: "refuses these credentials: check user, password and ACL",
  Script: "failed to run the limiter's script: this is a bug, please report it",
  Closed: "is closed: the limiter was used after its layer or adapter had ended",
  NotInstalled: "needs ioredis, which could not be loaded: npm install ioredis",
  Unknown: "failed in an unexpected way: see the cause"
}

/**
 * The backend could not decide. `operation` is what was asked for, `reason` tells the cases apart, `cause` is what
 * the client said.
 */
export class BackendError extends Schema.TaggedError<BackendError>("steindamm/BackendError")("BackendError", {
  operation: Schema.String,
  name: Schema.optionalKey(Schema.String),
  reason: BackendErrorReason,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const limiter = this.name === undefined ? "" : ` for limiter "${this.name}"`
    return `${this.operation}${limiter} failed: the backend ${advice[this.reason]}`
  }

  override [NodeInspectSymbol](): Error {
    return printable(this)
  }
}

/** Rounded up to a millisecond: who tries again after so long finds that it was enough. */
const inWords = (duration: Duration.Duration): string =>
  Duration.format(Duration.millis(Math.ceil(Duration.toMillis(duration))))

/** What Node prints: the class, message, stack and cause as of other errors, and the fields. */
const printable = ({ _tag, message, stack = "", cause, ...fields }: Error & { readonly _tag: string }): Error => {
  const printed = Object.assign(new Error(message, cause === undefined ? {} : { cause }), fields)
  const frames = stack.indexOf("\n    at ")
  printed.stack = `${_tag}: ${message}${frames < 0 ? "" : stack.slice(frames)}`
  return printed
}

const mostShown = 100

/** A key that is too long may be whatever somebody has sent: it doesn't belong into a message as a whole. */
const cut = (text: string): string => (text.length > mostShown ? `${text.slice(0, mostShown)}…` : text)

const show = (value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(cut(value))
  if (Duration.isDuration(value)) return Duration.format(value)
  if (Redacted.isRedacted(value)) return String(value)
  const isOpaque =
    typeof value === "function" || (typeof value === "object" && value !== null && !(value instanceof Date))
  return isOpaque ? Object.prototype.toString.call(value) : String(value)
}
