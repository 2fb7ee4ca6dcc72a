import { assert, describe } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option } from "effect"
import { Semaphore, type SemaphoreOptions } from "steindamm"
import { inOrder, start } from "../support/fibers.ts"
import { assertTook, type Backend, caseFor, eventually, freshName, outliveMistake, timed } from "./harness.ts"

/** What any backend of semaphores owes to its users. */
export const semaphoreContract = (backend: Backend): unknown =>
  describe(`semaphore ${backend.label}`, () => {
    const claim = caseFor(backend)
    const took = (elapsed: number, expected: number) => assertTook(backend, elapsed, expected)
    const make = (options: Omit<SemaphoreOptions, "name"> = {}) => Semaphore.make({ name: freshName(), ...options })

    /** Work that goes on until it is told to end. */
    const work = Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      return {
        started: Deferred.await(started),
        end: Deferred.succeed(end, undefined),
        effect: Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(end))
      }
    })

    claim(
      "lets as many in as it has permits, and the next when one is back",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 2 })
        let inside = 0
        let peak = 0
        const section = Effect.gen(function* () {
          peak = Math.max(peak, ++inside)
          yield* Effect.sleep(100)
          inside--
        })
        const [, elapsed] = yield* timed(
          Effect.forEach([1, 2, 3, 4, 5, 6], () => limiter.withPermit(section), { concurrency: "unbounded" })
        )
        assert.strictEqual(peak, 2)
        took(elapsed, 300)
        assert.deepInclude(yield* limiter.state, { capacity: 2, held: 0, waiting: 0 })
      })
    )

    claim(
      "serves who comes next, whatever who watches the one before throws",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1 })
        const holding = yield* work
        const [holder] = yield* inOrder([limiter.withPermit(holding.effect)])
        yield* holding.started
        const waiting = yield* inOrder([1, 2, 3].map(() => limiter.withPermit(Effect.void)))
        yield* Effect.forkChild(holding.end)
        yield* outliveMistake(waiting)
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(holder as Fiber.Fiber<unknown>)))
        assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
      })
    )

    claim(
      "loses what it holds to a reset, whatever who watches the one before throws",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 2 })
        const sections = [yield* work, yield* work]
        const holders = yield* inOrder(sections.map(({ effect }) => Effect.flip(limiter.withPermit(effect))))
        for (const { started } of sections) yield* started
        yield* Effect.forkChild(limiter.reset)
        yield* outliveMistake(holders)
        assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
      })
    )

    claim(
      "is ready at once after looks and refusals that found it unused",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1 })
        yield* limiter.state
        yield* limiter.reset
        assert.strictEqual((yield* Effect.flip(limiter.withPermits(2)(Effect.void)))._tag, "InvalidOptions")
        const [, elapsed] = yield* timed(limiter.withPermit(Effect.void))
        took(elapsed, 0)
      })
    )

    claim(
      "gives what the work gives, and brings permits back however the work ends",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1 })
        assert.strictEqual(yield* limiter.withPermit(Effect.succeed("value")), "value")
        assert.strictEqual(yield* Effect.flip(limiter.withPermit(Effect.fail("failure"))), "failure")
        yield* Effect.exit(limiter.withPermit(Effect.die("defect")))
        yield* Effect.exit(limiter.withPermit(Effect.interrupt))
        const wrapped = limiter.wrap((a: number) => Effect.succeed(a * 2))
        assert.strictEqual(yield* wrapped(2), 4)
        assert.strictEqual((yield* limiter.state).held, 0)
      })
    )

    claim(
      "keeps the permit of work that is interrupted until it has cleaned up",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1 })
        const first = yield* work
        const events: Array<string> = []
        const note = (event: string) => Effect.sync(() => events.push(event))
        const cleanUp = Effect.andThen(Effect.sleep(50), note("cleaned up"))
        const holder = yield* start(limiter.withPermit(Effect.ensuring(first.effect, cleanUp)))
        yield* first.started
        const next = yield* start(limiter.withPermit(note("next")))
        yield* Fiber.interrupt(holder)
        assert.strictEqual(events[0], "cleaned up")
        yield* Fiber.join(next)
        assert.deepStrictEqual(events, ["cleaned up", "next"])
      })
    )

    claim(
      "serves strictly in order of arrival: small requests don't overtake a large one",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 3 })
        const first = yield* work
        const order: Array<string> = []
        const say = (word: string) => Effect.sync(() => order.push(word))
        const holder = yield* start(limiter.withPermit(first.effect))
        yield* first.started
        const fibers = yield* inOrder([
          limiter.withPermits(3)(say("large")),
          limiter.withPermits(1)(say("small")),
          limiter.withPermits(2)(say("middle"))
        ])
        yield* eventually(limiter.state, ({ held, waiting }) => held === 1 && waiting === 3)
        assert.deepStrictEqual(order, [])
        yield* first.end
        yield* Fiber.joinAll([holder, ...fibers])
        assert.strictEqual(order[0], "large")
        assert.strictEqual(order.length, 3)
      })
    )

    claim(
      "refuses more permits than it has, at once",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 2 })
        for (const permits of [3, 0, 1.5, -1, Number.NaN]) {
          const [error, elapsed] = yield* timed(Effect.flip(limiter.withPermits(permits)(Effect.void)))
          assert.strictEqual(error._tag, "InvalidOptions")
          assert.deepInclude(error, { field: "permits", value: permits })
          took(elapsed, 0)
        }
      })
    )

    claim(
      "fails at maxSleep, and has not lost its place to anyone by then",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1, maxSleep: 300 })
        const first = yield* work
        const holder = yield* start(limiter.withPermit(first.effect))
        yield* first.started
        const [error, elapsed] = yield* timed(Effect.flip(limiter.withPermit(Effect.void)))
        assert.strictEqual(error._tag, "MaxSleepExceeded")
        took(elapsed, 300)
        assert.deepInclude(yield* limiter.state, { held: 1, waiting: 0 })
        yield* first.end
        yield* Fiber.join(holder)
        yield* limiter.withPermit(Effect.void)
      })
    )

    claim(
      "lets those behind go on when a large request at the head gives up",
      Effect.gen(function* () {
        const name = freshName()
        const patient = yield* Semaphore.make({ name, capacity: 2 })
        const impatient = yield* Semaphore.make({ name, capacity: 2, maxSleep: 200 })
        const first = yield* work
        const holder = yield* start(patient.withPermit(first.effect))
        yield* first.started
        const [error, elapsed] = yield* timed(
          Effect.gen(function* () {
            const large = yield* start(Effect.flip(impatient.withPermits(2)(Effect.void)))
            yield* eventually(patient.state, ({ waiting }) => waiting === 1)
            yield* patient.withPermit(Effect.void)
            return yield* Fiber.join(large)
          })
        )
        took(elapsed, 200)
        assert.strictEqual(error._tag, "MaxSleepExceeded")
        yield* first.end
        yield* Fiber.join(holder)
      })
    )

    claim(
      "withPermitsIfAvailable never waits and never jumps the queue",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 2 })
        const first = yield* work
        assert.deepStrictEqual(yield* limiter.withPermitsIfAvailable(2)(Effect.succeed("ran")), Option.some("ran"))
        const holder = yield* start(limiter.withPermit(first.effect))
        yield* first.started
        assert.deepStrictEqual(yield* limiter.withPermitsIfAvailable(2)(Effect.succeed("ran")), Option.none())
        const large = yield* start(limiter.withPermits(2)(Effect.void))
        yield* eventually(limiter.state, ({ waiting }) => waiting === 1)
        const [refused, elapsed] = yield* timed(limiter.withPermitsIfAvailable(1)(Effect.succeed("ran")))
        assert.deepStrictEqual(refused, Option.none())
        took(elapsed, 0)
        yield* first.end
        yield* Fiber.join(holder)
        yield* Fiber.join(large)
      })
    )

    claim(
      "a wait that is interrupted leaves the queue, and those behind it go on",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 2 })
        const first = yield* work
        const holder = yield* start(limiter.withPermit(first.effect))
        yield* first.started
        const large = yield* start(limiter.withPermits(2)(Effect.void))
        const small = yield* start(limiter.withPermit(Effect.void))
        yield* eventually(limiter.state, ({ waiting }) => waiting === 2)
        yield* Fiber.interrupt(large)
        yield* Fiber.join(small)
        yield* first.end
        yield* Fiber.join(holder)
        assert.deepInclude(yield* limiter.state, { held: 0, waiting: 0 })
      })
    )

    claim(
      "acquire keeps permits until the scope closes, and tells what it holds",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 3 })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const permit = yield* limiter.acquire(2)
            const { held, holders } = yield* limiter.state
            assert.strictEqual(held, 2)
            assert.deepStrictEqual(
              holders.map(({ id, permits, fencingToken }) => ({ id, permits, fencingToken })),
              [{ id: permit.id, permits: 2, fencingToken: permit.fencingToken }]
            )
          })
        )
        assert.deepInclude(yield* limiter.state, { held: 0, holders: [] })
      })
    )

    claim(
      "every grant has a greater fencing token than those before it",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1 })
        const token = Effect.map(Effect.scoped(limiter.acquire()), ({ fencingToken }) => fencingToken)
        const tokens = yield* Effect.all([token, token, Effect.andThen(limiter.reset, token), token])
        assert.deepStrictEqual(
          tokens,
          Array.from(new Set(tokens)).sort((a, b) => a - b)
        )
      })
    )

    claim(
      "resize to more wakes waiters at once",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1 })
        const [first, second] = yield* Effect.all([work, work])
        const fibers = yield* inOrder([limiter.withPermit(first.effect), limiter.withPermit(second.effect)])
        yield* first.started
        yield* limiter.resize(2)
        yield* second.started
        assert.deepInclude(yield* limiter.state, { capacity: 2, held: 2 })
        yield* Effect.all([first.end, second.end])
        yield* Fiber.joinAll(fibers)
      })
    )

    claim(
      "resize to less grants nothing until enough permits are back, and refuses what no longer fits",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 3 })
        const [first, second] = yield* Effect.all([work, work])
        const holders = yield* inOrder([limiter.withPermits(2)(first.effect), limiter.withPermit(second.effect)])
        yield* Effect.all([first.started, second.started])
        const large = yield* start(Effect.flip(limiter.withPermits(3)(Effect.void)))
        const small = yield* start(limiter.withPermit(Effect.succeed("ran")))
        yield* eventually(limiter.state, ({ waiting }) => waiting === 2)
        yield* limiter.resize(1)
        assert.strictEqual((yield* Fiber.join(large))._tag, "InvalidOptions")
        yield* second.end
        yield* eventually(limiter.state, ({ held }) => held === 2)
        assert.deepInclude(yield* limiter.state, { capacity: 1, held: 2, waiting: 1 })
        yield* first.end
        assert.strictEqual(yield* Fiber.join(small), "ran")
        yield* Fiber.joinAll(holders)
        assert.strictEqual((yield* Effect.flip(limiter.resize(0)))._tag, "InvalidOptions")
      })
    )

    claim(
      "refuses at once what resize has left no room for, though others wait before it",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 3 })
        const first = yield* work
        yield* limiter.resize(1)
        const fibers = yield* inOrder([limiter.withPermit(first.effect), limiter.withPermit(Effect.void)])
        yield* first.started
        yield* eventually(limiter.state, ({ waiting }) => waiting === 1)
        const [error, elapsed] = yield* timed(Effect.flip(limiter.withPermits(2)(Effect.void)))
        assert.deepInclude(error, { _tag: "InvalidOptions", field: "permits", value: 2 })
        took(elapsed, 0)
        yield* first.end
        yield* Fiber.joinAll(fibers)
      })
    )

    claim(
      "reset takes every permit away, and everyone notices",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 2 })
        let interrupted = false
        const first = yield* work
        const guarded = limiter.withPermit(
          Effect.onInterrupt(first.effect, () =>
            Effect.sync(() => {
              interrupted = true
            })
          )
        )
        const holder = yield* start(guarded)
        yield* first.started
        yield* Effect.scoped(
          Effect.gen(function* () {
            const permit = yield* limiter.acquire()
            const waiting = yield* start(limiter.withPermit(Effect.succeed("waited")))
            yield* eventually(limiter.state, ({ waiting }) => waiting === 1)
            yield* limiter.reset
            const lost = yield* Effect.flip(permit.lost)
            assert.deepInclude(lost, { permitId: permit.id, fencingToken: permit.fencingToken })
            const error = yield* Effect.flip(Fiber.join(holder))
            assert.strictEqual(error._tag, "PermitLost")
            assert.isTrue(interrupted)
            assert.strictEqual(yield* Fiber.join(waiting), "waited")
          })
        )
        yield* eventually(limiter.state, ({ held, waiting }) => held === 0 && waiting === 0)
      })
    )

    claim(
      "work that must not be interrupted runs on when its permit is lost, and ends with that news",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 1 })
        const first = yield* work
        const holder = yield* start(Effect.uninterruptible(limiter.withPermit(first.effect)))
        yield* first.started
        yield* limiter.reset
        yield* Effect.sleep(200)
        assert.isUndefined(holder.pollUnsafe())
        yield* first.end
        const error = yield* Effect.flip(Fiber.join(holder))
        assert.strictEqual(error._tag, "PermitLost")
      })
    )

    claim(
      "reset forgets what resize said, and lets in no more than there are permits",
      Effect.gen(function* () {
        const limiter = yield* make({ capacity: 3 })
        yield* limiter.resize(1)
        let inside = 0
        let peak = 0
        const section = Effect.gen(function* () {
          peak = Math.max(peak, ++inside)
          yield* Effect.sleep(100)
        }).pipe(
          Effect.ensuring(
            Effect.sync(() => {
              inside--
            })
          )
        )
        const fibers = yield* inOrder(Array.from({ length: 10 }, () => Effect.exit(limiter.withPermit(section))))
        yield* Effect.sleep(50)
        yield* limiter.reset
        const exits = yield* Fiber.joinAll(fibers)
        assert.strictEqual(exits.filter(Exit.isFailure).length, 1)
        assert.strictEqual(peak, 3)
        assert.deepInclude(yield* limiter.state, { capacity: 3, held: 0, waiting: 0 })
      })
    )

    claim(
      "is shared by name, each request seeing its own limiter's capacity",
      Effect.gen(function* () {
        const name = freshName()
        const small = yield* Semaphore.make({ name, capacity: 1, maxSleep: 100 })
        const large = yield* Semaphore.make({ name, capacity: 2 })
        const first = yield* work
        const patient = yield* Semaphore.make({ name, capacity: 1 })
        const holder = yield* start(patient.withPermit(first.effect))
        yield* first.started
        assert.strictEqual((yield* Effect.flip(small.withPermit(Effect.void)))._tag, "MaxSleepExceeded")
        assert.strictEqual(yield* large.withPermit(Effect.succeed("fits")), "fits")
        yield* first.end
        yield* Fiber.join(holder)
      })
    )
  })
