import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Logger, Option, References, Scope } from "effect"
import {
  type AnyLimiter,
  type InvalidOptions,
  Limiter,
  type LimiterError,
  type LimiterKind,
  Semaphore,
  TokenBucket,
  type TokenBucketLimiter,
  type TokenBucketOptions,
  type WhenAway
} from "steindamm"
import { RedisClient, type RedisLayerOptions, redisLayer, redisTokenBucketLayer } from "steindamm/redis"
import { excess, runSwarm, type SwarmOptions, type SwarmResult } from "./support/bucketSwarm.ts"
import { start } from "./support/fibers.ts"
import { startProxy } from "./support/proxy.ts"
import { type Fault, faults, goOn, isAway, now, stop, until, untilAway, untilBack } from "./support/redisAway.ts"
import { type RedisServer, startCluster, startServer } from "./support/servers.ts"

const backends = 4

/** A hundred a second. */
const bucket = { name: "hungry", capacity: 10, refillAmount: 1, refillFrequency: 10, maxSleep: 1000 }

const duration = 4000

/** How old news may be under load, in milliseconds. */
const late = 150

const live = (client: Layer.Layer<RedisClient, InvalidOptions>, options: RedisLayerOptions) =>
  Layer.fresh(redisTokenBucketLayer(options).pipe(Layer.provide(client)))

/** What limiters log goes into a list, by a logger of its own. */
const logged = (messages: Array<string>): Layer.Layer<never> =>
  Logger.layer([Logger.make(({ message }) => messages.push(String(message)))])

const swarm = (
  label: string,
  options: Pick<SwarmOptions, "client"> & { readonly whenAway: WhenAway; readonly meanwhile: Effect.Effect<unknown> }
): Effect.Effect<SwarmResult> =>
  Effect.tap(
    Effect.orDie(
      runSwarm({
        client: options.client,
        meanwhile: options.meanwhile,
        bucket: { ...bucket, whenAway: options.whenAway },
        backends,
        fibers: 5,
        duration
      })
    ),
    (result) =>
      Effect.sync(() =>
        console.log(
          label,
          JSON.stringify({
            admitted: result.admissions.length,
            bound: bucket.capacity + duration / bucket.refillFrequency,
            excess: Math.round(excess(result, bucket, 0)),
            maxSleepExceeded: result.maxSleepExceeded,
            backendErrors: result.backendErrors.length,
            longestStall: Math.round(longestStall(result)),
            latest: Math.round(result.latest)
          })
        )
      )
  )

const longestStall = ({ admissions }: SwarmResult): number =>
  Math.max(...admissions.map((at, index) => at - (admissions[index - 1] ?? 0)))

