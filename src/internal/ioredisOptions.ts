/**
 * The options of ioredis, which takes no notice of one that it doesn't know: with a misspelt `host` it goes to localhost.
 */

import * as Redacted from "effect/Redacted"
import type { ClusterOptions, RedisOptions } from "ioredis"
import { isRecord } from "./options.ts"
import { isRedisUrl } from "./redisAddress.ts"

/** What is wrong with an option. */
export interface WrongOption {
  readonly field: string
  readonly value: unknown
  readonly rule: string
}

const isNumber = (value: unknown): boolean => value === null || (typeof value === "number" && value >= 0)

const kinds = {
  any: { rule: "anything", holds: () => true },
  callback: { rule: "a function", holds: (value: unknown) => value === null || typeof value === "function" },
  // Also its digits, as a variable of the environment has them.
  index: { rule: "an integer of at least 0", holds: (value: unknown) => /^\d+$/.test(String(value)) },
  number: { rule: "a number of at least 0", holds: isNumber },
  switch: { rule: "true or false", holds: (value: unknown) => typeof value === "boolean" },
  text: { rule: "a string", holds: (value: unknown) => value === null || typeof value === "string" }
} satisfies Record<string, { readonly rule: string; readonly holds: (value: unknown) => boolean }>

type Table<Name extends string> = Readonly<Record<Name, keyof typeof kinds>>

// The compiler finds out if ioredis has others.
const forServers: Table<Exclude<keyof RedisOptions, "keyPrefix">> = {
  Connector: "callback",
  autoPipeliningIgnoredCommands: "any",
  autoResendUnfulfilledCommands: "switch",
  autoResubscribe: "switch",
  blockingTimeout: "number",
  blockingTimeoutGrace: "number",
  clientInfoTag: "text",
  commandQueue: "switch",
  commandTimeout: "number",
  connectTimeout: "number",
  connectionName: "text",
  db: "index",
  disableClientInfo: "switch",
  disconnectTimeout: "number",
  enableAutoPipelining: "switch",
  enableOfflineQueue: "switch",
  enableReadyCheck: "switch",
  enableTLSForSentinelMode: "switch",
  failoverDetector: "switch",
  family: "index",
  himportFieldsets: "any",
  host: "text",
  keepAlive: "number",
  lazyConnect: "switch",
  maxLoadingRetryTime: "number",
  maxRetriesPerRequest: "number",
  monitor: "switch",
  name: "text",
  natMap: "any",
  noDelay: "switch",
  offlineQueue: "switch",
  password: "text",
  path: "text",
  port: "index",
  preferredSlaves: "any",
  protocol: "number",
  readOnly: "switch",
  reconnectOnError: "callback",
  replyMapping: "any",
  retryStrategy: "callback",
  role: "text",
  scripts: "any",
  sentinelCommandTimeout: "number",
  sentinelMaxConnections: "number",
  sentinelPassword: "text",
  sentinelReconnectStrategy: "callback",
  sentinelRetryStrategy: "callback",
  sentinelTLS: "any",
  sentinelUsername: "text",
  sentinels: "any",
  showFriendlyErrorStack: "switch",
  socketTimeout: "number",
  stringNumbers: "switch",
  tls: "any",
  updateSentinels: "switch",
  username: "text"
}

const forClusters: Table<Exclude<keyof ClusterOptions, "keyPrefix" | "redisOptions">> = {
  autoPipeliningIgnoredCommands: "any",
  clusterNodeRetryStrategy: "callback",
  clusterRetryStrategy: "callback",
  dnsLookup: "callback",
  enableAutoPipelining: "switch",
  enableOfflineQueue: "switch",
  enableReadyCheck: "switch",
  himportFieldsets: "any",
  lazyConnect: "switch",
  maxRedirections: "number",
  natMap: "any",
  resolveSrv: "callback",
  retryDelayOnClusterDown: "number",
  retryDelayOnFailover: "number",
  retryDelayOnMoved: "number",
  retryDelayOnTryAgain: "number",
  scaleReads: "any",
  scripts: "any",
  shardedSubscribers: "switch",
  showFriendlyErrorStack: "switch",
  slotsRefreshInterval: "number",
  slotsRefreshTimeout: "number",
  useSRVRecords: "switch"
}

const isSecret = (field: string): boolean => /pass|user/i.test(field)

/** The first that is wrong. What may be a secret is told as a `Redacted`. */
const wrongIn = (table: Readonly<Record<string, keyof typeof kinds>>, options: object): WrongOption | undefined => {
  for (const [field, value] of Object.entries(options)) {
    if (!Object.hasOwn(table, field)) {
      const rule = "an option of RedisClient, or one of ioredis that belongs here"
      return { field, value: Redacted.make(value), rule }
    }
    const { rule, holds } = kinds[table[field] ?? "any"]
    if (value !== undefined && !holds(value)) {
      return { field, value: isSecret(field) ? Redacted.make(value) : value, rule }
    }
  }
  return undefined
}

const isServerAddress = (value: unknown): boolean => isRecord(value) && wrongIn(forServers, value) === undefined

/** Of what connects to one server, or to that which Sentinels know. */
export const wrongServerOption = (options: object): WrongOption | undefined => {
  const wrong = wrongIn(forServers, options)
  const { sentinels, name } = options as RedisOptions
  if (wrong !== undefined || sentinels === undefined || sentinels === null) return wrong
  if (!Array.isArray(sentinels) || sentinels.length === 0 || !sentinels.every(isServerAddress)) {
    return { field: "sentinels", value: sentinels, rule: "an array of at least one { host, port }" }
  }
  return name ? undefined : { field: "name", value: name, rule: "the name of the Sentinel group" }
}

/** Of what connects to a cluster: `redisOptions` are those of each of its nodes. */
export const wrongClusterOption = (options: object, redisOptions: unknown): WrongOption | undefined =>
  isRecord(redisOptions)
    ? (wrongIn(forClusters, options) ?? wrongIn(forServers, redisOptions))
    : { field: "redisOptions", value: Redacted.make(redisOptions), rule: "an object" }

/** What ioredis takes for a node of a cluster. */
export const isClusterNode = (node: unknown): boolean =>
  typeof node === "string"
    ? isRedisUrl(node) || /^[^/]+$/.test(node)
    : typeof node === "number" || isServerAddress(node)

/**
 * What all nodes of a cluster are connected to with, by the first that is a URL: ioredis finds others without the
 * credentials that are there, and takes no notice of `rediss`.
 */
export const nodeOptions = (nodes: ReadonlyArray<unknown>) => {
  const url = nodes.find((node) => typeof node === "string" && isRedisUrl(node))
  if (url === undefined) return {}
  const { username, password, protocol } = new URL(String(url))
  return {
    ...(username === "" ? {} : { username: decodeURIComponent(username) }),
    ...(password === "" ? {} : { password: decodeURIComponent(password) }),
    ...(protocol === "rediss:" ? { tls: {} } : {})
  }
}
