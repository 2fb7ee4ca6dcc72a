/**
 * One of several processes that all want the same semaphore: told by its argument which, it prints when its sections
 * began and ended, in microseconds of the clock that all processes of a machine share.
 */
import { randomUUID } from "node:crypto"
import { setTimeout } from "node:timers/promises"
import { Effect, Layer } from "effect"
import { Redis } from "ioredis"
import { Semaphore as PeerSemaphore } from "redis-semaphore"
import { Semaphore } from "steindamm"
import { RedisClient, RedisSemaphoreLive } from "steindamm/redis"

export interface Task {
  readonly contestant: "steindamm" | "redis-semaphore" | "list" | "script"
  readonly url: string
  readonly capacity: number
  readonly workers: number
  /** Milliseconds. */
  readonly hold: number
  readonly duration: number
}

export interface Sections {
  /** Of each worker: when its sections began and ended. */
  readonly workers: ReadonlyArray<ReadonlyArray<readonly [begun: number, ended: number]>>
}

const task: Task = JSON.parse(process.argv[2] ?? "")

const micros = () => Number(process.hrtime.bigint() / BigInt(1000))

type Section = () => Promise<void>

/** Runs a section of each worker after the other, for as long as the task says. */
const work = async (enter: (section: Section) => Promise<void>): Promise<Sections> => {
  const end = micros() + task.duration * 1000
  const worker = async () => {
    const sections: Array<readonly [number, number]> = []
    while (micros() < end) {
      await enter(async () => {
        const begun = micros()
        if (task.hold > 0) await setTimeout(task.hold)
        sections.push([begun, micros()])
      })
    }
    return sections
  }
  return { workers: await Promise.all(Array.from({ length: task.workers }, worker)) }
}

const connect = () => new Redis(task.url)

const contestants: Record<Task["contestant"], () => Promise<Sections>> = {
  steindamm: () =>
    Effect.gen(function* () {
      const semaphore = yield* Semaphore.make({ name: "handoff", capacity: task.capacity })
      return yield* Effect.promise(() =>
        work((section) => Effect.runPromise(semaphore.withPermit(Effect.promise(section))))
      )
    }).pipe(
      Effect.provide(RedisSemaphoreLive.pipe(Layer.provide(RedisClient.layer({ url: task.url })))),
      Effect.runPromise
    ),

  "redis-semaphore": async () => {
    const redis = connect()
    const sections = await work(async (section) => {
      const semaphore = new PeerSemaphore(redis, "handoff", task.capacity, { acquireTimeout: 60_000 })
      await semaphore.acquire()
      await section()
      await semaphore.release()
    })
    redis.disconnect()
    return sections
  },

  // A list of permits: BLPOP and LPUSH, one connection for each who waits, and nothing else that a semaphore needs.
  list: async () => {
    const redis = connect()
    const free: Array<Redis> = Array.from({ length: task.workers }, connect)
    const sections = await work(async (section) => {
      const own = free.pop()
      if (own === undefined) throw new Error("There is a connection for each worker")
      await own.blpop("permits", 0)
      await section()
      await redis.lpush("permits", "1")
      free.push(own)
    })
    for (const one of [redis, ...free]) one.disconnect()
    return sections
  },

  // The least that hands a permit over by script and message: a counter and a queue of names.
  script: async () => {
    const redis = connect()
    const subscriber = connect()
    const own = randomUUID()
    const waiting = new Map<string, () => void>()
    await subscriber.subscribe(own)
    subscriber.on("message", (_, id) => waiting.get(id)?.())
    const take = `if redis.call('LPOP', KEYS[1]) then return 1 end redis.call('RPUSH', KEYS[2], ARGV[1]) return 0`
    const give = `local next = redis.call('LPOP', KEYS[2])
      if next then redis.call('PUBLISH', string.sub(next, 1, 36), next) else redis.call('LPUSH', KEYS[1], 1) end`
    let serial = 0
    const sections = await work(async (section) => {
      const id = `${own}${serial++}`
      const woken = new Promise<void>((resolve) => waiting.set(id, resolve))
      if ((await redis.eval(take, 2, "permits", "queue", id)) === 0) await woken
      waiting.delete(id)
      await section()
      await redis.eval(give, 2, "permits", "queue")
    })
    redis.disconnect()
    subscriber.disconnect()
    return sections
  }
}

process.stdout.write(JSON.stringify(await contestants[task.contestant]()))
