import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { type SemaphoreResult, semaphoreScript } from "../src/internal/redisScripts.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { type Build, build, encode, replaceOnce, runProgram } from "./support/semaphoreFuzz.ts"
import type { Operation } from "./support/semaphoreModel.ts"
import type { Counts } from "./support/semaphoreProgram.ts"
import { connect, startCluster, startServer } from "./support/servers.ts"

/** Operations of one run; a long run is asked for by the environment. */
const fuzzOperations = Number(process.env["STEINDAMM_FUZZ_STEPS"] ?? 60_000)

const source = readFileSync(new URL("../lua/semaphore.lua", import.meta.url), "utf8")

const second = 1_000_000
const minute = 60 * second

interface Reply {
  readonly time: number
  readonly next: number
  readonly notices: ReadonlyArray<string>
  readonly results: ReadonlyArray<SemaphoreResult>
}

const run = async (
  redis: Redis,
  key: string,
  { now = 0, client = "a", notAfter = 0, publish = "", grace = 0 },
  ...operations: ReadonlyArray<Operation>
): Promise<Reply> => {
  const header = [now, client, notAfter, publish, grace]
  const reply = await redis.eval(source, 1, key, ...header, ...operations.flatMap(encode))
  const [time, next, notices, results] = semaphoreScript.decode(reply)
  return { time, next, notices, results }
}

const acquire = (id: string, { lease = minute, giveUp = -1, ticket = 0 } = {}): Operation => ({
  _tag: "acquire",
  id,
  lease,
  giveUp,
  ticket
})
const release = (id: string): Operation => ({ _tag: "release", id })
const keep = (id: string, fence = 0): Operation => ({ _tag: "keep", id, lease: minute, fence })
const look: Operation = { _tag: "look", count: 1000 }

const codes = ({ results }: Reply) => results.map(([code]) => code)

