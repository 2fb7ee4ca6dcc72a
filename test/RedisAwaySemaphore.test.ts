import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Option, References, Scope } from "effect"
import { Semaphore, type SemaphoreLimiter, type SemaphoreOptions, type WhenAway } from "steindamm"
import { RedisClient, redisSemaphoreLayer } from "steindamm/redis"
import { semaphoreScript } from "../src/internal/redisScripts.ts"
import { type Detour, makeDetour } from "./support/detour.ts"
import { start } from "./support/fibers.ts"
import { type Fault, faults, goOn, now, stop, until, untilAway, untilBack } from "./support/redisAway.ts"
import { quiet, run } from "./support/redisRun.ts"
import { runSwarm, type SwarmOptions, type SwarmResult } from "./support/semaphoreSwarm.ts"
import { type RedisServer, startServer } from "./support/servers.ts"

const capacity = 8

const swarm = (
  label: string,
  {
    whenAway,
    ...options
  }: Pick<SwarmOptions, "client" | "backends"> & { readonly whenAway: WhenAway } & Partial<SwarmOptions>
): Effect.Effect<SwarmResult> =>
  Effect.tap(
    Effect.orDie(
      runSwarm({
        semaphore: { name: "shared", capacity, expiry: "1 second", maxSleep: "5 seconds", whenAway },
        fibers: 20,
        hold: [0, 20],
        duration: 4500,
        ...options
      })
    ),
    ({ backendErrors, ...seen }) =>
      Effect.sync(() => console.log(label, JSON.stringify({ ...seen, backendErrors: backendErrors.length })))
  )

const during = ({ begin, end }: Fault) =>
  Effect.gen(function* () {
    yield* Effect.sleep("800 millis")
    yield* begin
    yield* Effect.sleep("2 seconds")
    yield* end
  })

describe("a semaphore that takes a share while Redis is away", { timeout: 60_000 }, () => {
  const assertSound = (result: SwarmResult) => {
    assert.deepStrictEqual(result.backendErrors, [])
    assert.strictEqual(result.lost, 0)
    assert.strictEqual(result.leftOver, 0)
    assert.strictEqual(result.stillWaiting, 0)
    assert.isBelow(result.longestStall, 1500)
  }

  for (const [name, faultOf] of Object.entries(faults)) {
    it.live(`never lets in more than there are permits if its process is alone, with Redis ${name} under load`, () =>
      Effect.gen(function* () {
        const server = yield* startServer({ appendOnly: true })
        const client = RedisClient.layer({ url: server.url })
        const meanwhile = during(faultOf(server))
        const result = yield* swarm(`${name}, 1 process`, { client, backends: 1, whenAway: { local: 1 }, meanwhile })
        assertSound(result)
        assert.isAtMost(result.peak, capacity)
      })
    )

    it.live(`adds the shares to what is held at Redis, and that not for long, with Redis ${name} under load`, () =>
      Effect.gen(function* () {
        const backends = 4
        const server = yield* startServer({ appendOnly: true })
        const client = RedisClient.layer({ url: server.url })
        const meanwhile = during(faultOf(server))
        const whenAway = { local: 1 / backends }
        const result = yield* swarm(`${name}, ${backends} processes`, { client, backends, whenAway, meanwhile })
        assertSound(result)
        assert.isAtMost(result.peak, 2 * capacity)
        assert.isBelow(result.longestOverlap, 1000)
      })
    )
  }

  it.live("leaves nothing behind of waits and work that are interrupted all the time", () =>
    Effect.gen(function* () {
      const server = yield* startServer({ appendOnly: true })
      const result = yield* swarm("interrupted", {
        client: RedisClient.layer({ url: server.url }),
        backends: 2,
        permits: [1, 2, 3],
        interruptWithin: 40,
        whenAway: { local: 0.5 },
        meanwhile: during({ begin: server.pause, end: server.resume })
      })
      assertSound(result)
      assert.isAbove(result.interrupted, 100)
      assert.isAtMost(result.peak, 2 * capacity)
    })
  )
})

const awayAfter = 200

type Options = Omit<SemaphoreOptions, "name">

const name = "lone"