describe("a token bucket that takes a share while Redis is away", { timeout: 60_000 }, () => {
  const keepsLimit = (name: string, client: Layer.Layer<RedisClient, InvalidOptions>, { begin, end }: Fault) =>
    Effect.gen(function* () {
      const meanwhile = Effect.gen(function* () {
        yield* Effect.sleep("800 millis")
        yield* begin
        yield* Effect.sleep("1600 millis")
        yield* end
      })
      const result = yield* swarm(name, { client, whenAway: { local: 1 / backends }, meanwhile })
      // Those who waited at Redis when it went away keep what they were promised: one each.
      const promised = backends * 5
      // When one has noticed that Redis is back, the others add their shares until they notice as well.
      const noticed = 250
      const shares = (1 - 1 / backends) * (bucket.capacity + noticed / bucket.refillFrequency)
      assert.isAtMost(excess(result, bucket, late), promised + shares)
      assert.deepStrictEqual(result.backendErrors, [])
      assert.isBelow(longestStall(result), 1000)
      assert.isBelow(result.latest, 250)
    })

  for (const [name, faultOf] of Object.entries(faults)) {
    it.live(`keeps the limit of all processes together, with Redis ${name} under load`, () =>
      Effect.gen(function* () {
        const server = yield* startServer({ appendOnly: true })
        yield* keepsLimit(name, RedisClient.layer({ url: server.url }), faultOf(server))
      })
    )
  }

  it.live("keeps it with a Redis that is too slow under load", () =>
    Effect.gen(function* () {
      const proxy = yield* startProxy(yield* startServer())
      const latencyOf = (millis: number) =>
        Effect.sync(() => {
          proxy.latency = millis
        })
      const fault = { begin: latencyOf(700), end: latencyOf(0) }
      yield* keepsLimit("slow", RedisClient.layer({ url: proxy.url }), fault)
    })
  )

  /** The most while some see Redis and others don't: those add their shares, of what the bucket holds and of its rate. */
  const excessBeside = (result: SwarmResult, without: number) =>
    excess(
      result,
      {
        ...bucket,
        capacity: bucket.capacity * (1 + without / backends),
        refillAmount: bucket.refillAmount * (backends + without),
        refillFrequency: bucket.refillFrequency * backends
      },
      late
    )

  it.live(
    "adds shares to what Redis admits and no more, with one that takes about as long as makes it pass for away",
    () =>
      Effect.gen(function* () {
        const proxy = yield* startProxy(yield* startServer())
        const meanwhile = Effect.gen(function* () {
          yield* Effect.sleep("800 millis")
          for (let turn = 0; turn < 15; turn++) {
            proxy.latency = turn % 2 === 0 ? 270 : 230
            yield* Effect.sleep(80 + ((37 * turn) % 150))
          }
          proxy.latency = 0
        })
        const client = RedisClient.layer({ url: proxy.url })
        const result = yield* swarm("about as slow", { client, whenAway: { local: 1 / backends }, meanwhile })
        assert.isAtMost(excessBeside(result, backends - 1), backends * 5)
      })
  )

  it.live("adds shares to what Redis admits and no more, with one that is too slow for half of them", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const proxy = yield* startProxy(server)
      let clients = 0
      const client = Layer.suspend(() => RedisClient.layer({ url: clients++ % 2 === 0 ? server.url : proxy.url }))
      const meanwhile = Effect.gen(function* () {
        yield* Effect.sleep("800 millis")
        proxy.latency = 300
      })
      const result = yield* swarm("slow for half", { client, whenAway: { local: 1 / backends }, meanwhile })
      assert.strictEqual(clients, backends)
      assert.isAtMost(excessBeside(result, backends / 2), backends * 5)
    })
  )
})

