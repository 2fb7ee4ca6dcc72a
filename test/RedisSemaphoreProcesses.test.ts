import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import type { SemaphoreLimiter } from "steindamm"
import { examine, fairness, type Line, micros, sectionsOf } from "./support/history.ts"
import type { SemaphoreProcess } from "./support/semaphoreProcesses.ts"
import { assertSound, each, emptied, end, go, lease, say, sceneAt, semaphoreOf } from "./support/semaphoreScene.ts"
import type { Work } from "./support/semaphoreWorker.ts"
import { type RedisServer, startServer, until } from "./support/servers.ts"

/** What timers, polling and scheduling may add on a busy machine, in milliseconds. */
const slack = 300
/** A stopped process has to notice within so many milliseconds that it goes on without its permit. */
const noticing = 100

/** On a server of its own. */
const scene = Effect.fnUntraced(function* (name: string, capacity: number, work: Partial<Work> = {}) {
  const server = yield* startServer()
  return { server, ...(yield* sceneAt(server.url, name, capacity, work)) }
})

/** Takes the only permits, until the effect that it gives is run. */
const occupy = Effect.fnUntraced(function* (limiter: SemaphoreLimiter, permits: number) {
  const scope = yield* Scope.make()
  yield* Scope.provide(limiter.acquire(permits), scope)
  return Scope.close(scope, Exit.void)
})

const waiting = (limiter: SemaphoreLimiter, count: number) =>
  until(Effect.map(limiter.state, (state) => state.waiting === count))

/** The first of them that is seen in a section. */
const someoneInside = (processes: ReadonlyArray<SemaphoreProcess>): Effect.Effect<SemaphoreProcess> =>
  Effect.suspend(() => {
    const one = processes.find((process) => sectionsOf(process.history()).some(({ end }) => end === Infinity))
    return one === undefined ? Effect.andThen(Effect.yieldNow, someoneInside(processes)) : Effect.succeed(one)
  })

/** Of a permit id, which is weight.capacity.process.serial. */
const processOf = (id: string) => id.split(".")[2]

