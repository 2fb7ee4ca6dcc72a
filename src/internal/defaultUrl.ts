/**
 * Where Redis is if a program or a command doesn't say.
 */
import * as Config from "effect/Config"
import * as Redacted from "effect/Redacted"

export const defaultUrl: Config.Config<Redacted.Redacted> = Config.Redacted("REDIS_URL").pipe(
  Config.withDefault(Redacted.make("redis://localhost:6379"))
)