describe("a Redis that goes away and comes back", { timeout: 60_000 }, () => {
  const noticed = (
    name: string,
    client: Layer.Layer<RedisClient, InvalidOptions>,
    { begin, end }: Fault,
    outage = 1500
  ) =>
    Effect.gen(function* () {
      const messages: Array<string> = []
      yield* Effect.gen(function* () {
        const limiter = yield* TokenBucket.make({ name: "watched", capacity: 1000, refillAmount: 1000 })
        const load = yield* Effect.forkChild(
          Effect.forever(Effect.andThen(Effect.orDie(limiter.withPermit(Effect.void)), Effect.sleep("1 millis")))
        )
        yield* Effect.sleep("200 millis")
        yield* begin
        const left = yield* untilAway(limiter)
        yield* Effect.sleep(outage)
        yield* end
        const back = yield* untilBack(limiter)
        yield* Fiber.interrupt(load)
        console.log(name, JSON.stringify({ noticedAwayAfter: Math.round(left), noticedBackAfter: Math.round(back) }))
        assert.isBelow(left, 1000)
        assert.isBelow(back, 1000)
      }).pipe(Effect.provide(live(client, { whenAway: "allow" })), Effect.provide(logged(messages)))
      const ours = messages.filter((message) => /without it/.test(message))
      assert.match(ours[0] ?? "", /^Redis is away \(\w+\): limiters go on without it/)
      assert.match(ours[1] ?? "", /^Redis is back after .+; \d+ permits were given without it$/)
      // On a busy machine it may really have been away once more.
      assert.isTrue(
        ours.every((message, index) => message.startsWith(index % 2 === 0 ? "Redis is away" : "Redis is back"))
      )
    })

  for (const [name, faultOf] of Object.entries(faults)) {
    it.live(`is noticed in time, and told once, if it is ${name}`, () =>
      Effect.gen(function* () {
        const server = yield* startServer()
        yield* noticed(name, RedisClient.layer({ url: server.url }), faultOf(server))
      })
    )
  }

  it.live("is noticed in time, and told once, if it is too slow", () =>
    Effect.gen(function* () {
      const proxy = yield* startProxy(yield* startServer())
      const latencyOf = (millis: number) =>
        Effect.sync(() => {
          proxy.latency = millis
        })
      yield* noticed("slow", RedisClient.layer({ url: proxy.url }), { begin: latencyOf(400), end: latencyOf(0) })
    })
  )

  for (const kind of ["TokenBucket", "Semaphore"] as const) {
    it.live(`is not taken to be away once more by those who come back with little time left, of a ${kind}`, () =>
      Effect.gen(function* () {
        const messages: Array<string> = []
        yield* Effect.gen(function* () {
          const server = yield* startServer()
          const proxy = yield* startProxy(server)
          proxy.latency = 50
          const live = Layer.fresh(redisLayer({ awayAfter: "1 second", whenAway: { local: 1 } })).pipe(
            Layer.provide(RedisClient.layer({ url: proxy.url }))
          )
          yield* Effect.gen(function* () {
            const make = (maxSleep: number): Effect.Effect<AnyLimiter, InvalidOptions, Semaphore | TokenBucket> =>
              kind === "TokenBucket"
                ? TokenBucket.make({ name: "lone", capacity: 1, refillFrequency: 20, maxSleep })
                : Semaphore.make({ name: "lone", capacity: 1, maxSleep })
            const ask = ({ withPermit }: AnyLimiter, work: Effect.Effect<void>) =>
              start(Effect.exit<void, unknown, never>(withPermit(work)))
            const limiter = yield* make(0)
            yield* stop(limiter, server)
            const holder = yield* ask(limiter, Effect.never)
            // One of them comes back with less time left than an answer takes, whenever that is.
            const waiting = yield* Effect.forEach(
              Array.from({ length: 60 }, (_, index) => 20 * index + 35),
              (maxSleep) => Effect.flatMap(make(maxSleep), (limiter) => ask(limiter, Effect.void))
            )
            yield* server.resume
            yield* Fiber.joinAll(waiting)
            yield* Fiber.interrupt(holder)
          }).pipe(Effect.provide(live))
        }).pipe(Effect.provide(logged(messages)))
        assert.strictEqual(messages.filter((message) => message.startsWith("Redis is away")).length, 1)
      })
    )
  }

  for (const outage of [300, 1000, 2000, 3500]) {
    it.live(`is noticed in time if its connections have been silent for ${outage} ms and stay so`, () =>
      Effect.gen(function* () {
        const proxy = yield* startProxy(yield* startServer())
        const fault = {
          begin: Effect.sync(() => {
            proxy.mode = "blackhole"
          }),
          end: Effect.sync(() => {
            proxy.goHalfOpen()
            proxy.mode = "pass"
          })
        }
        yield* noticed("silent", RedisClient.layer({ url: proxy.url }), fault, outage)
      })
    )
  }
})

const awayAfter = 200

/** A limiter over a server that only it uses. */
const withLimiter = <A, E>(
  options: Omit<TokenBucketOptions, "name">,
  use: (limiter: TokenBucketLimiter, server: RedisServer) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const server = yield* startServer()
    const layer = live(RedisClient.layer({ url: server.url }), { awayAfter })
    const context = yield* Layer.build(layer)
    const limiter = yield* Effect.provideContext(TokenBucket.make({ name: "lone", ...options }), context)
    return yield* use(limiter, server)
  }).pipe(Effect.provideService(References.MinimumLogLevel, "Error"), Effect.scoped)