const makeLimiter = (server: RedisServer, options: Options, over?: Detour) =>
  Effect.gen(function* () {
    const client = over?.layer ?? RedisClient.layer({ url: server.url })
    const layer = Layer.fresh(redisSemaphoreLayer({ awayAfter }).pipe(Layer.provide(Layer.fresh(client))))
    const context = yield* Layer.build(layer)
    return yield* Effect.provideContext(Semaphore.make({ name, ...options }), context)
  })

/** A limiter over a server that only it uses. */
const withLimiter = <A, E>(
  options: Options,
  use: (limiter: SemaphoreLimiter, server: RedisServer) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const server = yield* startServer()
    const limiter = yield* makeLimiter(server, options)
    return yield* use(limiter, server)
  }).pipe(Effect.provideService(References.MinimumLogLevel, "Error"), Effect.scoped)

/** A limiter with a share of everything, whose calls can be held up, and one of another process that sees what counts. */
const withDetour = <A, E>(
  use: (scene: {
    readonly limiter: SemaphoreLimiter
    readonly other: SemaphoreLimiter
    readonly server: RedisServer
    readonly detour: Detour
  }) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const server = yield* startServer()
    const detour = yield* makeDetour(RedisClient.layer({ url: server.url }))
    const limiter = yield* makeLimiter(server, { capacity: 1, expiry: 1500, whenAway: { local: 1 } }, detour)
    const other = yield* makeLimiter(server, { capacity: 1 })
    return yield* use({ limiter, other, server, detour })
  }).pipe(Effect.provideService(References.MinimumLogLevel, "Error"), Effect.scoped)

/** As `steindamm release` does it. */
const revoke = (server: RedisServer, id: string) =>
  Effect.gen(function* () {
    const { key, publishCommand } = yield* RedisClient
    const args = ["0", "cli", "0", publishCommand, "0", "revoke", id]
    yield* run(semaphoreScript, [key({ kind: "Semaphore", name })], { args })
  }).pipe(Effect.provide(quiet(RedisClient.layer({ url: server.url }))))

/** Work that holds permits until it is told to end. */
const hold = (limiter: SemaphoreLimiter, permits = 1) =>
  Effect.gen(function* () {
    const [begun, end] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    const work = Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(end))
    const fiber = yield* start(limiter.withPermits(permits)(work))
    return {
      begun: Deferred.await(begun),
      end: Effect.andThen(Deferred.succeed(end, undefined), Fiber.join(fiber)),
      fiber
    }
  })

/** Work with the only permit goes on while Redis is away for longer than its lease; then Redis counts it again. */
const outliveLease = Effect.fnUntraced(function* (
  limiter: SemaphoreLimiter,
  { leave, comeBack }: Record<"leave" | "comeBack", Effect.Effect<void>>
) {
  const holder = yield* hold(limiter)
  yield* holder.begun
  yield* leave
  yield* Effect.sleep("1 second")
  yield* comeBack
  yield* untilHeld(limiter, 1)
  return holder
})

/** It stands still for a while, and keeps its data. */
const standstill = (limiter: SemaphoreLimiter, server: RedisServer) => ({
  leave: stop(limiter, server),
  comeBack: goOn(limiter, server)
})

/** It loses its data. */
const restart = (limiter: SemaphoreLimiter, server: RedisServer) => ({
  leave: Effect.andThen(server.kill, untilAway(limiter)),
  comeBack: Effect.andThen(server.start({ empty: true }), untilBack(limiter))
})

const untilHeld = (limiter: SemaphoreLimiter, held: number, waiting = 0) =>
  until(Effect.map(limiter.state, (state) => state.held === held && state.waiting === waiting))

describe("a semaphore that allows everything while Redis is away", { timeout: 60_000 }, () => {
  it.live("gives permits without limit and without fencing tokens, and counts them", () =>
    withLimiter({ capacity: 1, whenAway: "allow" }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const permits = yield* Effect.forEach([1, 1, 1], (n) => limiter.acquire(n))
        assert.deepStrictEqual(
          permits.map(({ fencingToken }) => fencingToken),
          [0, 0, 0]
        )
        assert.strictEqual(new Set(permits.map(({ id }) => id)).size, 3)
        assert.isTrue(Option.isSome(yield* limiter.withPermitsIfAvailable(1)(Effect.void)))
        const { away, held, holders } = yield* limiter.state
        assert.deepInclude(away, { admitted: 4 })
        assert.strictEqual(held, 3)
        assert.strictEqual(holders.length, 3)
        yield* server.resume
      })
    )
  )

  it.live("counts what is still held when Redis is back, and gives nothing before that has ended", () =>
    withLimiter({ capacity: 2, whenAway: "allow" }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const holders = yield* Effect.forEach([1, 2, 3], () => hold(limiter))
        yield* goOn(limiter, server)
        yield* untilHeld(limiter, 2, 1)
        assert.isTrue(Option.isNone(yield* limiter.withPermitsIfAvailable(1)(Effect.void)))
        for (const { end } of holders) yield* end
        yield* untilHeld(limiter, 0)
        const permit = yield* limiter.acquire(2)
        assert.isAbove(permit.fencingToken, 0)
      })
    )
  )
})

