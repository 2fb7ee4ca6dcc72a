import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { Redis } from "ioredis"
import { inject } from "vitest"
import { keySlot } from "../src/internal/keySlot.ts"
import { type LimiterAddress, limiterKey, parseLimiterKey } from "../src/internal/limiterKeys.ts"

const prefix = "steindamm:"

// Pieces that are made to break keys; the last two are halves of one emoji.
const Piece = Schema.Literals(["{", "}", "%", ":", "/", " ", "\n", "\0", "a", "é", "🪣", "%007B", "\uD83E", "\uDEA3"])

const name = Arbitrary.map(Arbitrary.array(Arbitrary.schema(Piece), { minLength: 1, maxLength: 12 }), (pieces) =>
  pieces.join("")
)

const address = Arbitrary.map(
  Arbitrary.schema(Schema.Struct({ kind: Schema.Literals(["TokenBucket", "Semaphore"]), tagged: Schema.Boolean })),
  ({ kind, tagged }) => ({ kind, tagged })
)

const addressOf = (
  { kind, tagged }: { readonly kind: "TokenBucket" | "Semaphore"; readonly tagged: boolean },
  name: string,
  tag: string
): LimiterAddress => (tagged ? { kind, name, tag } : { kind, name })

describe("limiter keys", () => {
  it("are readable for plain names", () => {
    assert.strictEqual(limiterKey(prefix, { kind: "TokenBucket", name: "github" }), "steindamm:{github}:token-bucket")
    assert.strictEqual(
      limiterKey(prefix, { kind: "Semaphore", name: "per user", tag: "shop" }),
      "steindamm:{shop}:semaphore:per user"
    )
  })

  it.prop("tell the limiter again", [address, name, name], ([kind, name, tag]) => {
    const limiter = addressOf(kind, name, tag)
    assert.deepStrictEqual(parseLimiterKey(prefix, limiterKey(prefix, limiter)), limiter)
  })

  it.prop(
    "differ between limiters, as Redis sees them",
    [address, name, name, address, name, name],
    ([kindA, nameA, tagA, kindB, nameB, tagB]) => {
      const [a, b] = [addressOf(kindA, nameA, tagA), addressOf(kindB, nameB, tagB)]
      const same = JSON.stringify(a) === JSON.stringify(b)
      assert.strictEqual(Buffer.from(limiterKey(prefix, a)).equals(Buffer.from(limiterKey(prefix, b))), same)
    }
  )

  it.prop("have exactly one hash tag", [address, name, name], ([kind, name, tag]) => {
    assert.match(limiterKey(prefix, addressOf(kind, name, tag)), /^[^{}]*\{[^{}]+\}[^{}]*$/)
  })

  it.prop("of one name, or of one tag, share a slot", [name, name, name], ([name, other, tag]) => {
    const slot = (limiter: LimiterAddress) => keySlot(limiterKey(prefix, limiter))
    assert.strictEqual(slot({ kind: "TokenBucket", name }), slot({ kind: "Semaphore", name }))
    assert.strictEqual(slot({ kind: "TokenBucket", name, tag }), slot({ kind: "Semaphore", name: other, tag }))
  })

  it("are not read from keys of others", () => {
    for (const key of [
      "other:{a}:semaphore",
      "steindamm:a:semaphore",
      "steindamm:{a}:list",
      "steindamm:{a}b:semaphore"
    ]) {
      assert.isUndefined(parseLimiterKey(prefix, key))
    }
  })
})

describe("the slot of a key", () => {
  it("is the one that Redis Cluster computes", async () => {
    const client = new Redis(inject("clusterUrl"))
    const keys = ["a", "foo{bar}baz", "{}a", "{a", "a}b{c}d{e}", "{{a}}", "🪣 é", "{\n}", "x".repeat(600), ""]
    const slots = await Promise.all(keys.map((key) => client.cluster("KEYSLOT", key)))
    client.disconnect()
    assert.deepStrictEqual(keys.map(keySlot), slots)
  })
})
