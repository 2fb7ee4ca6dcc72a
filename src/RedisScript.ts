/**
 * A Lua script as a typed value: its source, the digest that Redis knows it by, and how to read its reply.
 */
import { createHash } from "node:crypto"

/**
 * A Lua script with a typed reply, to be run by `RedisClient`.
 */
export interface RedisScript<A> {
  /** For messages and traces. */
  readonly name: string
  readonly source: string
  /** In hexadecimal; what `EVALSHA` takes. */
  readonly sha1: string
  /** The reply's strings are any bytes, and come as buffers. Default: they are text. */
  readonly isBinary?: boolean
  /** Reads the reply as ioredis gives it: strings or buffers, safe integers, null and arrays of these. */
  readonly decode: (reply: unknown) => A
}

/**
 * Makes a typed value of a script's source.
 *
 * @example
 * ```ts
 * import { makeRedisScript } from "steindamm/redis"
 *
 * const increment = makeRedisScript({
 *   name: "increment",
 *   source: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
 *   decode: Number
 * })
 * console.log(increment.sha1)
 * ```
 */
export const makeRedisScript = <A>(script: {
  readonly name: string
  readonly source: string
  readonly isBinary?: boolean
  readonly decode: (reply: unknown) => A
}): RedisScript<A> => ({ ...script, sha1: createHash("sha1").update(script.source).digest("hex") })