describe("lua/semaphore.lua", () => {
  let redis: Redis
  const users: Array<string> = []
  beforeAll(() => {
    redis = new Redis(inject("redisUrl"))
  })
  afterAll(async () => {
    if (users.length > 0) await redis.call("ACL", "DELUSER", ...users)
    await redis.quit()
  })

  /** A connection to the node of the shared cluster that has a key. */
  const ownerOf = async (key: string): Promise<Redis> => {
    const node = new Redis(inject("clusterUrl"))
    const slot = Number(await node.cluster("KEYSLOT", key))
    const ranges = (await node.cluster("SLOTS")) as unknown as Array<[number, number, [string, number]]>
    node.disconnect()
    const [, , [host, port]] = ranges.find(([first, last]) => first <= slot && slot <= last) ?? [0, 0, ["", 0]]
    return new Redis(port, host)
  }

  /** A connection that may do anything but one command. */
  const userWithout = async (command: string): Promise<Redis> => {
    const username = randomUUID()
    users.push(username)
    await redis.call("ACL", "SETUSER", username, "on", "nopass", "~*", "&*", "+@all", `-${command}`)
    return redis.duplicate({ username, password: "any", enableReadyCheck: false })
  }

  describe("over random programs", () => {
    // Two at a time, so that the server works while we compare.
    const runPrograms = async (builds: readonly [Build, Build], firstSeed: number, counts: Counts) => {
      const prefix = freshKeyPrefix()
      await Promise.all(builds.map((one, i) => runProgram(redis, one, prefix, firstSeed + i, counts)))
    }

    const buildBoth = async (text: string) => [await build(redis, text, 200), await build(redis, text, 3)] as const

    it("decides as the model, tells whom it should, and keeps its counters right", { timeout: 3_600_000 }, async () => {
      const builds = await buildBoth(source)
      const counts: Counts = {}
      for (let seed = 1; (counts["operations"] ?? 0) < fuzzOperations; seed += 2) {
        await runPrograms(builds, seed, counts)
      }
      console.log(JSON.stringify(counts))
      const everything = [
        ...["held", "queued", "busy", "refused", "late"].map((code) => `acquire ${code}`),
        ...["released", "left", "unknown"].map((code) => `release ${code}`),
        ...["released", "unknown"].map((code) => `revoke ${code}`),
        ...["held", "queued", "unknown", "late"].map((code) => `keep ${code}`),
        ...["resize resized", "resize late", "reset reset", "reset late", "look look"],
        ...["notice grant", "notice refuse", "notice revoke", "notice reset"],
        ...["clock set back", "data lost", "process crashed", "recovered", "sent again"]
      ]
      for (const what of everything) assert.isAbove(counts[what] ?? 0, fuzzOperations / 100_000, what)
    })

    it.each<readonly [mistake: string, from: string, to: string]>([
      ["newcomers pass the queue", "elseif waiting == 0 and used", "elseif used"],
      ["one permit too many", "elseif used + weight > limit then", "elseif used + weight > limit + 1 then"],
      ["leases never end", "if now >= leaseDue then", "if false then"],
      ["a lease is looked at too late", "min(leaseDue, ends)", "leaseDue"],
      ["all leases are taken to end later", "return first and tonumber(first) - class or width", "return width"],
      ["leases that moved are not looked at", "if leasesMoved then", "if false then"],
      ["nobody gives up", "if now >= giveUpDue then", "if false then"],
      ["who gives up soon is looked at too late", "min(giveUpDue, ends)", "giveUpDue"],
      ["what nobody holds frees permits", "place, result = places[id], nil", "place, result = places[id] or 0, nil"],
      ["a second release in one call frees again", "places[id] = false\n      changed", "changed"],
      ["leaving is not counted", "waiting, last = waiting - 1, 0", "last = 0"],
      ["who left still gives up", "removed[n + 3] = 'G' .. id", ""],
      ["a holder still gives up", "if giveUpDue < width then removed[#removed + 1] = 'G' .. first end", ""],
      ["a release serves nobody", "changed, headMayFit = true, true\n      if place", "changed = true\n      if place"],
      ["who loses a permit is not told", "notify(notices, owner, format('revoke %s %.0f', id, place))", ""],
      ["a place in the queue is revoked", "if not place or operation == 'revoke' and place < holders", "if not place"],
      ["a resize serves nobody", "changed, headMayFit = true, true\n    capacity", "changed = true\n    capacity"],
      ["an old ticket at the head waits", "else headMayFit, last = true, 0 end", "else last = 0 end"],
      ["old tickets are given again", "token = max(token, ticket)", "token = nextToken(token, now)"],
      ["a fencing token comes twice", "and now or token + 1", "and now or token"],
      ["fencing tokens ignore the time", "return token < now and now or token + 1", "return token + 1"],
      ["lost permits come back", "if fence == 0 or graceEnd == 0 then", "if fence == 0 then"],
      ["recovered fencing tokens come again", "token = max(token, fence)", ""],
      ["grants during the grace", "and graceEnd == 0 and not workLeft do", "and not workLeft do"],
      ["newcomers hold during the grace", "<= limit and graceEnd == 0", "<= limit"],
      ["grants before all overdue are gone", "and graceEnd == 0 and not workLeft do", "and graceEnd == 0 do"],
      ["newcomers hold before all overdue are gone", "and not workLeft then", "then"],
      ["the grace is a second short", "(tonumber(uptime) - 1)", "tonumber(uptime)"],
      ["the grace never ends", "if graceEnd > 0 and graceEnd <= now then", "if false then"],
      ["the end of the grace is no chance", "graceEnd > 0 and min(leaseDue, graceEnd) - now or", ""],
      ["nobody looks after the grace", "graceEnd, headMayFit = 0, true", "graceEnd = 0"],
      ["nobody goes on with work that was left", "headMayFit = unserved == 1", "headMayFit = false"],
      ["late requests are served", "late = notAfter > 0 and serverTime > notAfter", "late = false"],
      ["time runs backwards", "max(lag, clock - serverTime)", "0"],
      ["the lag is forgotten", "capacity, now, lag,", "capacity, now, 0,"],
      [
        "a waiter that asks again waits twice",
        "if place then\n      -- H",
        "if place and place >= holders then\n      -- H"
      ],
      [
        "a holder that asks again holds twice",
        "if place then\n      -- H",
        "if place and place < holders then\n      -- H"
      ],
      [
        "a keep extends nothing",
        "min(now + duration, width - 1)",
        "min(places[id] and now + 1 or now + duration, width - 1)"
      ],
      ["a reset gives no new fencing token", "token = nextToken(token, now)\n    result", "result"],
      [
        "a reset leaves the capacity",
        "used, waiting, capacity, graceEnd = 0, 0, 0, 0",
        "used, waiting, graceEnd = 0, 0, 0"
      ],
      [
        "a reset leaves the grace",
        "used, waiting, capacity, graceEnd = 0, 0, 0, 0",
        "used, waiting, capacity = 0, 0, 0"
      ],
      ["trying waits", "elseif giveUp == 0 then result = 'busy'", ""],
      [
        "a waiter that became too large blocks",
        "if weight > limit then\n",
        "if weight > limit then break elseif false then\n"
      ],
      ["resize is ignored", "capacity > 0 and capacity or", ""],
      ["others are not told", "notices[receiver] = list", ""],
      ["numbers are rounded", "local fence, n = format('%.0f'", "local fence, n = format('%.15g'"],
      ["a release waits for the queue", "if headMayFit and operation ~= 'release' then", "if headMayFit then"],
      ["work without bound", "waiting > 0 and served < batch", "waiting > 0"],
      ["overdue work that is left is forgotten", "workLeft = workLeft or #overdue == batch", ""],
      ["grants that are left are forgotten", "workLeft = workLeft or served == batch and waiting > 0", ""],
      ["a head that left is served", "waiting, last = waiting - 1, 0", "waiting = waiting - 1"],
      ["an old ticket is passed", "else headMayFit, last = true, 0 end", "else headMayFit = true end"],
      ["an overdue head is served", "changed, headMayFit, last = true, true, 0", "changed, headMayFit = true, true"],
      ["a holder is served", "min(#front, 1 + waiting)", "#front"],
      ["who is overdue is released again", "      places[id] = nil\n", ""],
      ["who was refused leaves again", "        places[first] = false\n", ""],
      ["who was just granted leaves the queue", "        places[first] = token\n", ""],
      ["what a reset took is released again", "places, last = {}, 0", "last = 0"],
      ["who comes again in one call is removed", "    if place == false then write() end\n", ""],
      ["the queue is read before it is written", "        write()\n        front", "        front"],
      ["a look comes before what is written", "    write()\n    local function list", "    local function list"],
      ["a reset comes before what is written", "    write()\n    token", "    token"],
      ["the first lease is read before it is written", "    write()\n    leaseDue", "    leaseDue"],
      [
        "grants alone change nothing",
        "head, served, changed = head + 1, served + 1, true",
        "head, served = head + 1, served + 1"
      ],
      ["old counters stay", "    removed[#removed + 1] = stored\n", ""]
    ])("tells when %s", { timeout: 60_000 }, async (_, from, to) => {
      const builds = await buildBoth(replaceOnce(source, from, to))
      const counts: Counts = {}
      const difference = async () => {
        for (let seed = 1; (counts["operations"] ?? 0) < 60_000; seed += 2) {
          try {
            await runPrograms(builds, seed, counts)
          } catch (cause) {
            return cause
          }
        }
        return undefined
      }
      assert.instanceOf(await difference(), Error)
    })
  })

  it("grants by the server's clock when no time is passed in", async () => {
    const key = `${freshKeyPrefix()}{clock}`
    const [seconds, micros] = await redis.time()
    const { time, next, results } = await run(redis, key, {}, acquire("1.1.a.1"), acquire("1.1.a.2"), look)
    const [, fence] = results[0] ?? []
    assert.isAtLeast(time, Number(seconds) * second + Number(micros))
    assert.strictEqual(fence, time)
    assert.strictEqual(next, minute)
    const holder = ["1.1.a.1", 1, time, minute]
    const waiter = ["1.1.a.2", 1, time + 1, minute]
    assert.deepStrictEqual(results[2], ["look", 0, 1, 1, [holder], [waiter]])
  })

  it("remembers nothing of what it refused or didn't know", async () => {
    const key = `${freshKeyPrefix()}{nothing}`
    const refused = await run(redis, key, {}, acquire("2.1.a.1"), release("1.1.a.2"), keep("1.1.a.3", 5), look)
    assert.deepStrictEqual(codes(refused), ["refused", "unknown", "unknown", "look"])
    assert.strictEqual(await redis.exists(key), 0)
  })

  it("answers with an error and does nothing when an operation is malformed", async () => {
    const key = `${freshKeyPrefix()}{malformed}`
    const call = (...operations: ReadonlyArray<string | number>) =>
      redis.eval(source, 1, key, 0, "a", 0, "", 0, ...encode(acquire("1.1.a.1")), ...operations).then(
        () => "no error",
        (error: Error) => error.message
      )
    assert.match(await call("borrow", "1.1.a.2"), /malformed operation borrow/)
    assert.match(await call("keep", "1.1.a.1", minute), /malformed operation keep/)
    assert.strictEqual(await redis.exists(key), 0)
  })

  it("is forgotten an hour after its last use, and not before the last lease ends", async () => {
    const key = `${freshKeyPrefix()}{life}`
    await run(redis, key, {}, acquire("1.2.a.1"))
    assert.approximately(await redis.pttl(key), 3_600_000, 1000)
    await run(redis, key, {}, acquire("1.2.a.2", { lease: 180 * minute }))
    assert.approximately(await redis.pttl(key), 180 * 60_000, 1000)
    const now = (await run(redis, key, {}, look)).time
    await run(redis, key, { now: now + 10 * minute }, keep("1.2.a.1"))
    assert.approximately(await redis.pttl(key), 170 * 60_000, 1000)
    await run(redis, key, { now: now + 20 * minute }, release("1.2.a.2"))
    assert.approximately(await redis.pttl(key), 60 * 60_000, 1000)
  })

  it("drops very many overdue waiters by and by, and grants nothing until they are gone", async () => {
    const key = `${freshKeyPrefix()}{many}`
    const now = 1_790_000_000 * second
    const serials = Array.from({ length: 5000 }, (_, serial) => serial)
    for (let i = 0; i < serials.length; i += 500) {
      const requests = serials.slice(i, i + 500).map((serial) => acquire(`1.1.a.${serial}`))
      await run(redis, key, { now }, ...requests)
    }
    const later = now + minute
    let answer = await run(redis, key, { now: later, client: "b" }, acquire("1.1.b.1"), acquire("1.1.b.2"))
    assert.deepStrictEqual([answer.next, codes(answer)], [0, ["queued", "queued"]])
    let calls = 1
    for (; answer.next === 0; calls++) {
      assert.deepStrictEqual(answer.notices, [])
      answer = await run(redis, key, { now: later, client: "b" })
    }
    assert.strictEqual(calls, 5000 / 200 + 1)
    assert.match(String(answer.notices), /^grant 1\.1\.b\.1 \d+$/)
    await redis.del(key)
  })

  it("forgets when leases end, and that work is left, with those whom a reset sends away", async () => {
    const key = `${freshKeyPrefix()}{away}`
    const now = 1_790_000_000 * second
    const requests = Array.from({ length: 1000 }, (_, serial) => acquire(`1.1.a.${serial}`))
    await run(redis, key, { now }, ...requests)
    const late = { now: now + 2 * minute }
    const answer = await run(redis, key, late, { _tag: "reset" }, acquire("1.1.a.x"), acquire("1.1.a.y"))
    assert.deepStrictEqual([answer.next, codes(answer)], [minute, ["reset", "held", "queued"]])
    await redis.del(key)
  })

  it("grants very often by and by, in order", async () => {
    const key = `${freshKeyPrefix()}{often}`
    const requests = Array.from({ length: 1200 }, (_, serial) => acquire(`1.1.a.${serial}`))
    await run(redis, key, {}, acquire("1.1.b.1"), ...requests)
    const granted: Array<string> = []
    let answer = await run(redis, key, {}, { _tag: "resize", capacity: 2000 })
    for (; answer.next === 0; answer = await run(redis, key, {})) granted.push(...answer.notices)
    granted.push(...answer.notices)
    const ids = granted.map((notice) => notice.split(" ")[1])
    assert.deepStrictEqual(
      ids,
      requests.map((request) => (request._tag === "acquire" ? request.id : ""))
    )
    await redis.del(key)
  })

  it("serves thousands of operations in one call", async () => {
    const key = `${freshKeyPrefix()}{thousands}`
    const ids = Array.from({ length: 5000 }, (_, serial) => `1.2500.a.${serial}`)
    const asked = await run(redis, key, {}, ...ids.map((id) => acquire(id, { giveUp: minute })))
    assert.deepStrictEqual(new Set(codes(asked).slice(0, 2500)), new Set(["held"]))
    assert.deepStrictEqual(new Set(codes(asked).slice(2500)), new Set(["queued"]))
    const released = await run(redis, key, {}, ...ids.map((id) => release(id)))
    assert.deepStrictEqual(new Set(codes(released).slice(0, 2500)), new Set(["released"]))
    assert.deepStrictEqual(new Set(codes(released).slice(2500)), new Set(["left"]))
    assert.strictEqual(await redis.zcard(key), 1)
  })

  it("publishes to the channel of each process that is granted something, all in one message", async () => {
    const key = `${freshKeyPrefix()}{publish}`
    const subscriber = redis.duplicate()
    await subscriber.subscribe(`${key}:b`)
    const message = new Promise<string>((resolve) => subscriber.once("message", (_, text) => resolve(text)))
    await run(redis, key, { client: "a" }, acquire("2.2.a.1"))
    await run(redis, key, { client: "b" }, acquire("1.2.b.1"), acquire("1.2.b.2"))
    const { notices } = await run(redis, key, { client: "a", publish: "PUBLISH" }, release("2.2.a.1"))
    assert.deepStrictEqual(notices, [])
    assert.match(await message, /^grant 1\.2\.b\.1 \d+,grant 1\.2\.b\.2 \d+$/)
    subscriber.disconnect()
  })

  it("publishes to a sharded channel on the node that owns the key", async () => {
    const key = `${freshKeyPrefix()}{sharded}`
    const node = await ownerOf(key)
    const subscriber = node.duplicate()
    await subscriber.ssubscribe(`${key}:b`)
    const message = new Promise<string>((resolve) => subscriber.once("smessage", (_, text) => resolve(text)))
    await run(node, key, { client: "a" }, acquire("1.1.a.1"))
    await run(node, key, { client: "b" }, acquire("1.1.b.1"))
    await run(node, key, { client: "a", publish: "SPUBLISH" }, release("1.1.a.1"))
    assert.match(await message, /^grant 1\.1\.b\.1 \d+$/)
    subscriber.disconnect()
    node.disconnect()
  })

  it("grants where the server forbids it to publish", async () => {
    const key = `${freshKeyPrefix()}{mute}`
    const mute = await userWithout("publish")
    await run(redis, key, { client: "b" }, acquire("1.1.a.1"), acquire("1.1.b.1"))
    const released = await run(mute, key, { publish: "PUBLISH" }, release("1.1.a.1"))
    assert.deepStrictEqual(codes(released), ["released"])
    assert.deepStrictEqual(codes(await run(redis, key, { client: "b" }, keep("1.1.b.1"))), ["held"])
    mute.disconnect()
  })

  it("takes a server for old that doesn't tell how long it is up", async () => {
    const key = `${freshKeyPrefix()}{blind}`
    const blind = await userWithout("info")
    const century = 100 * 365 * 24 * 60 * minute
    assert.deepStrictEqual(codes(await run(redis, `${key}1`, { grace: century }, acquire("1.1.a.1"))), ["queued"])
    assert.deepStrictEqual(codes(await run(blind, `${key}2`, { grace: century }, acquire("1.1.a.1"))), ["held"])
    blind.disconnect()
  })

  it.live("grants nothing for a while after a server's start without data, so that its holders come back", () =>
    Effect.gen(function* () {
      const client = yield* connect(yield* startServer())
      const call = (options: { readonly now?: number; readonly client?: string }, ...operations: Array<Operation>) =>
        Effect.promise(() => run(client, "{grace}", { grace: minute, ...options }, ...operations))
      const start = yield* call({ client: "a" }, acquire("1.1.a.1", { lease: 3 * minute }))
      assert.deepStrictEqual(codes(start), ["queued"])
      assert.isAbove(start.next, minute - 10 * second)
      assert.isAtMost(start.next, minute + second)
      const fence = start.time - 10 * second
      const back = yield* call({ client: "b" }, keep("1.1.b.1", fence), keep("1.1.b.2"))
      assert.deepStrictEqual(back.results, [["held", fence], ["unknown"]])
      const held = yield* call({ now: start.time + 30 * second, client: "b" }, keep("1.1.b.1", fence))
      assert.deepStrictEqual([codes(held), held.notices], [["held"], []])
      const free = yield* call(
        { now: start.time + 80 * second, client: "a" },
        release("1.1.b.1"),
        keep("1.1.b.3", fence)
      )
      assert.deepStrictEqual(codes(free), ["released", "unknown"])
      assert.match(String(free.notices), /^grant 1\.1\.a\.1 /)
    })
  )

  it.live("renews and releases when the server is out of memory, and refuses new requests", () =>
    Effect.gen(function* () {
      const client = yield* connect(yield* startServer())
      const call = (...operations: Array<Operation>) => Effect.promise(() => run(client, "{full}", {}, ...operations))
      const error = (...operations: Array<Operation>) =>
        Effect.flip(Effect.tryPromise({ try: () => run(client, "{full}", {}, ...operations), catch: String }))
      yield* call(acquire("1.1.a.1"), acquire("1.1.a.2"), acquire("1.1.a.3"))
      yield* Effect.promise(() => client.config("SET", "maxmemory", 1))
      assert.include(yield* error(acquire("1.1.a.4")), "OOM")
      assert.deepStrictEqual(codes(yield* call(keep("1.1.a.1"), keep("1.1.a.2"))), ["held", "queued"])
      const mixed = yield* call(acquire("1.1.a.4"), release("1.1.a.1"), keep("1.1.a.2"))
      assert.deepStrictEqual(codes(mixed), ["queued", "released", "held"])
      assert.match(String(mixed.notices), /^grant 1\.1\.a\.2 \d+$/)
      assert.match(String((yield* call(release("1.1.a.2"))).notices), /^grant 1\.1\.a\.3 \d+$/)
      assert.match(String((yield* call(release("1.1.a.3"))).notices), /^grant 1\.1\.a\.4 \d+$/)
      assert.deepStrictEqual(codes(yield* call({ _tag: "revoke", id: "1.1.a.4" })), ["released"])
    })
  )

  it.live("serves while its slot moves to another node, and afterwards there", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster()
      const key = "{moving}"
      const slot = Number(yield* cluster.primaries[0]?.command("CLUSTER", "KEYSLOT", key) ?? Effect.succeed(0))
      const from = yield* cluster.ownerOf(slot)
      const to = cluster.primaries.find((node) => node !== from) ?? from
      const call = (node: Redis, ...operations: Array<Operation>) =>
        Effect.promise(() => run(node, key, { publish: "SPUBLISH" }, ...operations))
      const source = yield* connect(from)
      yield* call(source, acquire("1.1.a.1"), acquire("1.1.b.1"))
      const meanwhile = Effect.gen(function* () {
        assert.deepStrictEqual(codes(yield* call(source, release("1.1.a.1"))), ["released"])
        assert.deepStrictEqual(codes(yield* call(source, keep("1.1.b.1"))), ["held"])
        assert.deepStrictEqual(codes(yield* call(source, { _tag: "reset" })), ["reset"])
        assert.deepStrictEqual(codes(yield* call(source, acquire("1.1.a.2"), acquire("1.1.a.3"))), ["held", "queued"])
      })
      yield* cluster.moveSlot(slot, to, meanwhile)
      assert.deepStrictEqual(codes(yield* call(yield* connect(to), keep("1.1.a.2"), keep("1.1.a.3"))), [
        "held",
        "queued"
      ])
    })
  )
})
