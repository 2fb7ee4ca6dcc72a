/**
 * The rules for what a connection to Redis is made with, for those who check without loading a client.
 */

export const isRedisUrl = (text: string): boolean => /^rediss?:\/\/./.test(text) && URL.canParse(text)

export const addressRule = "a URL that begins with redis:// or rediss://, or the path of a socket"

export const isAddress = (address: string): boolean => isRedisUrl(address) || address.startsWith("/")

/** For messages. */
export const withoutCredentials = (address: string): string => address.replace(/\/\/.*@/, "//…@")

export const defaultKeyPrefix = "steindamm:"

export const keyPrefixRule = "a string without braces"

/** Braces would choose the slot of all limiters. */
export const isKeyPrefix = (keyPrefix: unknown): keyPrefix is string =>
  typeof keyPrefix === "string" && !/[{}]/.test(keyPrefix)
