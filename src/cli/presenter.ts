/**
 * Help and version go to standard output; what was wrong with the arguments goes to standard error, in a line each, with
 * a hint where help is to be found.
 */

import * as Console from "effect/Console"
import * as CliOutput from "effect/cli/CliOutput"
import * as Effect from "effect/Effect"

export const presenter: CliOutput.Presenter = {
  present: (event) => {
    if (event._tag !== "InvalidInvocation") return CliOutput.defaultPresenter.present(event)
    const { commandPath, errors } = event
    return Effect.andThen(
      Effect.forEach(errors, ({ message }) => Console.error(`steindamm: ${message.replaceAll(/\s*\n\s*/g, " ")}`), {
        discard: true
      }),
      Console.error(`Try: ${commandPath.join(" ")} --help`)
    )
  }
}