/** Nothing refills while a test runs. */
const hourly = { refillFrequency: "1 hour" } as const

describe("a token bucket that allows everything while Redis is away", { timeout: 60_000 }, () => {
  it.live("lets work through without limit, and counts it", () =>
    withLimiter({ ...hourly, capacity: 1, whenAway: "allow" }, (limiter, server) =>
      Effect.gen(function* () {
        yield* limiter.withPermit(Effect.void)
        yield* server.pause
        const work = Array.from({ length: 100 }, (_, index) => limiter.withPermit(Effect.succeed(index)))
        yield* Effect.all(work, { concurrency: "unbounded" })
        const { away } = yield* limiter.state
        assert.strictEqual(away?.admitted, 100)
        assert.isAtLeast(Duration.toMillis(away?.duration ?? Duration.zero), awayAfter)
        yield* goOn(limiter, server)
        // Nothing of it is charged, and the limit holds again.
        const { tokens, wait } = yield* limiter.state
        assert.strictEqual(tokens, 0)
        assert.isAbove(Duration.toMinutes(wait), 59)
      })
    )
  )

  it.live("lets reservations and attempts through as well, and forgets what is given back", () =>
    withLimiter({ ...hourly, capacity: 2, whenAway: "allow" }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const reservation = yield* limiter.reserve(2)
        assert.isTrue(Duration.isZero(reservation.delay))
        assert.isTrue(Option.isSome(yield* limiter.withPermitsIfAvailable(2)(Effect.void)))
        const permit = yield* limiter.acquire(2)
        yield* permit.settle(5)
        assert.strictEqual((yield* limiter.state).away?.admitted, 9)
        yield* reservation.cancel
        assert.strictEqual((yield* limiter.state).away?.admitted, 7)
        yield* server.resume
      })
    )
  )

  it.live("does so from the start if Redis is not there", () =>
    withLimiter({ capacity: 1, whenAway: "allow" }, (limiter, server) =>
      Effect.gen(function* () {
        yield* server.kill
        assert.strictEqual(yield* limiter.withPermit(Effect.succeed("ran")), "ran")
        yield* server.start()
        yield* untilBack(limiter)
        assert.strictEqual((yield* limiter.state).tokens, 1)
      })
    )
  )

  it.live("fails all the same when something is wrong that no waiting mends", () =>
    withLimiter({ whenAway: "allow" }, (limiter, server) =>
      Effect.gen(function* () {
        yield* server.command("SET", "steindamm:{lone}:token-bucket", "something else")
        const error = yield* Effect.flip(limiter.withPermit(Effect.void))
        assert.strictEqual(error._tag === "BackendError" && error.reason, "WrongType")
        assert.isFalse(yield* isAway(limiter).pipe(Effect.catch(() => Effect.succeed(false))))
      })
    )
  )
})

