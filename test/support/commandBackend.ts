/**
 * A Redis that the command `steindamm` is to look into, and what it may answer.
 */
import { assert } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { SemaphoreLimiter } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { type Ended, runToEnd, steindamm } from "./command.ts"
import { freshKeyPrefix } from "./keyPrefix.ts"
import { connect, until } from "./servers.ts"

export const succeeded = ({ code, stdout, stderr }: Ended): string => {
  assert.strictEqual(code, 0, stderr)
  assert.strictEqual(stderr, "")
  return stdout
}

/** One sentence on standard error, nothing else anywhere. */
export const failed = ({ code, stdout, stderr }: Ended): string => {
  assert.strictEqual(code, 1, stdout)
  assert.strictEqual(stdout, "")
  assert.match(stderr, /^steindamm: [^\n]+\n$/)
  return stderr
}

export const misunderstood = ({ code, stdout, stderr }: Ended): string => {
  assert.strictEqual(code, 2, stdout)
  assert.strictEqual(stdout, "")
  assert.notMatch(stderr, /^\s+at /m)
  return stderr
}

export interface Backend {
  readonly url: string
  readonly prefix: string
  /** The command, asking this backend. */
  readonly run: (...args: ReadonlyArray<string>) => Effect.Effect<Ended>
}

export const backend = (url: string): Backend => {
  const prefix = freshKeyPrefix()
  return {
    url,
    prefix,
    run: (...args) => Effect.promise(() => runToEnd([...steindamm, ...args, "--redis", url, "--prefix", prefix]))
  }
}

export const limits = ({ url, prefix: keyPrefix }: Backend, isCluster: boolean) =>
  RedisLive.pipe(
    Layer.provide(isCluster ? RedisClient.layer({ nodes: [url], keyPrefix }) : RedisClient.layer({ url, keyPrefix }))
  )

/** One command over a connection of its own. */
export const command = (url: string, name: string, ...args: ReadonlyArray<string>) => {
  const { hostname, port } = new URL(url)
  return Effect.scoped(
    Effect.flatMap(connect({ host: hostname, port: Number(port) }), (redis) =>
      Effect.promise(() => redis.call(name, ...args))
    )
  )
}

/** Somebody waits for a permit, until the scope closes. */
export const waiting = Effect.fnUntraced(function* (semaphore: SemaphoreLimiter, permits: number) {
  const before = (yield* semaphore.state).waiting
  yield* Effect.forkScoped(Effect.scoped(Effect.andThen(semaphore.acquire(permits), Effect.never)))
  yield* until(Effect.map(semaphore.state, ({ waiting }) => waiting > before))
})
