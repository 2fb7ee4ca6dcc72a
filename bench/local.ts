/**
 * Limiters in memory against their peers, all called from Effect: `npm run bench`, or some of it with
 * `npm run bench -- uncontended waiters keys observed`, in other sizes with `--rounds`, `--waiters` and `--keys`. A crowd of waiters
 * is too much for Effect's own semaphore, which gets a tenth of it unless `--whole` says otherwise: some minutes.
 */
import { parseArgs } from "node:util"
import { Effect, Layer } from "effect"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { LocalLive } from "steindamm"
import { keys } from "./local/keys.ts"
import { observed } from "./local/observed.ts"
import { uncontended } from "./local/uncontended.ts"
import { waiters } from "./local/waiters.ts"

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "20" },
    waiters: { type: "string", default: "100000" },
    whole: { type: "boolean", default: false },
    keys: { type: "string", default: "1000000" }
  }
})

const parts = {
  uncontended: uncontended(Number(values.rounds)),
  waiters: waiters(Number(values.waiters), values.whole),
  keys: keys(Number(values.keys)),
  observed: observed(Number(values.rounds))
}

const isPart = (name: string): name is keyof typeof parts => name in parts

const main = Effect.gen(function* () {
  for (const name of positionals.length > 0 ? positionals : Object.keys(parts)) {
    if (!isPart(name)) return yield* Effect.die(`There is no "${name}": choose from ${Object.keys(parts).join(", ")}`)
    yield* parts[name]
  }
})

const live = Layer.merge(LocalLive, RateLimiter.layer.pipe(Layer.provide(RateLimiter.layerStoreMemory)))

Effect.runPromise(main.pipe(Effect.provide(live)))