describe("a token bucket of one process that takes a share while Redis is away", { timeout: 60_000 }, () => {
  it.live("is charged at Redis for what was taken without it", () =>
    withLimiter({ capacity: 10, refillFrequency: 200, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        yield* until(Effect.map(limiter.state, ({ tokens }) => tokens >= 8))
        assert.isTrue(Option.isSome(yield* limiter.withPermitsIfAvailable(8)(Effect.void)))
        yield* goOn(limiter, server)
        // The bucket at Redis has been full all the time.
        assert.isAtMost((yield* limiter.state).tokens, 4)
      })
    )
  )

  for (const isPaused of [false, true]) {
    it.live(`lets nobody run before those whom Redis had promised tokens${isPaused ? ", nor after a pause" : ""}`, () =>
      withLimiter({ capacity: 1, refillFrequency: 20, whenAway: { local: 1 } }, (limiter, server) =>
        Effect.gen(function* () {
          const order: Array<number> = []
          const ask = (index: number) => start(limiter.withPermit(Effect.sync(() => order.push(index))))
          const promised = yield* Effect.forEach(
            Array.from({ length: 40 }, (_, index) => index),
            ask
          )
          yield* until(Effect.map(limiter.state, ({ wait }) => Duration.toMillis(wait) > 500))
          yield* stop(limiter, server)
          const late = yield* ask(40)
          if (isPaused) yield* limiter.pause("20 millis")
          yield* Fiber.joinAll([...promised, late])
          assert.strictEqual(order.at(-1), 40)
          yield* server.resume
        })
      )
    )
  }

  it.live("asks Redis again for those who wait, in their order, when that is back", () =>
    withLimiter({ capacity: 10, refillFrequency: 10, whenAway: { local: 0.01 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const order: Array<number> = []
        const waiting = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, index) => index),
          (index) => start(limiter.withPermit(Effect.sync(() => order.push(index))))
        )
        yield* goOn(limiter, server)
        const begun = yield* now
        yield* Fiber.joinAll(waiting)
        assert.isBelow((yield* now) - begun, 1000)
        assert.deepStrictEqual(
          order,
          order.toSorted((one, other) => one - other)
        )
      })
    )
  )

  it.live("answers those who had asked Redis, by their maxSleep", () =>
    withLimiter({ capacity: 10, refillFrequency: 100, maxSleep: 400, whenAway: { local: 0.1 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* limiter.withPermit(Effect.void)
        yield* server.pause
        const begun = yield* now
        const error = yield* Effect.flip(limiter.withPermits(2)(Effect.void))
        assert.strictEqual(error._tag, "MaxSleepExceeded")
        assert.isBelow((yield* now) - begun, 400)
        yield* server.resume
      })
    )
  )

  it.live("gives back what an interrupted wait was to take", () =>
    withLimiter({ capacity: 10, whenAway: { local: 0.5 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        const waiting = yield* start(limiter.withPermits(5)(Effect.void))
        assert.strictEqual((yield* limiter.state).away?.admitted, 5)
        yield* Fiber.interrupt(waiting)
        assert.strictEqual((yield* limiter.state).away?.admitted, 0)
        yield* server.resume
      })
    )
  )

  it.live("pauses, and tells Redis of what is left of the pause", () =>
    withLimiter({ capacity: 10, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* stop(limiter, server)
        yield* limiter.pause("1 minute")
        assert.isAbove(Duration.toSeconds((yield* limiter.state).wait), 59)
        yield* goOn(limiter, server)
        assert.isAbove(Duration.toSeconds((yield* limiter.state).wait), 55)
      })
    )
  )

  it.live("keeps to a pause of its process that Redis was told of, unless a reset has ended it", () =>
    withLimiter({ capacity: 10, refillFrequency: 10, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        yield* limiter.pause("1 hour")
        yield* stop(limiter, server)
        assert.isAbove(Duration.toMinutes((yield* limiter.state).wait), 50)
        yield* goOn(limiter, server)
        yield* limiter.reset
        yield* stop(limiter, server)
        assert.isBelow(Duration.toMinutes((yield* limiter.state).wait), 1)
        yield* server.resume
      })
    )
  )

  it.live("settles what was taken at Redis without waiting for that", () =>
    withLimiter({ ...hourly, capacity: 10, whenAway: { local: 1 } }, (limiter, server) =>
      Effect.gen(function* () {
        const [less, more] = [yield* limiter.reserve(3), yield* limiter.reserve(2)]
        yield* stop(limiter, server)
        const begun = yield* now
        yield* less.settle(1)
        yield* more.settle(4)
        assert.isBelow((yield* now) - begun, 1000)
        yield* goOn(limiter, server)
        yield* until(Effect.map(limiter.state, ({ tokens }) => tokens === 5))
      })
    )
  )

  it.live("fails if it never refills, for there is no rate to share", () =>
    withLimiter(
      { capacity: 10, refillAmount: 0, refillFrequency: 0, maxSleep: 300, whenAway: { local: 1 } },
      (limiter, server) =>
        Effect.gen(function* () {
          yield* server.pause
          const error = yield* Effect.flip(limiter.withPermit(Effect.void))
          assert.strictEqual(error._tag, "BackendError")
          yield* server.resume
        })
    )
  )
})