describe("a semaphore of one process that takes a share while Redis is away", { timeout: 60_000 }, () => {
  it.live("gives as many permits as its share has whole ones, in order", () =>
    withLimiter({ capacity: 5, whenAway: { local: 0.5 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const [first, second] = [yield* hold(limiter), yield* hold(limiter)]
        const [third, fourth] = [yield* hold(limiter, 2), yield* hold(limiter)]
        assert.deepInclude(yield* limiter.state, { capacity: 2, held: 2, waiting: 2 })
        assert.isTrue(Option.isNone(yield* limiter.withPermitsIfAvailable(1)(Effect.void)))
        yield* first.end
        assert.deepInclude(yield* limiter.state, { held: 1, waiting: 2 })
        yield* second.end
        yield* third.begun
        assert.deepInclude(yield* limiter.state, { held: 2, waiting: 1 })
        yield* Fiber.interrupt(fourth.fiber)
        yield* third.end
        assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
        yield* server.resume
      })
    )
  )

  it.live("counts what it holds at Redis", () =>
    withLimiter({ capacity: 4, whenAway: { local: 0.5 } }, (limiter, server) =>
      Effect.gen(function* () {
        const [early, other] = [yield* hold(limiter), yield* hold(limiter)]
        yield* other.begun
        yield* stop(limiter, server)
        assert.isTrue(Option.isNone(yield* limiter.withPermitsIfAvailable(1)(Effect.void)))
        yield* early.end
        const permit = yield* limiter.acquire()
        assert.strictEqual(permit.fencingToken, 0)
        yield* other.end
        yield* goOn(limiter, server)
        yield* untilHeld(limiter, 1)
      })
    )
  )

  it.live("fails by maxSleep if it needs more than that, and so does a mutex that is shared", () =>
    Effect.gen(function* () {
      for (const [capacity, permits] of [
        [4, 3],
        [1, 1]
      ] as const) {
        yield* withLimiter({ capacity, maxSleep: 400, whenAway: { local: 0.5 } }, (limiter, server) =>
          Effect.gen(function* () {
            yield* stop(limiter, server)
            const begun = yield* now
            const error = yield* Effect.flip(limiter.withPermits(permits)(Effect.void))
            assert.strictEqual(error._tag, "BackendError")
            const took = (yield* now) - begun
            assert.isAtLeast(took, 399)
            assert.isBelow(took, 1400) // a busy machine may be late
            yield* server.resume
          })
        )
      }
    })
  )

  for (const [name, reason] of [
    ["stopped", "TimedOut"],
    ["out of memory", "OutOfMemory"]
  ] as const) {
    it.live(`says why Redis can't give what the share has not, if it is ${name}`, () =>
      withLimiter({ capacity: 1, maxSleep: 400, whenAway: { local: 0.5 } }, (limiter, server) =>
        Effect.gen(function* () {
          yield* limiter.withPermit(Effect.void)
          const fault = faults[name]?.(server)
          yield* fault?.begin ?? Effect.void
          const error = yield* Effect.flip(limiter.withPermit(Effect.void))
          assert.strictEqual(error._tag === "BackendError" && error.reason, reason)
          yield* fault?.end ?? Effect.void
        })
      )
    )
  }

  it.live("answers by maxSleep whoever waits for the share", () =>
    withLimiter({ capacity: 1, maxSleep: 400, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const holder = yield* hold(limiter)
        const error = yield* Effect.flip(limiter.withPermit(Effect.void))
        assert.strictEqual(error._tag, "MaxSleepExceeded")
        yield* holder.end
        yield* server.resume
      })
    )
  )

  it.live("lets work go on whose lease can't be renewed, and counts it again when Redis is back", () =>
    withLimiter({ capacity: 1, expiry: 600, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        const other = yield* makeLimiter(server, { capacity: 1 })
        const holder = yield* outliveLease(limiter, standstill(limiter, server))
        assert.isTrue(Option.isNone(yield* other.withPermitsIfAvailable(1)(Effect.void)))
        // It is renewed as any other.
        yield* Effect.sleep("1 second")
        assert.strictEqual((yield* other.state).held, 1)
        yield* holder.end
        yield* untilHeld(other, 0)
      })
    )
  )

  it.live("lets such work go on over a restart without data too", () =>
    withLimiter({ capacity: 1, expiry: 600, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        const holder = yield* outliveLease(limiter, restart(limiter, server))
        yield* holder.end
        yield* untilHeld(limiter, 0)
      })
    )
  )

  it.live("loses such a permit if somebody resets the semaphore when Redis is back", () =>
    withLimiter({ capacity: 1, expiry: 600, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        const other = yield* makeLimiter(server, { capacity: 1 })
        const holder = yield* outliveLease(limiter, standstill(limiter, server))
        yield* other.reset
        assert.strictEqual((yield* Effect.flip(Fiber.join(holder.fiber)))._tag, "PermitLost")
      })
    )
  )

  it.live("counts such work before anybody asks for more, though its renewal hasn't come through yet", () =>
    withDetour(({ limiter, other, server, detour }) =>
      Effect.gen(function* () {
        const holder = yield* hold(limiter)
        yield* holder.begun
        yield* untilHeld(other, 1)
        const { holders } = yield* other.state
        const renewal = yield* detour.holdUp("keep")
        yield* renewal.stopped
        yield* stop(limiter, server)
        const next = yield* hold(limiter)
        yield* Effect.sleep("1500 millis")
        yield* goOn(limiter, server)
        yield* renewal.letGo
        const isCounted = until(
          Effect.map(other.state, (state) => state.holders[0]?.id === holders[0]?.id && state.waiting === 1)
        )
        const first = yield* Effect.raceFirst(Effect.as(isCounted, "work"), Effect.as(next.begun, "next"))
        assert.strictEqual(first, "work")
        yield* holder.end
        yield* next.end
      })
    )
  )

  for (const [how, absence] of [
    ["under a new grant", standstill],
    ["under its old one", restart]
  ] as const) {
    it.live(`lets go of a permit that is taken away while it is being counted again, ${how}`, () =>
      withDetour(({ limiter, other, server, detour }) =>
        Effect.gen(function* () {
          const { leave, comeBack } = absence(limiter, server)
          const holder = yield* hold(limiter)
          yield* holder.begun
          // From its first wait on, a process hears of what is taken away.
          const waiting = yield* hold(limiter)
          yield* untilHeld(other, 1, 1)
          yield* Fiber.interrupt(waiting.fiber)
          const renewal = yield* detour.holdUp("keep")
          yield* renewal.stopped
          yield* leave
          yield* Effect.sleep("1500 millis")
          const reclaiming = yield* detour.holdUp("acquire", { isReplyLost: true })
          const back = yield* start(comeBack)
          yield* reclaiming.stopped
          yield* until(Effect.map(server.command("PUBSUB", "CHANNELS"), (channels) => String(channels) !== ""))
          for (const { id } of (yield* other.state).holders) yield* revoke(server, id)
          assert.strictEqual((yield* Effect.flip(Fiber.join(holder.fiber)))._tag, "PermitLost")
          // A release that doesn't wait for the answer has arrived by then.
          yield* Effect.sleep("100 millis")
          yield* Effect.all([reclaiming.letGo, renewal.letGo], { concurrency: "unbounded" })
          yield* Fiber.join(back)
          yield* untilBack(limiter)
          assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
        })
      )
    )
  }

  it.live("takes over who waits for a message from Redis that can't come, and hands over what it gave", () =>
    withLimiter({ capacity: 2, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        const other = yield* makeLimiter(server, { capacity: 2 })
        const elsewhere = yield* hold(other, 2)
        yield* elsewhere.begun
        const waiting = yield* hold(limiter)
        yield* untilHeld(other, 2, 1)
        const begun = yield* now
        yield* server.pause
        yield* waiting.begun
        assert.isBelow((yield* now) - begun, 1000)
        yield* goOn(limiter, server)
        // It holds without Redis, which counts it as soon as it can.
        yield* untilHeld(limiter, 2, 1)
        yield* elsewhere.end
        yield* untilHeld(limiter, 1)
        yield* waiting.end
        yield* untilHeld(limiter, 0)
      })
    )
  )

  it.live("asks Redis for those who wait, in their order, when that is back", () =>
    withLimiter({ capacity: 4, whenAway: { local: 0.25 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const holder = yield* hold(limiter)
        const order: Array<number> = []
        const waiting = yield* Effect.forEach(
          Array.from({ length: 10 }, (_, index) => index),
          (index) => start(limiter.withPermits((index % 2) + 1)(Effect.sync(() => order.push(index))))
        )
        yield* goOn(limiter, server)
        yield* Fiber.joinAll(waiting)
        assert.deepStrictEqual(
          order,
          order.toSorted((one, other) => one - other)
        )
        yield* holder.end
        yield* untilHeld(limiter, 0)
      })
    )
  )

  it.live("leaves nothing behind of who gave up or ended meanwhile", () =>
    withLimiter({ capacity: 2, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        const [one, other] = [yield* hold(limiter), yield* hold(limiter)]
        yield* other.begun
        const queued = yield* hold(limiter)
        yield* untilHeld(limiter, 2, 1)
        yield* server.pause
        const late = yield* hold(limiter)
        yield* untilAway(limiter)
        yield* Fiber.interrupt(queued.fiber)
        yield* one.end
        yield* late.begun
        yield* late.end
        yield* Fiber.interrupt(other.fiber)
        yield* goOn(limiter, server)
        yield* untilHeld(limiter, 0)
      })
    )
  )

  it.live("leaves nothing behind of a request that Redis runs after all", () =>
    withLimiter({ capacity: 1, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* server.pause
        yield* limiter.withPermit(Effect.void)
        yield* goOn(limiter, server)
        yield* untilHeld(limiter, 0)
      })
    )
  )

  it.live("lets nobody in beside work whose lease has run out", () =>
    withLimiter({ capacity: 1, expiry: 600, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        const holder = yield* hold(limiter)
        yield* holder.begun
        yield* stop(limiter, server)
        const next = yield* hold(limiter)
        yield* Effect.sleep("1 second")
        yield* goOn(limiter, server)
        yield* untilHeld(limiter, 1, 1)
        assert.isTrue(Option.isNone(yield* Effect.timeoutOption(next.begun, "500 millis")))
        yield* holder.end
        yield* next.begun
        yield* next.end
      })
    )
  )

  it.live("tells those who wait or hold that the layer closes", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const scope = yield* Scope.make()
      const limiter = yield* Scope.provide(makeLimiter(server, { capacity: 1, whenAway: { local: 1 } }), scope)
      yield* stop(limiter, server)
      const [holder, waiting] = [yield* hold(limiter), yield* hold(limiter)]
      yield* holder.begun
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Effect.flip(Fiber.join(holder.fiber)))._tag, "PermitLost")
      const error = yield* Effect.flip(Fiber.join(waiting.fiber))
      assert.strictEqual(error._tag === "BackendError" && error.reason, "Closed")
      assert.isUndefined(error.cause)
      yield* server.resume
    }).pipe(Effect.provideService(References.MinimumLogLevel, "Error"), Effect.scoped)
  )

  it.live("has a share of each key's permits", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const layer = redisSemaphoreLayer({ awayAfter, whenAway: { local: 0.5 } }).pipe(
        Layer.provide(RedisClient.layer({ url: server.url }))
      )
      yield* Effect.gen(function* () {
        const perUser = yield* Semaphore.makeKeyed({ name: "user", capacity: 2 })
        yield* server.pause
        const result = yield* perUser.withPermit("ada")(
          perUser.withPermit("grace")(perUser.withPermitsIfAvailable("ada", 1)(Effect.void))
        )
        assert.isTrue(Option.isNone(result))
        assert.deepInclude((yield* perUser.state("ada")).away, { admitted: 1 })
        yield* server.resume
      }).pipe(Effect.provide(Layer.fresh(layer)), Effect.provideService(References.MinimumLogLevel, "Error"))
    })
  )
})
