/** What becomes of promises when something is the matter with Redis, and who opens and closes connections. */
import { Redis } from "ioredis"
import { BackendError, createSemaphore, createTokenBucket, PermitLost } from "steindamm/promise"
import { assert, describe, inject, it, onTestFinished } from "vitest"
import { freshName } from "./contract/harness.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { aborted, acquired, elapsed, gate, rejection, until } from "./support/promises.ts"
import { startProxy } from "./support/proxy.ts"

const proxied = () => {
  const { hostname, port } = new URL(inject("redisUrl"))
  return acquired(startProxy({ host: hostname, port: Number(port) }))
}

describe("promises over a Redis that falls silent", () => {
  it("tell work by its signal that its permit is lost, before others can have it", async () => {
    const proxy = await proxied()
    const keyPrefix = freshKeyPrefix()
    const name = freshName()
    const limiter = createSemaphore({ name, capacity: 1, expiry: 1000, redis: proxy.url, keyPrefix })
    const other = createSemaphore({ name, capacity: 1, expiry: 1000, redis: inject("redisUrl"), keyPrefix })
    onTestFinished(async () => void (await Promise.all([limiter.close({ timeout: 0 }), other.close()])))

    const started = gate()
    const events: Array<string> = []
    const guardedWork = async () => {
      await limiter.withPermit(async ({ signal, fencingToken }) => {
        assert.isAbove(fencingToken, 0)
        started.open()
        const reason = await aborted(signal)
        events.push("lost")
        throw reason
      })
    }
    const failed = rejection(guardedWork())
    await started.passed
    proxy.mode = "blackhole"
    const next = other.acquire().then((permit) => {
      events.push("next")
      return permit
    })

    const error = await failed
    assert.instanceOf(error, PermitLost)
    assert.strictEqual(error.name, name)
    assert.include(error.stack, "guardedWork")
    const permit = await next
    assert.deepStrictEqual(events, ["lost", "next"])
    assert.isAbove(permit.fencingToken, error.fencingToken)
    permit.release()
    proxy.mode = "pass"
  })

  it("tell those who hold permits by the permits' signals", async () => {
    const proxy = await proxied()
    const redis = { redis: proxy.url, keyPrefix: freshKeyPrefix() }
    const limiter = createSemaphore({ name: freshName(), capacity: 2, expiry: 400, ...redis })
    onTestFinished(() => limiter.close({ timeout: 0 }))
    const [watched, unwatched] = [await limiter.acquire(), await limiter.acquire()]
    const { signal } = watched
    proxy.mode = "blackhole"
    const error = await aborted(signal)
    assert.instanceOf(error, PermitLost)
    assert.strictEqual(error.permitId, watched.id)
    await until(() => unwatched.signal.aborted)
    proxy.mode = "pass"
    await until(async () => (await limiter.state()).held === 0)
    watched.release()
    unwatched.release()
  })

  it("are rejected by maxSleep, whatever keeps Redis from answering", async () => {
    const proxy = await proxied()
    proxy.mode = "blackhole"
    const options = { name: freshName(), maxSleep: 200, redis: proxy.url }
    const [bucket, semaphore] = [createTokenBucket(options), createSemaphore(options)]
    onTestFinished(async () => void (await Promise.all([bucket.close(), semaphore.close()])))
    const work = () => assert.fail("ran")
    const took = await elapsed(async () => {
      for (const error of await Promise.all([
        rejection(bucket.withPermit(work)),
        rejection(semaphore.withPermit(work)),
        rejection(bucket.tryAcquire()),
        rejection(semaphore.tryAcquire())
      ])) {
        assert.instanceOf(error, BackendError)
        assert.strictEqual(error.name, options.name)
      }
    })
    assert.isBelow(took, 1500)
  })

  it("end at once when their signal aborts", async () => {
    const proxy = await proxied()
    proxy.mode = "blackhole"
    const options = { name: freshName(), redis: proxy.url }
    const [bucket, semaphore] = [createTokenBucket(options), createSemaphore(options)]
    onTestFinished(async () => void (await Promise.all([bucket.close(), semaphore.close()])))
    const took = await elapsed(async () => {
      const signal = AbortSignal.timeout(50)
      for (const error of await Promise.all(
        [bucket, semaphore].flatMap((limiter) => [
          rejection(limiter.withPermit(() => assert.fail("ran"), { signal })),
          rejection(limiter.acquire({ signal })),
          rejection(limiter.tryAcquire({ signal }))
        ])
      )) {
        assert.strictEqual(error, signal.reason)
      }
    })
    assert.isBelow(took, 1000)
  })

  it("close within seconds", async () => {
    const proxy = await proxied()
    const options = { name: freshName(), redis: proxy.url, keyPrefix: freshKeyPrefix() }
    const [bucket, semaphore] = [createTokenBucket(options), createSemaphore(options)]
    await bucket.acquire()
    const permit = await semaphore.acquire()
    proxy.mode = "blackhole"
    permit.release()
    const waiting = rejection(semaphore.acquire())
    assert.isBelow(await elapsed(() => Promise.all([bucket.close(), semaphore.close()])), 5000)
    const error = await waiting
    assert.instanceOf(error, BackendError)
    assert.strictEqual(error.reason, "Closed")
  })
})

