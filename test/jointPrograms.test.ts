import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Exit, Fiber, Layer } from "effect"
import { Limiter, LocalLive, Semaphore, TokenBucket, type TokenBucketLimiter, type TokenBucketOptions } from "steindamm"
import { type Admitted, worstWindow } from "./support/bucketModel.ts"
import { driven } from "./support/driven.ts"
import { type Random, seeded } from "./support/random.ts"

interface Bucket {
  readonly limiter: TokenBucketLimiter
  readonly capacity: number
  readonly refillAmount: number
  readonly refillFrequency: number
  readonly admitted: Array<Admitted>
}

const makeBucket = (name: string, random: Random, make: typeof TokenBucket.make) => {
  const capacity = random.integer(1, 10)
  const options = {
    name,
    capacity,
    refillAmount: random.integer(1, capacity),
    refillFrequency: random.integer(1, 40),
    maxSleep: random.pick([0, 0, random.integer(1, 300)])
  } satisfies TokenBucketOptions
  return Effect.map(make(options), (limiter): Bucket => ({ ...options, limiter, admitted: [] }))
}

/** Several limiters of one home or two, asked by twelve fibers that come, wait, give up and work as chance will have it. */
const program = (seed: number, isApart: boolean) =>
  Effect.gen(function* () {
    const random = seeded(seed)
    const elsewhere = Context.get(yield* Layer.build(Layer.fresh(LocalLive)), TokenBucket)
    const make = isApart ? (options: TokenBucketOptions) => elsewhere.make(options) : TokenBucket.make
    const buckets = [
      yield* makeBucket(`a ${seed}`, random, TokenBucket.make),
      yield* makeBucket(`b ${seed}`, random, TokenBucket.make),
      yield* makeBucket(`c ${seed}`, random, make)
    ]
    const capacity = random.integer(1, 3)
    const semaphore = yield* Semaphore.make({ name: `${seed}`, capacity, maxSleep: 200 })
    let [inside, ran, refused, interrupted] = [0, 0, 0, 0]

    const ask = Effect.gen(function* () {
      const chosen = buckets.filter(() => random.chance(0.6))
      const parts = chosen.map((bucket) => ({
        bucket,
        amount: random.chance(0.6) ? 1 : random.integer(1, bucket.capacity)
      }))
      const members = parts.map(({ bucket, amount }) => {
        const wait = random.chance(0.8)
        return { limiter: bucket.limiter, permits: amount, wait }
      })
      const hasSemaphore = random.chance(0.4)
      const joint = hasSemaphore ? Limiter.all([...members, semaphore]) : Limiter.all(members)
      const isTry = random.chance(0.2)
      const stay = random.pick([0, 0, random.integer(0, 20)])
      const work = Effect.gen(function* () {
        const time = yield* Clock.currentTimeMillis
        ran++
        // Tokens are had before the semaphore is.
        if (!hasSemaphore) for (const { bucket, amount } of parts) bucket.admitted.push({ time, amount })
        else inside++
        assert.isAtMost(inside, capacity)
        yield* Effect.ensuring(
          Effect.sleep(stay),
          Effect.sync(() => {
            if (hasSemaphore) inside--
          })
        )
      })
      const asked = isTry ? joint.withPermitsIfAvailable(1)(work) : joint.withPermit(work)
      const fiber = yield* Effect.forkChild(Effect.exit(asked), { startImmediately: true })
      if (random.chance(0.3)) {
        yield* Effect.sleep(random.integer(0, 60))
        yield* Fiber.interrupt(fiber)
        interrupted++
      } else {
        const exit = yield* Fiber.join(fiber)
        if (Exit.isFailure(exit)) refused++
      }
    })

    yield* Effect.forEach(
      Array.from({ length: 12 }),
      () =>
        Effect.gen(function* () {
          for (let i = 0; i < 6; i++) {
            yield* Effect.sleep(random.integer(0, 60))
            if (random.chance(0.03)) yield* random.pick(buckets).limiter.pause(random.integer(0, 60))
            yield* ask
          }
        }),
      { concurrency: "unbounded", discard: true }
    )
    for (const { capacity, refillAmount, refillFrequency, admitted } of buckets) {
      // Of a window whose ends are refills, both count.
      const refilled = (from: number, to: number) => (Math.floor((to - from) / refillFrequency) + 1) * refillAmount
      assert.isAtMost(worstWindow(capacity, refilled, admitted), 0, `seed ${seed}`)
    }
    yield* Effect.sleep(1000)
    for (const { limiter, capacity } of buckets) {
      assert.strictEqual((yield* limiter.state).tokens, capacity, `seed ${seed}`)
    }
    assert.deepInclude(yield* semaphore.state, { held: 0, waiting: 0 })
    return [ran, refused, interrupted] as const
  }).pipe(Effect.scoped)

const together = "get no more than each of them has, and leave nothing behind, in one place"
const apart = "get no more than each of them has, and leave nothing behind, apart"

describe("random programs of several limiters in memory", () => {
  for (const isApart of [false, true]) {
    it.effect(
      isApart ? apart : together,
      () =>
        Effect.gen(function* () {
          const totals = [0, 0, 0]
          for (let seed = 1; seed <= 300; seed++) {
            const counts = yield* driven(Effect.provide(program(seed, isApart), LocalLive))
            for (const [index, count] of counts.entries()) totals[index] = (totals[index] ?? 0) + count
          }
          const [ran = 0, refused = 0, interrupted = 0] = totals
          console.log(JSON.stringify({ ran, refused, interrupted }))
          assert.isAbove(Math.min(ran, refused, interrupted), 500)
        }),
      { timeout: 120_000 }
    )
  }
})
