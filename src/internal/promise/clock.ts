/**
 * Time as the rest of the program knows it: with fake timers in a test, it passes when they say so.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

const live: Clock.Clock = Context.get(Context.empty(), Clock.Clock)

// Effect's own looks its monotonic time up once, when it is loaded, and so takes no notice of what is put in its place.
const monotonicTimeNanosUnsafe = (): bigint => BigInt(Math.round(performance.now() * 1_000_000))

export const clock: Clock.Clock = Object.assign(Object.create(live), {
  monotonicTimeNanosUnsafe,
  monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe)
})