describe("a Redis that can't be reached", () => {
  it("is told with its reason and its cause, without credentials, at the caller", async () => {
    const redis = "redis://user:secret@127.0.0.1:1"
    const limiter = createTokenBucket({ name: freshName(), maxSleep: 200, redis })
    onTestFinished(() => limiter.close())
    const nameOfTheCaller = async () => {
      await limiter.withPermit(() => assert.fail("ran"))
    }
    const error = await rejection(nameOfTheCaller())
    assert.instanceOf(error, BackendError)
    assert.strictEqual(error.reason, "Unreachable")
    assert.instanceOf(error.cause, Error)
    assert.include(error.message, limiter.name)
    assert.include(error.stack, "nameOfTheCaller")
    assert.notInclude(`${error.message} ${error.stack} ${String(error.cause)} ${JSON.stringify(error)}`, "secret")
  })
})

describe("a token bucket that goes on without Redis", () => {
  it("runs work while Redis is away, and tells how much", async () => {
    const redis = "redis://127.0.0.1:1"
    const free = createTokenBucket({ name: freshName(), capacity: 1, whenAway: "allow", redis })
    const shared = createTokenBucket({
      name: freshName(),
      capacity: 4,
      refillFrequency: "20 millis",
      whenAway: { local: 1 / 2 },
      redis
    })
    onTestFinished(async () => void (await Promise.all([free.close(), shared.close()])))
    assert.deepStrictEqual(await Promise.all([1, 2, 3].map((n) => free.withPermit(async () => n))), [1, 2, 3])
    const { away } = await free.state()
    assert.strictEqual(away?.admitted, 3)
    assert.isAbove(away?.duration ?? 0, 0)

    for (let n = 1; n <= 2; n++) {
      await shared.acquire()
      assert.strictEqual((await shared.state()).away?.admitted, n)
    }
  })
})

