/**
 * Shows at work what a limiter does: `npm run demo`, or `npm run demo -- --help`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { Command } from "effect/cli"
import manifest from "../../package.json" with { type: "json" }
import { backend } from "./backend.ts"
import { demo } from "./demo.ts"
import { Display } from "./display.ts"
import { flags } from "./settings.ts"

const command = Command.make("demo", flags, demo).pipe(
  Command.withDescription("Does the same work without a limiter and with one, and draws what happens."),
  Command.provide(Layer.merge(backend, Display.layer))
)

command.pipe(Command.run({ version: manifest.version }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
