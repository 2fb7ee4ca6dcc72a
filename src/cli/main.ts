#!/usr/bin/env node
/**
 * The program `steindamm`.
 */
import { createRequire } from "node:module"
import * as Effect from "effect/Effect"
import { run } from "./command.ts"
import { endingOf } from "./ending.ts"

const { version } = createRequire(import.meta.url)("../../package.json")

const fiber = Effect.runFork(run(version))

const interrupt = () => fiber.interruptUnsafe()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, interrupt)

fiber.addObserver((exit) => {
  const { exitCode, sentence } = endingOf(exit)
  if (sentence !== undefined) process.stderr.write(`steindamm: ${sentence}\n`)
  // Not at once, for what was printed may still be on its way.
  process.exitCode = exitCode
})
