/**
 * `steindamm top`: all limiters of a prefix in a table, live in a terminal and once anywhere else.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Limiters } from "./limiters.ts"
import { type LimiterWatch, makeLimiterWatch } from "./limiterWatch.ts"
import { liveTable } from "./liveTable.ts"
import { quoted } from "./named.ts"
import { type Order, orders, sorted } from "./order.ts"
import { print } from "./output.ts"
import { overviewLines } from "./render/overviewLines.ts"
import { plain } from "./render/text.ts"
import { limitersOfOptions, steindamm } from "./steindamm.ts"

const intervalFlag = Flag.Finite("interval").pipe(
  Flag.withSchema(Schema.Finite.check(Schema.isBetween({ minimum: 0.1, maximum: 60 }))),
  Flag.withMetavar("<seconds>"),
  Flag.withDescription("Time from one look to the next (default: 1)"),
  Flag.withDefault(1)
)

const limitFlag = Flag.Int("limit").pipe(
  Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000 }))),
  Flag.withDescription("At most so many limiters (default: 500)"),
  Flag.withDefault(500)
)

const nameFlag = Flag.String("name").pipe(
  Flag.withMetavar("<text>"),
  Flag.withDescription("Only limiters that have this text in their name"),
  Flag.withDefault("")
)

const sortFlag = Flag.Literals("sort", orders).pipe(
  Flag.withDescription("What comes first: by name, the longest queue, or the highest rate (default: name)"),
  Flag.withDefault<Order>("name")
)

export const top = Command.make(
  "top",
  { interval: intervalFlag, limit: limitFlag, name: nameFlag, sort: sortFlag },
  Effect.fnUntraced(function* ({ interval, limit, name, sort }) {
    const { json } = yield* steindamm
    const { canAnimate } = yield* TerminalCapabilities
    const watch = yield* makeLimiterWatch({ accepts: (limiter) => limiter.name.includes(name), most: limit })
    const every = Effect.sleep(Duration.seconds(interval))
    yield* canAnimate && !json ? liveTable({ watch, order: sort, every }) : once(watch, sort, every)
  })
).pipe(
  Command.withDescription(
    "Show all limiters in a table: live in a terminal, until q or Ctrl-C; otherwise once, after an interval in which rates are counted."
  ),
  Command.withShortDescription("Show all limiters, live in a terminal"),
  Command.provide(limitersOfOptions)
)

const once = Effect.fnUntraced(function* (watch: LimiterWatch, order: Order, interval: Effect.Effect<void>) {
  const { redis, prefix } = yield* Limiters
  yield* watch.look
  yield* interval
  const overview = yield* watch.look
  const rows = sorted(overview.rows, order)
  yield* print({ redis, prefix, isCut: overview.isCut, limiters: rows }, [
    ...(rows.length === 0
      ? [[plain(`No limiter is in use under the prefix ${quoted(prefix)} of ${redis}.`)]]
      : overviewLines(rows, { columns: Number.POSITIVE_INFINITY })),
    ...(overview.isCut ? [[plain("There may be more: the search ended at its bounds, see --limit and --name.")]] : [])
  ])
})
