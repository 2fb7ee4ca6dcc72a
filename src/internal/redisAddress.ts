/**
 * The rules for what a connection to Redis is made with, for those who check without loading a client.
 */
import type { IoredisClient } from "../promise.ts"
import { isRecord } from "./options.ts"
import { sentinelOptions } from "./sentinelUrl.ts"

/** Of another path than a database's number ioredis would make database 0. */
export const isRedisUrl = (text: string): boolean =>
  /^rediss?:\/\/./.test(text) && URL.canParse(text) && /^\/?\d*$/.test(new URL(text).pathname)

export const isSentinelUrl = (text: string): boolean => sentinelOptions(text) !== undefined

/** What ioredis takes for a node of a cluster. */
export const isClusterNode = (node: unknown): boolean =>
  typeof node === "string" ? isRedisUrl(node) || /^[^/]+$/.test(node) : typeof node === "number" || isRecord(node)

export const addressRule =
  "a URL such as redis://host:port/database, rediss://host:port or redis-sentinel://hosts#group, or the path of a socket"

export const isAddress = (address: unknown): address is string =>
  typeof address === "string" && (isRedisUrl(address) || isSentinelUrl(address) || address.startsWith("/"))

/** A `Redis` or a `Cluster`, of whichever copy of ioredis. */
export const isIoredis = (client: unknown): client is IoredisClient =>
  isRecord(client) && "isCluster" in client && isRecord(client["options"]) && typeof client["duplicate"] === "function"

/** For messages. */
export const withoutCredentials = (address: string): string => address.replace(/\/\/.*@/, "//…@")

export const defaultKeyPrefix = "steindamm:"

export const keyPrefixRule = "a string without braces"

/** Braces would choose the slot of all limiters. */
export const isKeyPrefix = (keyPrefix: unknown): keyPrefix is string =>
  typeof keyPrefix === "string" && !/[{}]/.test(keyPrefix)
