/**
 * What the command line can set.
 */

import * as Flag from "effect/cli/Flag"
import * as Schema from "effect/Schema"

const between = (minimum: number, maximum: number) => Schema.isBetween({ minimum, maximum })

const count = (name: string, most: number, what: string, normally: number) =>
  Flag.Int(name).pipe(
    Flag.withSchema(Schema.Int.check(between(1, most))),
    Flag.withDescription(`${what} (default: ${normally})`),
    Flag.withDefault(normally)
  )

export const flags = {
  scenario: Flag.Literals("scenario", ["token-bucket", "semaphore", "both"]).pipe(
    Flag.withDescription("Which limiter to show (default: both)"),
    Flag.withDefault("both")
  ),
  calls: count("calls", 100_000, "Token bucket: how many calls to make", 200),
  rate: Flag.Finite("rate").pipe(
    Flag.withSchema(Schema.Finite.check(between(1, 500))),
    Flag.withDescription("Token bucket: calls that the API grants a second (default: 40)"),
    Flag.withDefault(40)
  ),
  capacity: count("capacity", 1000, "Token bucket: the largest burst of calls", 10),
  queries: count("queries", 100_000, "Semaphore: how many queries to run", 200),
  permits: count("permits", 1000, "Semaphore: connections that the database bears at a time", 8)
}

export interface Settings {
  readonly scenario: "token-bucket" | "semaphore" | "both"
  readonly calls: number
  readonly rate: number
  readonly capacity: number
  readonly queries: number
  readonly permits: number
}