describe("a semaphore of several processes", { timeout: 60_000 }, () => {
  it.live("is shared fairly, and never by more than there are permits", () =>
    Effect.gen(function* () {
      const capacity = 5
      const { processes, limiter } = yield* scene("calm", capacity, { hold: [0, 20] })
      const four = yield* processes.startMany(4, {})
      yield* each(four, go)
      yield* Effect.sleep("2 seconds")
      yield* each(four, end)
      const lines = processes.history()
      const settled = yield* emptied(limiter)
      const found = examine(lines, capacity)
      const sections = sectionsOf(lines)
      const allIn = Math.max(...four.map(({ pid }) => sections.find((one) => one.pid === pid)?.start ?? 0))
      const counted = sections.filter(({ start }) => start >= allIn)
      const countOf = (pid: number, worker: number) =>
        counted.filter((one) => one.pid === pid && one.worker === worker).length
      const workers = four.flatMap(({ pid }) => Array.from({ length: 10 }, (_, worker) => countOf(pid, worker)))
      const jain = fairness(workers)
      yield* say("calm", { ...found, jain, settled })
      assertSound(found, capacity)
      assert.strictEqual(found.peak, capacity)
      assert.strictEqual(found.lost, 0)
      assert.isAtLeast(jain, 0.95)
    })
  )

  it.live("gets back within a lease what a killed process held", () =>
    Effect.gen(function* () {
      const capacity = 5
      const { processes, limiter } = yield* scene("killed holder", capacity, { hold: [20, 60] })
      let four = yield* processes.startMany(4, {})
      yield* each(four, go)
      const freedAfter: Array<number> = []
      const died: Array<number> = []
      for (let round = 0; round < 3; round++) {
        const spare = yield* processes.start({})
        yield* Effect.sleep("500 millis")
        const victim = yield* someoneInside(four)
        const killed = yield* victim.kill
        const sections = sectionsOf(victim.history())
        died.push(sections.filter((one) => one.end === killed).length)
        const gone = processOf(sections[0]?.id ?? "")
        yield* go(spare)
        four = [...four.filter((one) => one !== victim), spare]
        yield* until(Effect.map(limiter.state, ({ holders }) => holders.every(({ id }) => processOf(id) !== gone)))
        freedAfter.push((micros() - killed) / 1000)
      }
      yield* each(four, end)
      const settled = yield* emptied(limiter)
      const found = examine(processes.history(), capacity)
      yield* say("killed holder", { ...found, died, freedAfter, settled })
      assertSound(found, capacity)
      assert.strictEqual(found.lost, 0)
      assert.isAbove(Math.max(...died), 0)
      for (const time of freedAfter) assert.isAtMost(time, lease + slack)
      assert.isAtMost(settled, lease + slack)
    })
  )

  it.live("does not wait longer than a lease for a killed process at the head of the queue", () =>
    Effect.gen(function* () {
      const capacity = 1
      const { processes, limiter } = yield* scene("killed waiter", capacity, { hold: [0, 5], rounds: 1 })
      const [head, ...others] = yield* processes.startMany(4, {})
      assert.isDefined(head)
      const giveBack = yield* occupy(limiter, 1)
      yield* go(head)
      yield* waiting(limiter, 10)
      yield* each(others, go)
      yield* waiting(limiter, 40)
      const killed = yield* head.kill
      yield* giveBack
      yield* each(others, end)
      const settled = yield* emptied(limiter)
      const lines = processes.history()
      const found = examine(lines, capacity)
      const heldUp = ((sectionsOf(lines)[0]?.start ?? Infinity) - killed) / 1000
      yield* say("killed waiter", { ...found, heldUp, settled })
      assertSound(found, capacity)
      assert.strictEqual(found.admissions, 30)
      assert.isAtMost(heldUp, lease + slack)
    })
  )

  const outlived = (
    name: string,
    stopAndGoOn: (holder: SemaphoreProcess, later: SemaphoreProcess) => Effect.Effect<unknown>
  ) =>
    Effect.gen(function* () {
      const capacity = 1
      const { processes, limiter } = yield* scene(name, capacity, { fibers: 1, rounds: 1 })
      const holder = yield* processes.start({ isGuarded: true })
      const later = yield* processes.start({})
      yield* go(holder)
      yield* holder.wrote("in")
      yield* go(later)
      yield* waiting(limiter, 1)
      yield* stopAndGoOn(holder, later)
      yield* holder.wrote("lost")
      yield* each([holder, later], end)
      const settled = yield* emptied(limiter)
      const lines = processes.history()
      const found = examine(lines, capacity)
      const momentOf = (event: Line["event"]) => lines.find((line) => line.event === event)?.t ?? Infinity
      const [stale, next] = sectionsOf(lines)
      const noticed = ((stale?.end ?? Infinity) - momentOf("continued")) / 1000
      const toldLost = (momentOf("lost") - momentOf("continued")) / 1000
      const tokenGrew = (next?.fencingToken ?? 0) - (stale?.fencingToken ?? Infinity)
      yield* say(name, { ...found, noticed, toldLost, tokenGrew, settled })
      assert.strictEqual(found.admissions, 2)
      assert.isTrue(stale?.isLost)
      assert.isFalse(next?.isLost)
      assert.isAbove(tokenGrew, 0)
      assert.isAbove(next?.start ?? 0, momentOf("stopped"))
      assert.isBelow(next?.start ?? Infinity, momentOf("continued"))
      assert.isAtLeast(noticed, 0)
      assert.isBelow(noticed, noticing)
      assert.isAtMost(found.longestOverlap, noticed)
    })

  it.live("tells a holder that was stopped past its lease as soon as it goes on", () =>
    outlived("stopped holder", (holder, later) =>
      Effect.andThen(holder.pause, Effect.andThen(later.wrote("in"), holder.resume))
    )
  )

  it.live("tells a holder whose event loop was blocked past its lease as soon as it turns again", () =>
    outlived("blocked holder", (holder, later) =>
      Effect.andThen(holder.tell(`block ${lease * 1.5}`), later.wrote("in"))
    )
  )

  it.live("serves processes in the order of their arrival", () =>
    Effect.gen(function* () {
      const capacity = 1
      const { processes, limiter } = yield* scene("order", capacity, { fibers: 1, rounds: 1, hold: [0, 0] })
      const four = yield* processes.startMany(4, {})
      const giveBack = yield* occupy(limiter, 1)
      const arrived: Array<string> = []
      for (let round = 0; round < 10; round++) {
        for (const one of four) {
          yield* go(one)
          arrived.push(`${one.pid} ${round}`)
          yield* waiting(limiter, arrived.length)
        }
      }
      yield* giveBack
      yield* each(four, end)
      yield* emptied(limiter)
      const lines = processes.history()
      const found = examine(lines, capacity)
      const served = [...sectionsOf(lines)].sort((a, b) => a.fencingToken - b.fencingToken)
      yield* say("order", found)
      assertSound(found, capacity)
      assert.deepStrictEqual(
        served.map(({ pid, worker }) => `${pid} ${worker}`),
        arrived
      )
      assert.deepStrictEqual(served, sectionsOf(lines))
    })
  )

  it.live("grants to each process within the capacity that it believes in, and lets nobody pass", () =>
    Effect.gen(function* () {
      const [few, many] = [2, 5]
      const { processes, limiter } = yield* scene("disagreement", many, { hold: [0, 20] })
      const cautious = yield* processes.startMany(2, { semaphore: semaphoreOf("disagreement", few) })
      const four = [...cautious, ...(yield* processes.startMany(2, {}))]
      yield* each(four, go)
      yield* Effect.sleep("2 seconds")
      yield* each(four, end)
      const settled = yield* emptied(limiter)
      const lines = processes.history()
      const found = examine(lines, many)
      const sections = sectionsOf(lines)
      const pids = cautious.map(({ pid }) => pid)
      // Whoever was granted before and is still inside was inside when this one was granted.
      const beside = sections
        .filter(({ pid }) => pids.includes(pid))
        .map((one) => sections.filter((other) => other.fencingToken < one.fencingToken && other.end > one.start).length)
      const shares = four.map(({ pid }) => sections.filter((one) => one.pid === pid).length / sections.length)
      yield* say("disagreement", { ...found, beside: Math.max(...beside), shares, settled })
      assertSound(found, many)
      assert.strictEqual(found.lost, 0)
      assert.isAbove(found.peak, few)
      assert.isBelow(Math.max(...beside), few)
      assert.isAtLeast(fairness(shares), 0.95)
    })
  )

  it.live("costs Redis three calls for each process and lease while everyone waits", () =>
    Effect.gen(function* () {
      const capacity = 5
      const { server, processes, limiter } = yield* scene("idle", capacity, { permits: capacity, rounds: 1 })
      const four = yield* processes.startMany(4, {})
      yield* each(four, go)
      yield* waiting(limiter, 39)
      yield* until(Effect.map(channelsOf(server), (channels) => channels === four.length))
      const before = yield* callsTo(server)
      const leases = 3
      yield* Effect.sleep(leases * lease)
      const calls = (yield* callsTo(server)) - before
      yield* each(four, end)
      yield* emptied(limiter)
      const found = examine(processes.history(), capacity)
      const expected = four.length * 3 * leases
      yield* say("idle", { ...found, calls, expected })
      assertSound(found, capacity)
      assert.strictEqual(found.lost, 0)
      // One look each, now that messages arrive, for what was granted before; and one liveness call more or less.
      assert.isAtMost(calls, expected + 2 * four.length)
    })
  )

  it.live("renews, gives back and hands on permits while the server is out of memory", () =>
    Effect.gen(function* () {
      const capacity = 5
      const hold = lease * 1.3
      const { server, processes, limiter } = yield* scene("out of memory", capacity, {
        fibers: 2,
        rounds: 1,
        hold: [hold, hold]
      })
      const four = yield* processes.startMany(4, {})
      yield* each(four, go)
      yield* until(Effect.map(limiter.state, ({ held, waiting }) => held === 5 && waiting === 3))
      yield* server.command("CONFIG", "SET", "maxmemory", 1)
      const write = yield* Effect.exit(server.command("SET", "something", "else"))
      assert.isTrue(Exit.isFailure(write))
      const outs = () => processes.history().filter(({ event }) => event === "out").length
      yield* until(Effect.sync(() => outs() === 8))
      yield* each(four, end)
      const settled = yield* emptied(limiter)
      const found = examine(processes.history(), capacity)
      yield* say("out of memory", { ...found, settled })
      assertSound(found, capacity)
      assert.strictEqual(found.admissions, 8)
      assert.strictEqual(found.lost, 0)
    })
  )
})

/** Commands that came from clients: those that scripts run are counted by Redis as well. */
const callsTo = (server: RedisServer) =>
  Effect.map(server.command("INFO", "commandstats"), (info) => {
    const counts = [...String(info).matchAll(/cmdstat_(evalsha|eval|ping|s?subscribe|script\|load):calls=(\d+)/g)]
    return counts.reduce((sum, [, , calls]) => sum + Number(calls), 0)
  })

/** How many channels somebody listens to: a process begins to when it has to wait for the first time. */
const channelsOf = (server: RedisServer) =>
  Effect.map(server.command("PUBSUB", "CHANNELS"), (channels) => (channels as ReadonlyArray<string>).length)
