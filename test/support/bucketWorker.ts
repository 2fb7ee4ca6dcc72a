/**
 * A process whose fibers are hungry for tokens: told by its argument what to do, it prints when work was let through, in
 * microseconds of the clock that all processes of a machine share, and how late its timers were at worst.
 */
import { Effect, Layer } from "effect"
import { TokenBucket, type TokenBucketOptions } from "steindamm"
import { RedisClient, RedisTokenBucketLive } from "steindamm/redis"
import { micros } from "./history.ts"
import { lateness } from "./lateness.ts"

export interface Work {
  readonly url: string
  readonly keyPrefix: string
  readonly bucket: TokenBucketOptions
  readonly fibers: number
  /** Milliseconds. */
  readonly duration: number
}

export interface Report {
  readonly admissions: ReadonlyArray<number>
  /** Milliseconds. */
  readonly late: number
}

const { url, keyPrefix, bucket, fibers, duration }: Work = JSON.parse(process.argv[2] ?? "")

const main = Effect.gen(function* () {
  const limiter = yield* TokenBucket.make(bucket)
  const admissions: Array<number> = []
  const lateBy = yield* lateness
  const end = micros() + duration * 1000
  const hungry = Effect.gen(function* () {
    while (micros() < end) yield* limiter.withPermit(Effect.sync(() => admissions.push(micros())))
  })
  yield* Effect.forEach(Array.from({ length: fibers }), () => hungry, { concurrency: "unbounded", discard: true })
  const report: Report = { admissions, late: lateBy() }
  process.stdout.write(JSON.stringify(report))
})

const live = RedisTokenBucketLive.pipe(Layer.provide(RedisClient.layer({ url, keyPrefix })))

Effect.runPromise(main.pipe(Effect.scoped, Effect.provide(live)))
