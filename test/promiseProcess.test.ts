/** Programs of plain promises end by themselves, and load no more than they need: each in a process of its own. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, inject, it } from "vitest"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

const execute = promisify(execFile)

/** Runs a program to its end, and gives what it printed. */
const run = async (program: string, type: "module" | "commonjs" = "module"): Promise<string> => {
  const { stdout, stderr } = await execute(
    process.execPath,
    ["--conditions", "steindamm-source", `--input-type=${type}`, "--eval", program],
    {
      cwd: root,
      env: {
        ...process.env,
        REDIS_URL: inject("redisUrl"),
        REDIS_CLUSTER_URL: inject("clusterUrl"),
        KEY_PREFIX: freshKeyPrefix()
      },
      timeout: 20_000,
      killSignal: "SIGKILL"
    }
  )
  assert.strictEqual(stderr, "")
  return stdout.trim()
}

const imports = `import { createSemaphore, createTokenBucket } from "steindamm/promise"`
const redis = "redis: process.env.REDIS_URL, keyPrefix: process.env.KEY_PREFIX"

describe("a process", { concurrent: true }, () => {
  it("is not kept alive by limiters in memory, nor by permits that nobody released", async () => {
    const output = await run(`${imports}
      const bucket = createTokenBucket({ name: "bucket", capacity: 1, refillFrequency: "1 hour" })
      const semaphore = createSemaphore({ name: "semaphore", capacity: 1 })
      await bucket.withPermit(() => semaphore.acquire())
      await bucket.reserve({ permits: 0 })
      await bucket.pause("1 hour")
      await semaphore.resize(3)
      await semaphore.withPermit(() => console.log("done"))
    `)
    assert.strictEqual(output, "done")
  })

  it("is not kept alive by waits that were aborted", async () => {
    const output = await run(`${imports}
      const bucket = createTokenBucket({ name: "bucket", capacity: 1, refillFrequency: "1 hour", maxSleep: "1 day" })
      const semaphore = createSemaphore({ name: "semaphore", capacity: 1 })
      await bucket.acquire()
      await semaphore.acquire()
      const controller = new AbortController()
      const waiting = [bucket, semaphore].map((limiter) => limiter.acquire({ signal: controller.signal }))
      setTimeout(() => controller.abort("enough"), 20)
      for (const { reason } of await Promise.allSettled(waiting)) console.log(reason)
    `)
    assert.strictEqual(output, "enough\nenough")
  })

  it("goes on while somebody waits for a limiter in memory", async () => {
    const output = await run(`${imports}
      const bucket = createTokenBucket({ name: "bucket", capacity: 1, refillFrequency: 100 })
      for (const n of [1, 2, 3]) bucket.withPermit(() => console.log(n))
    `)
    assert.strictEqual(output, "1\n2\n3")
  })

  it("is not kept alive by limiters over Redis once they are closed", async () => {
    const output = await run(`${imports}
      {
        await using bucket = createTokenBucket({ name: "bucket", capacity: 1, ${redis} })
        await using semaphore = createSemaphore({ name: "semaphore", capacity: 1, ${redis} })
        await using permit = await semaphore.acquire()
        const waiting = semaphore.acquire({ signal: AbortSignal.timeout(50) }).catch(({ name }) => console.log(name))
        await bucket.withPermit(() => waiting)
      }
      console.log("done")
    `)
    assert.strictEqual(output, "TimeoutError\ndone")
  })

  it("is not kept alive by limiters over Redis that were never used", async () => {
    const output = await run(`${imports}
      createTokenBucket({ name: "bucket", ${redis} })
      createSemaphore({ name: "semaphore", ${redis} })
      console.log("done")
    `)
    assert.strictEqual(output, "done")
  })

  it("is not kept alive by a closed limiter over a Redis that is away", async () => {
    const output = await run(`${imports}
      process.removeAllListeners("warning")
      const semaphore = createSemaphore({ name: "semaphore", maxSleep: 100, redis: "redis://127.0.0.1:1" })
      await semaphore.acquire().catch(({ reason }) => console.log(reason))
      await semaphore.close()
    `)
    assert.strictEqual(output, "Unreachable")
  })

  it("is not kept alive by closed limiters over a cluster, but by the app's client of it", async () => {
    const output = await run(`${imports}
      import { Cluster } from "ioredis"
      const cluster = new Cluster([process.env.REDIS_CLUSTER_URL])
      const connection = { redis: cluster, keyPrefix: process.env.KEY_PREFIX }
      const bucket = createTokenBucket({ name: "bucket", ...connection })
      const semaphore = createSemaphore({ name: "semaphore", capacity: 1, ...connection })
      const permit = await semaphore.acquire()
      const waiting = semaphore.withPermit(() => bucket.withPermit(() => console.log("done")))
      permit.release()
      await waiting
      await bucket.close()
      await semaphore.close()
      console.log(cluster.status)
      await cluster.quit()
    `)
    assert.strictEqual(output, "done\nready")
  })

  it("is kept alive by no more than the client of the app", async () => {
    const output = await run(`${imports}
      import { Redis } from "ioredis"
      const client = new Redis(process.env.REDIS_URL)
      const limiter = createSemaphore({ name: "semaphore", redis: client, keyPrefix: process.env.KEY_PREFIX })
      await limiter.withPermit(() => client.ping().then(console.log))
      await limiter.close()
      await client.quit()
    `)
    assert.strictEqual(output, "PONG")
  })

  it("loads ioredis only when a limiter over Redis is used", async () => {
    const output = await run(`${imports}
      import { registerHooks } from "node:module"
      registerHooks({
        load(url, context, next) {
          if (url.endsWith("/ioredis/built/index.js")) console.log("ioredis")
          return next(url, context)
        }
      })
      const local = createTokenBucket({ name: "bucket" })
      await local.withPermit(() => console.log("in memory"))
      const remote = createTokenBucket({ name: "bucket", ${redis} })
      await new Promise(setImmediate)
      console.log("over Redis")
      await remote.withPermit(() => {})
      await remote.close()
    `)
    assert.strictEqual(output, "in memory\nover Redis\nioredis")
  })

  it("of CommonJS can require the adapter, over Redis too", async () => {
    const output = await run(
      `const { createSemaphore, createTokenBucket } = require("steindamm/promise")
      const limiters = [createTokenBucket({ name: "bucket" }), createSemaphore({ name: "semaphore", ${redis} })]
      Promise.all(limiters.map((limiter) => limiter.withPermit(() => limiter.name)))
        .then(console.log)
        .then(() => Promise.all(limiters.map((limiter) => limiter.close())))
      `,
      "commonjs"
    )
    assert.strictEqual(output, "[ 'bucket', 'semaphore' ]")
  })
})
