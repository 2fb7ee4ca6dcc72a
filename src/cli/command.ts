/**
 * All commands, in the surroundings that they run in.
 */
import * as CliConfig from "effect/cli/CliConfig"
import type * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import { whileOutputIsRead } from "./closedOutput.ts"
import { demoCommand } from "./demoCommand.ts"
import { inspect } from "./inspect.ts"
import { presenter } from "./presenter.ts"
import type { Problem } from "./problem.ts"
import { processServices } from "./processServices.ts"
import { release } from "./release.ts"
import { reset } from "./reset.ts"
import { resize } from "./resize.ts"
import { steindamm } from "./steindamm.ts"
import { top } from "./top.ts"

const command = steindamm.pipe(Command.withSubcommands([top, inspect, release, resize, reset, demoCommand]))

const surroundings = Layer.mergeAll(
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] }),
  CliOutput.layerPresenter(presenter),
  TerminalCapabilities.layer,
  // The commands tell in their own words what happens between them and Redis.
  Layer.succeed(References.MinimumLogLevel, "None")
).pipe(Layer.provideMerge(processServices))

/** Does what the arguments of this process ask for. */
export const run = (version: string): Effect.Effect<void, Problem | CliError.CliError> =>
  Command.run(command, { version }).pipe(Effect.provide(surroundings), whileOutputIsRead)
