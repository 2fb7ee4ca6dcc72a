import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { startServer } from "./support/servers.ts"

const run = promisify(execFile)
const root = fileURLToPath(new URL("..", import.meta.url))

/** A program that uses both limiters over Redis and prints what came of it. */
const program = (url: string, body: string): string => `
  import { Effect, Fiber, Layer } from "effect"
  import { Semaphore, TokenBucket } from "steindamm"
  import { RedisClient, RedisLive } from "steindamm/redis"
  const main = Effect.gen(function* () {
    const bucket = yield* TokenBucket.make({ name: "bucket", capacity: 1, refillFrequency: "1 hour", maxSleep: 0 })
    const semaphore = yield* Semaphore.make({ name: "semaphore", capacity: 1, maxSleep: 0 })
    ${body}
  })
  const live = RedisLive.pipe(Layer.provide(RedisClient.layer({ url: ${JSON.stringify(url)} })))
  Effect.runPromise(main.pipe(Effect.provide(live))).then(() => console.log("ended"))`

const ends = (url: string, body: string) =>
  Effect.promise(async () => {
    const args = ["--conditions=steindamm-source", "--input-type=module", "-e", program(url, body)]
    const { stdout } = await run(process.execPath, args, { cwd: root, timeout: 15_000 })
    assert.strictEqual(stdout.trimEnd().split("\n").at(-1), "ended")
  })

describe("a process whose layer has closed", { timeout: 40_000 }, () => {
  it.live("ends by itself, with permits used and waits interrupted", () =>
    Effect.gen(function* () {
      const { url } = yield* startServer()
      yield* ends(
        url,
        `yield* bucket.withPermit(Effect.void)
         const waiting = yield* Effect.forkChild(bucket.withPermit(Effect.void))
         const holding = yield* Effect.forkChild(semaphore.withPermit(Effect.never))
         const queued = yield* Effect.forkChild(semaphore.withPermit(Effect.never))
         yield* Effect.sleep("200 millis")
         yield* Fiber.interruptAll([waiting, holding, queued])`
      )
    })
  )

  it.live("ends by itself, though Redis has stopped answering", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* server.pause
      yield* ends(
        server.url,
        `const waiting = yield* Effect.forkChild(bucket.withPermit(Effect.void))
         const queued = yield* Effect.forkChild(semaphore.withPermit(Effect.never))
         yield* Effect.sleep("200 millis")
         yield* Fiber.interruptAll([waiting, queued])`
      )
      yield* server.resume
    })
  )

  it.live("ends by itself, having gone on without Redis", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      yield* server.pause
      yield* ends(
        server.url,
        `const open = yield* TokenBucket.make({ name: "open", whenAway: "allow" })
         yield* open.withPermit(Effect.void)
         const shared = yield* TokenBucket.make({ name: "shared", refillFrequency: "1 hour", whenAway: { local: 1 } })
         yield* Effect.forkChild(shared.withPermit(Effect.void))
         const local = yield* Semaphore.make({ name: "local", capacity: 1, whenAway: { local: 1 } })
         yield* Effect.forkChild(local.withPermit(Effect.never))
         yield* Effect.forkChild(local.withPermit(Effect.never))
         yield* Effect.sleep("200 millis")`
      )
      yield* server.resume
    })
  )

  it.live("has brought every permit home, whatever was running or waiting", () =>
    Effect.gen(function* () {
      const { url } = yield* startServer()
      const leave = `for (let i = 0; i < 3; i++) {
          yield* Effect.forkChild(semaphore.withPermit(Effect.never), { startImmediately: true })
        }
        yield* Effect.sleep("200 millis")`
      yield* ends(url, leave)
      yield* ends(
        url,
        `const { held, waiting } = yield* semaphore.state
         if (held !== 0 || waiting !== 0) throw new Error("A permit was left over")`
      )
    })
  )
})
