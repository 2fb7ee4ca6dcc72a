/**
 * The rules for what a connection to Redis is made with, for those who check without loading a client.
 */
import type { IoredisClient } from "../promise.ts"
import { isRecord } from "./options.ts"
import { sentinelOptions } from "./sentinelUrl.ts"

/** Of another path than a database's number ioredis would make database 0. */
export const isRedisUrl = (text: string): boolean => {
  if (!/^rediss?:\/\/./.test(text) || !URL.canParse(text)) return false
  const { pathname, username, password } = new URL(text)
  return /^\/?\d*$/.test(pathname) && isEncoded(username) && isEncoded(password)
}

const isEncoded = (text: string): boolean => {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    // A percent sign that encodes nothing.
    return false
  }
}

export const isSentinelUrl = (text: string): boolean => sentinelOptions(text) !== undefined

export const addressRule =
  "a URL such as redis://user:password@host:port/database, with rediss:// for TLS and special characters percent-encoded, or redis-sentinel://hosts#group, or the path of a socket"

export const isAddress = (address: unknown): address is string =>
  typeof address === "string" && (isRedisUrl(address) || isSentinelUrl(address) || address.startsWith("/"))

/** A `Redis` or a `Cluster`, of whichever copy of ioredis. */
export const isIoredis = (client: unknown): client is IoredisClient =>
  isRecord(client) && "isCluster" in client && isRecord(client["options"]) && typeof client["duplicate"] === "function"

/** For messages: of an address, or of what was passed for one. */
export const withoutCredentials = (address: unknown): unknown =>
  typeof address === "string" ? address.replace(/\/\/.*@/, "//…@") : address

export const defaultKeyPrefix = "steindamm:"

export const keyPrefixRule = "a string without braces"

/** Braces would choose the slot of all limiters. */
export const isKeyPrefix = (keyPrefix: unknown): keyPrefix is string =>
  typeof keyPrefix === "string" && !/[{}]/.test(keyPrefix)
