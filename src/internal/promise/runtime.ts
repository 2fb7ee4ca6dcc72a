/**
 * How the promise adapter runs effects: with Node's own warnings in the place of a log.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { clock } from "./clock.ts"

/** A library has no business on the standard output; who wants to hear it listens to `process.on("warning")`. */
const nodeWarnings = Logger.make<unknown, void>(({ logLevel, message }) => {
  if (LogLevel.isLessThan(logLevel, "Warn")) return
  process.emitWarning(Array.isArray(message) ? message.join(" ") : String(message), "SteindammWarning")
})

const surroundings = Context.make(Logger.CurrentLoggers, new Set([nodeWarnings])).pipe(Context.add(Clock.Clock, clock))

export const fork: <A, E>(effect: Effect.Effect<A, E>, options?: Effect.RunOptions) => Fiber.Fiber<A, E> =
  Effect.runForkWith(surroundings)

export const runPromise: <A, E>(effect: Effect.Effect<A, E>) => Promise<A> = Effect.runPromiseWith(surroundings)

/** What comes of a fiber: at once if it has ended. */
export const exitOf = <A, E>(fiber: Fiber.Fiber<A, E>): Exit.Exit<A, E> | Promise<Exit.Exit<A, E>> =>
  fiber.pollUnsafe() ?? new Promise((resolve) => void fiber.addObserver(resolve))
