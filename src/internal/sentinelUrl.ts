/**
 * The address of a Sentinel group as one text, for where there is room for no more:
 * `redis-sentinel://user:secret@10.0.0.1:26379,10.0.0.2/1#mymaster`. The credentials and the database are those of the
 * servers that are watched; what follows `#` is the group's name. With `rediss-sentinel` all of them are reached over TLS.
 */

/** As options of ioredis. */
export interface SentinelOptions {
  readonly sentinels: Array<{ readonly host: string; readonly port: number }>
  readonly name: string
  readonly username?: string
  readonly password?: string
  readonly db?: number
  readonly enableTLSForSentinelMode?: true
}

const pattern = /^redis(s?)-sentinel:\/\/(?:([^@/:]*)(?::([^@/]*))?@)?([^@/#]+)(?:\/(\d*))?#(.+)$/

const usualPort = 26379

const sentinelAt = (address: string): SentinelOptions["sentinels"][number] | undefined => {
  if (!URL.canParse(`redis://${address}`)) return undefined
  const { hostname, port } = new URL(`redis://${address}`)
  return hostname === "" ? undefined : { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || usualPort) }
}

/** Undefined for what is no such address. */
export const sentinelOptions = (text: string): SentinelOptions | undefined => {
  const [, secured = "", username = "", password = "", addresses = "", db = "", name = ""] = pattern.exec(text) ?? []
  const sentinels = addresses.split(",").map(sentinelAt)
  if (!sentinels.every((sentinel) => sentinel !== undefined)) return undefined
  try {
    return {
      sentinels,
      name: decodeURIComponent(name),
      ...(username === "" ? {} : { username: decodeURIComponent(username) }),
      ...(password === "" ? {} : { password: decodeURIComponent(password) }),
      ...(db === "" ? {} : { db: Number(db) }),
      ...(secured === "" ? {} : { enableTLSForSentinelMode: true })
    }
  } catch {
    // A percent sign that encodes nothing.
    return undefined
  }
}