describe("the layer of a Redis that may be away", { timeout: 60_000 }, () => {
  it.live("says what limiters do that don't say it themselves", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const layer = live(RedisClient.layer({ url: server.url }), { whenAway: "allow", awayAfter })
      yield* Effect.gen(function* () {
        const open = yield* TokenBucket.make({ name: "open" })
        const closed = yield* TokenBucket.make({ name: "closed", maxSleep: 300, whenAway: "fail" })
        const perUser = yield* TokenBucket.makeKeyed({ name: "user" })
        yield* server.pause
        assert.strictEqual(yield* open.withPermit(Effect.succeed("ran")), "ran")
        assert.strictEqual(yield* perUser.withPermit("ada")(Effect.succeed("ran")), "ran")
        assert.strictEqual((yield* perUser.state("ada")).away?.admitted, 1)
        assert.strictEqual((yield* Effect.flip(closed.withPermit(Effect.void)))._tag, "BackendError")
        yield* server.resume
      }).pipe(Effect.provide(layer), Effect.provideService(References.MinimumLogLevel, "Error"))
    })
  )

  it.live("judges each shard of a cluster by itself", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster({ config: { "cluster-node-timeout": "15000" } })
      const client = RedisClient.layer({ nodes: [cluster.url] })
      const layer = Layer.fresh(redisLayer({ whenAway: "allow", awayAfter })).pipe(Layer.provideMerge(client))
      yield* Effect.gen(function* () {
        const redis = yield* RedisClient
        const [away, there] = cluster.primaries
        const nameOn = (server: RedisServer | undefined, kind: LimiterKind) =>
          Effect.gen(function* () {
            for (let n = 0; ; n++) {
              const name = `limiter ${n}`
              if ((yield* cluster.ownerOf(redis.slotOf(redis.key({ kind, name })))).port === server?.port) return name
            }
          })
        const bucket = yield* TokenBucket.make({ ...hourly, capacity: 1, name: yield* nameOn(away, "TokenBucket") })
        const semaphore = yield* Semaphore.make({ capacity: 1, name: yield* nameOn(away, "Semaphore") })
        const other = yield* TokenBucket.make({ ...hourly, capacity: 1, name: yield* nameOn(there, "TokenBucket") })
        yield* bucket.withPermit(Effect.void)
        yield* away?.pause ?? Effect.void
        yield* bucket.withPermit(Effect.void)
        yield* semaphore.withPermit(semaphore.withPermit(Effect.void))
        yield* other.withPermit(Effect.void)
        assert.isTrue(yield* isAway(bucket))
        assert.isTrue(yield* isAway(semaphore))
        assert.isFalse(yield* isAway(other))
        assert.isTrue(Option.isNone(yield* other.withPermitsIfAvailable(1)(Effect.void)))
        yield* away?.resume ?? Effect.void
        assert.isBelow(yield* untilBack(bucket), 1000)
        assert.isBelow(yield* untilBack(semaphore), 1000)
      }).pipe(Effect.provide(layer), Effect.provideService(References.MinimumLogLevel, "Error"))
    })
  )

  for (const who of ["a token bucket", "a semaphore", "several limiters"] as const) {
    it.live(`goes on without Redis by the maxSleep of ${who}, if that is shorter`, () =>
      Effect.gen(function* () {
        const server = yield* startServer()
        const client = RedisClient.layer({ url: server.url })
        const layer = Layer.fresh(redisLayer({ whenAway: "allow", awayAfter: "1 minute" })).pipe(Layer.provide(client))
        yield* Effect.gen(function* () {
          const bucket = yield* TokenBucket.make({ name: "bucket", maxSleep: 100 })
          const semaphore = yield* Semaphore.make({ name: "semaphore", maxSleep: 100 })
          const work: Record<typeof who, Effect.Effect<void, unknown>> = {
            "a token bucket": bucket.withPermit(Effect.void),
            "a semaphore": semaphore.withPermit(Effect.void),
            "several limiters": Limiter.all([bucket, semaphore]).withPermit(Effect.void)
          }
          yield* server.pause
          yield* work[who]
          yield* server.resume
        }).pipe(Effect.provide(layer), Effect.provideService(References.MinimumLogLevel, "Error"))
      })
    )
  }

  it.live("refuses everything when it is closed, though Redis is away", () =>
    Effect.gen(function* () {
      const server = yield* startServer()
      const scope = yield* Scope.make()
      const client = RedisClient.layer({ url: server.url })
      const layer = Layer.fresh(redisLayer({ whenAway: "allow", awayAfter })).pipe(Layer.provide(client))
      const context = yield* Scope.provide(Layer.build(layer), scope)
      const [bucket, semaphore] = yield* Effect.all([
        TokenBucket.make({ name: "bucket" }),
        Semaphore.make({ name: "semaphore" })
      ]).pipe(Effect.provideContext(context))
      yield* server.pause
      yield* untilAway(bucket)
      yield* untilAway(semaphore)
      yield* Scope.close(scope, Exit.void)
      for (const limiter of [bucket, semaphore] as ReadonlyArray<AnyLimiter>) {
        const error = yield* Effect.flip<void, LimiterError<AnyLimiter>, never>(limiter.withPermit(Effect.void))
        assert.strictEqual(error._tag === "BackendError" && error.reason, "Closed")
      }
      yield* server.resume
    }).pipe(Effect.provideService(References.MinimumLogLevel, "Error"), Effect.scoped)
  )

  it.live("looks for Redis no more when it is closed while calls are on their way", () =>
    Effect.gen(function* () {
      const proxy = yield* startProxy(yield* startServer())
      const messages: Array<string> = []
      const client = yield* Layer.build(RedisClient.layer({ url: proxy.url }))
      const scope = yield* Scope.make()
      const layer = live(Layer.succeedContext(client), { whenAway: "allow", awayAfter }).pipe(
        Layer.provide(logged(messages))
      )
      const context = yield* Scope.provide(Layer.build(layer), scope)
      const limiter = yield* Effect.provideContext(TokenBucket.make({ ...hourly, name: "lone" }), context)
      const reservation = yield* limiter.reserve()
      proxy.latency = awayAfter / 4
      const asking = yield* start(Effect.exit(limiter.state))
      yield* Effect.sleep("1 millis")
      // It goes when the other one has been answered, and finds the layer closing.
      yield* reservation.cancel
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* Fiber.join(asking)
      proxy.mode = "dropReplies"
      yield* Fiber.join(closing)
      assert.deepStrictEqual(messages, [])
    }).pipe(Effect.scoped)
  )

  it.effect("is not built with options that break their rules", () =>
    Effect.gen(function* () {
      const refused = (options: unknown) =>
        Effect.flip(Layer.build(live(RedisClient.layer(), options as RedisLayerOptions)))
      for (const value of ["never", { local: 0 }, { local: 2 }, {}]) {
        assert.deepInclude(yield* refused({ whenAway: value }), { _tag: "InvalidOptions", field: "whenAway", value })
      }
      for (const value of [0, -1, "soon", "Infinity", Number.NaN]) {
        assert.deepInclude(yield* refused({ awayAfter: value }), { _tag: "InvalidOptions", field: "awayAfter" })
      }
      assert.deepInclude(yield* refused({ whenaway: "fail" }), { _tag: "InvalidOptions", field: "whenaway" })
    }).pipe(Effect.scoped)
  )
})
