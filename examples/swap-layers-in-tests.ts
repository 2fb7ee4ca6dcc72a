/**
 * A program says which limiters it needs; a layer says where their state lives. So tests need no Redis and no patience:
 * over memory and a test clock, an hour passes at once.
 *
 * With the variable REDIS_URL set, the program then runs over that Redis as well, without any change.
 *
 *     npx node --conditions steindamm-source examples/swap-layers-in-tests.ts
 */
import { Clock, Config, ConfigProvider, Console, Duration, Effect, Fiber, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"

// The program -------------------------------------------------------------------------------------------------------

class MailLimit extends TokenBucket.Service<MailLimit>()("MailLimit", {
  name: "mails",
  capacity: 2,
  refillFrequency: Config.Duration("MAIL_EVERY").pipe(Config.withDefault(Duration.minutes(20))),
  maxSleep: "1 day"
}) {}

class SmtpConnections extends Semaphore.Service<SmtpConnections>()("SmtpConnections", { name: "smtp", capacity: 1 }) {}

const Limits = Layer.merge(MailLimit.layer, SmtpConnections.layer)

/** Sends mails, and tells when each of them was on its way. */
const sendAll = Effect.fn("sendAll")(function* (recipients: ReadonlyArray<string>) {
  const limit = yield* MailLimit
  const connections = yield* SmtpConnections
  const send = (_recipient: string) => connections.withPermit(Clock.currentTimeMillis)
  const begun = yield* Clock.currentTimeMillis
  const sent = yield* Effect.forEach(recipients, limit.wrap(send), { concurrency: "unbounded" })
  return sent.map((time) => Duration.millis(time - begun))
})

// Its test ----------------------------------------------------------------------------------------------------------

const everyone = ["ada", "alan", "barbara", "edsger", "grace"]

const test = Effect.gen(function* () {
  const sending = yield* Effect.forkChild(sendAll(everyone))
  yield* TestClock.adjust("1 hour")
  const sent = yield* Fiber.join(sending)
  const minutes = sent.map(Duration.toMinutes)
  if (minutes.join() !== "0,0,20,40,60") return yield* Effect.die(`sent after ${minutes} minutes`)
  yield* Console.log(`tested an hour at once: sent after ${minutes.join(", ")} minutes`)
})

await Effect.runPromise(
  test.pipe(Effect.provide(Limits.pipe(Layer.provide(LocalLive))), Effect.provide(TestClock.layer()))
)

// In production -----------------------------------------------------------------------------------------------------

const production = Effect.gen(function* () {
  const url = yield* Config.option(Config.String("REDIS_URL"))
  if (Option.isNone(url)) return yield* Console.log("set REDIS_URL to run the same over Redis")
  const live = Limits.pipe(Layer.provide(RedisLive), Layer.provide(RedisClient.layer({ url: url.value })))
  const sent = yield* Effect.provide(sendAll(everyone), live)
  const millis = Math.max(...sent.map(Duration.toMillis))
  yield* Console.log(`sent over Redis, the last of them after ${millis} milliseconds`)
})

const faster = ConfigProvider.layerAdd(ConfigProvider.fromUnknown({ MAIL_EVERY: "200 millis" }))

await Effect.runPromise(production.pipe(Effect.provide(faster)))