describe("connections", () => {
  it("are shared by all limiters that name them alike, opened by the first call and closed with the last", async () => {
    const proxy = await proxied()
    const redis = { redis: proxy.url, keyPrefix: freshKeyPrefix() }
    const limiters = Array.from({ length: 5 }, () => [
      createTokenBucket({ name: freshName(), ...redis }),
      createSemaphore({ name: freshName(), ...redis })
    ]).flat()
    assert.strictEqual(proxy.counts.connections, 0)
    await Promise.all(limiters.map((limiter) => limiter.withPermit(() => {})))
    assert.strictEqual(proxy.counts.connections, 1)
    const [first, ...others] = limiters
    // Whoever closes twice leaves once.
    for (let times = 0; times < 2; times++) await Promise.all(others.map((limiter) => limiter.close()))
    await first?.withPermit(() => {})
    assert.strictEqual(proxy.counts.connections, 1)
    await first?.close()
    await until(() => proxy.counts.open === 0)

    const anew = createTokenBucket({ name: freshName(), ...redis })
    await anew.withPermit(() => {})
    assert.strictEqual(proxy.counts.connections, 2)
    await anew.close()
    await until(() => proxy.counts.open === 0)
  })

  it("are not opened for a limiter that is closed before its first call", async () => {
    const proxy = await proxied()
    const limiter = createSemaphore({ name: freshName(), redis: proxy.url })
    await limiter.close()
    assert.instanceOf(await rejection(limiter.acquire()), BackendError)
    const early = createSemaphore({ name: freshName(), redis: proxy.url })
    const call = rejection(early.acquire())
    await early.close()
    const error = await call
    assert.instanceOf(error, BackendError)
    assert.strictEqual(error.reason, "Closed")
    await until(() => proxy.counts.open === 0)
  })

  it("of the app stay open, and its own keyPrefix comes first", async () => {
    const prefix = freshKeyPrefix()
    const client = new Redis(inject("redisUrl"), { keyPrefix: prefix })
    onTestFinished(() => client.disconnect())
    const limiter = createSemaphore({ name: "of the app", redis: client, keyPrefix: "limits:" })
    const permit = await limiter.acquire()
    const plain = new Redis(inject("redisUrl"))
    onTestFinished(() => plain.disconnect())
    const keys = await plain.keys(`${prefix}limits:*`)
    assert.isAbove(keys.length, 0)
    permit.release()
    await limiter.close()
    assert.strictEqual(await client.ping(), "PONG")
  })

  it("close only when everything that was given back has arrived", async () => {
    for (let round = 0; round < 20; round++) {
      const redis = { redis: inject("redisUrl"), keyPrefix: freshKeyPrefix() }
      const name = freshName()
      {
        await using semaphore = createSemaphore({ name, capacity: 1, ...redis })
        await using bucket = createTokenBucket({ name, capacity: 1, refillFrequency: "1 hour", ...redis })
        await using _permit = await semaphore.acquire()
        const controller = new AbortController()
        const reservation = await bucket.reserve()
        const waiting = rejection(reservation.wait({ signal: controller.signal }))
        controller.abort()
        await waiting
      }
      await using semaphore = createSemaphore({ name, capacity: 1, ...redis })
      await using bucket = createTokenBucket({ name, capacity: 1, refillFrequency: "1 hour", ...redis })
      const permit = await semaphore.tryAcquire()
      assert.isDefined(permit)
      permit?.release()
      assert.isDefined(await bucket.tryAcquire())
    }
  })
})

describe("promises with a policy for a Redis that is away", () => {
  it("go on without it", async () => {
    const proxy = await proxied()
    const redis = { redis: proxy.url, keyPrefix: freshKeyPrefix() }
    const bucket = createTokenBucket({
      name: freshName(),
      capacity: 1,
      refillFrequency: "1 hour",
      whenAway: "allow",
      ...redis
    })
    const semaphore = createSemaphore({ name: freshName(), capacity: 2, whenAway: { local: 0.5 }, ...redis })
    const strict = createTokenBucket({ name: freshName(), maxSleep: 800, whenAway: "fail", ...redis })
    onTestFinished(async () => {
      proxy.killConnections()
      proxy.mode = "pass"
      await Promise.all([bucket, semaphore, strict].map((limiter) => limiter.close({ timeout: 0 })))
    })
    await bucket.withPermit(() => "ran")
    proxy.mode = "blackhole"
    const strictly = rejection(strict.withPermit(() => "ran"))
    assert.deepStrictEqual(await Promise.all([1, 2, 3].map((n) => bucket.withPermit(() => n))), [1, 2, 3])
    const permit = await semaphore.acquire()
    assert.strictEqual(permit.fencingToken, 0)
    assert.isUndefined(await semaphore.tryAcquire())
    permit.release()
    const { held, away } = await semaphore.state()
    assert.deepStrictEqual([held, away?.admitted, typeof away?.duration], [0, 1, "number"])
    assert.instanceOf(await strictly, BackendError)
  })
})
