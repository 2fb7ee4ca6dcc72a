/**
 * Checks what is passed to the verbs, also for callers whose compiler didn't.
 */
import * as Result from "effect/Result"
import { InvalidOptions } from "../../Errors.ts"
import { durationArgument, functionArgument, isRecord } from "../options.ts"
import { atCaller } from "./callerStack.ts"

/** How many permits or tokens are asked for, if that was said, and by what the request can be stopped. */
export interface Asked {
  readonly permits: number | undefined
  readonly signal: AbortSignal | undefined
}

const askedNothing: Asked = { permits: undefined, signal: undefined }

const invalid = (name: string, field: string, value: unknown, rule: string) =>
  atCaller(new InvalidOptions({ name, field, value, rule }))

/** The fields of an object that has no others than these. */
const fieldsOf = <Field extends string>(
  name: string,
  options: unknown,
  known: ReadonlyArray<Field>,
  rule = `an object with ${known.join(" and ")}`
): { readonly [_ in Field]?: unknown } => {
  if (!isRecord(options)) throw invalid(name, "options", options, rule)
  for (const [field, value] of Object.entries(options)) {
    if (!known.some((one) => one === field)) throw invalid(name, field, value, `one of the options ${known.join(", ")}`)
  }
  return options as { readonly [_ in Field]?: unknown }
}

const signalFrom = (name: string, signal: unknown): AbortSignal | undefined => {
  if (signal !== undefined && !isSignal(signal)) throw invalid(name, "signal", signal, "an AbortSignal")
  return signal
}

/** Also those of another realm, or of a library. */
const isSignal = (value: unknown): value is AbortSignal =>
  typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value

/** The number of permits is checked by whom it concerns. */
export const askedFor = (name: string, request: unknown): Asked => {
  if (request === undefined) return askedNothing
  if (typeof request === "number") return { permits: request, signal: undefined }
  const { permits, signal } = fieldsOf(
    name,
    request,
    ["permits", "signal"],
    "a number of permits, or an object with permits and signal"
  )
  return { permits: permits as number | undefined, signal: signalFrom(name, signal) }
}

export const signalOf = (name: string, options: unknown): AbortSignal | undefined =>
  options === undefined ? undefined : signalFrom(name, fieldsOf(name, options, ["signal"]).signal)

/** In milliseconds. */
export const timeoutOf = (name: string, options: unknown): number => {
  const { timeout } = options === undefined ? {} : fieldsOf(name, options, ["timeout"])
  return timeout === undefined ? Number.POSITIVE_INFINITY : checked(durationArgument(name, "timeout", timeout)) / 1000
}

export const checkFunction = (name: string, field: string, value: unknown): void => {
  checked(functionArgument(name, field, value))
}

/** What was found good, or the error thrown. */
export const checked = <A>(result: Result.Result<A, InvalidOptions>): A => {
  if (Result.isFailure(result)) throw atCaller(result.failure)
  return result.success
}
