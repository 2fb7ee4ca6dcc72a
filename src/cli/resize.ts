/**
 * `steindamm resize NAME CAPACITY`: changes the capacity of a semaphore for everyone, at once.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { maxCapacity } from "../internal/options.ts"
import { Limiters } from "./limiters.ts"
import { nameInput, quoted, semaphoreNamed } from "./named.ts"
import { print } from "./output.ts"
import { plain } from "./render/text.ts"
import { limitersOfOptions } from "./steindamm.ts"

const capacityArgument = Argument.Int("capacity").pipe(
  Argument.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: maxCapacity }))),
  Argument.withDescription("How many permits there are from now on; 0: as many as its programs say")
)

export const resize = Command.make(
  "resize",
  { ...nameInput, capacity: capacityArgument },
  Effect.fnUntraced(function* ({ capacity, ...names }) {
    const limiters = yield* Limiters
    const { redis, prefix } = limiters
    const { limiter, report } = yield* semaphoreNamed(names)
    yield* limiters.resize(limiter, capacity)
    const before = report.capacity
    const { kind, name, tag } = report
    const now = capacity === 0 ? "what its programs say" : String(capacity)
    yield* print({ redis, prefix, kind, name, tag, capacity: capacity === 0 ? null : capacity, before }, [
      [plain(`The capacity of semaphore ${quoted(name)} is ${now}${before === null ? "" : `; it was ${before}`}.`)]
    ])
  })
).pipe(
  Command.withDescription(
    "Change the capacity of a semaphore for everyone, at once, whatever its programs say: until it is reset, or nobody has used it for an hour. Nobody loses a permit by that; with a smaller capacity nobody gets one until enough have come back."
  ),
  Command.withShortDescription("Change the capacity of a semaphore"),
  Command.provide(limitersOfOptions)
)
