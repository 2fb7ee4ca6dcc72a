/**
 * Errors whose stack names the caller.
 */

/**
 * Takes the stack of an error anew, which may have come about on a timer or on the arrival of a message. To be called
 * where an asynchronous function throws: V8 follows its promise to those who await it. So calls that succeed cost
 * nothing.
 *
 * Frames above `verb` are left out.
 */
export const atCaller = (error: unknown, verb?: (...args: never) => unknown): unknown => {
  if (error instanceof Error) Error.captureStackTrace(error, verb ?? atCaller)
  return error
}
