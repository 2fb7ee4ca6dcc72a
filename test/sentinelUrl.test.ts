import type { RedisOptions } from "ioredis"
import { assert, describe, it } from "vitest"
import { redisAt } from "../src/internal/redisConnection.ts"
import { sentinelOptions } from "../src/internal/sentinelUrl.ts"

describe("the options of a Sentinel group's URL", () => {
  it("give Sentinels the TLS of the servers, unless they have their own", () => {
    const [url, ours, theirs] = ["rediss-sentinel://a#group", { ca: "ours" }, { ca: "theirs" }]
    const securityOf = (options: Omit<RedisOptions, "replyMapping">) => {
      const { tls, sentinelTLS } = redisAt(url, { ...options, lazyConnect: true }).options
      return { tls, sentinelTLS }
    }
    assert.deepStrictEqual(securityOf({}), { tls: {}, sentinelTLS: {} })
    assert.deepStrictEqual(securityOf({ tls: ours }), { tls: ours, sentinelTLS: ours })
    assert.deepStrictEqual(securityOf({ tls: ours, sentinelTLS: theirs }), { tls: ours, sentinelTLS: theirs })
  })
})

describe("the URL of a Sentinel group", () => {
  it("tells the Sentinels and the group, and the credentials and database of the servers", () => {
    assert.deepStrictEqual(sentinelOptions("redis-sentinel://a.example#group"), {
      sentinels: [{ host: "a.example", port: 26379 }],
      name: "group"
    })
    assert.deepStrictEqual(sentinelOptions("redis-sentinel://ada:s%23%40cret@10.0.0.1:1,[::1]:2,b/3#my%20group"), {
      sentinels: [
        { host: "10.0.0.1", port: 1 },
        { host: "::1", port: 2 },
        { host: "b", port: 26379 }
      ],
      name: "my group",
      username: "ada",
      password: "s#@cret",
      db: 3
    })
    assert.strictEqual(sentinelOptions("redis-sentinel://:secret@a/#group")?.password, "secret")
    assert.isUndefined(sentinelOptions("redis-sentinel://a#group")?.enableTLSForSentinelMode)
    assert.isTrue(sentinelOptions("rediss-sentinel://a#group")?.enableTLSForSentinelMode)
  })

  it("is refused if there is no group or an address that is none", () => {
    for (const url of [
      "redis-sentinel://a",
      "redis-sentinel://a#",
      "redis-sentinel://#group",
      "redis-sentinel://a,#group",
      "redis-sentinel://a:many#group",
      "redis-sentinel://a/zero#group",
      "redis-sentinel://a:1/0#group%",
      "redis://a#group"
    ]) {
      assert.isUndefined(sentinelOptions(url), url)
    }
  })
})
