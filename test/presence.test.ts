import { assert, describe, it } from "@effect/vitest"
import { type Call, Presence } from "../src/internal/presence.ts"
import { seeded } from "./support/random.ts"

const awayAfter = 500_000

const secondLook = 5_000

describe("presence", () => {
  it("is away once a call has been without an answer for too long, and a second look says the same", () => {
    const presence = new Presence(awayAfter)
    presence.asked(1_000)
    assert.strictEqual(presence.nextLook, 1_000 + awayAfter)
    assert.isFalse(presence.look(awayAfter))
    assert.isFalse(presence.look(1_000 + awayAfter))
    assert.strictEqual(presence.nextLook, 1_000 + awayAfter + secondLook)
    assert.isTrue(presence.look(1_000 + awayAfter + secondLook))
    assert.strictEqual(presence.awaySince, 1_000)
    assert.strictEqual(presence.nextLook, Number.POSITIVE_INFINITY)
  })

  it("is there if a busy process finds the answer at its second look", () => {
    const presence = new Presence(awayAfter)
    const call = presence.asked(0)
    assert.isFalse(presence.look(2 * awayAfter))
    presence.over(call)
    assert.isFalse(presence.look(2 * awayAfter + secondLook))
    assert.isUndefined(presence.awaySince)
  })

  it("is away at once when somebody can wait no longer, since the oldest call without an answer", () => {
    const presence = new Presence(awayAfter)
    presence.asked(100)
    presence.asked(200)
    assert.isTrue(presence.missed(300))
    assert.strictEqual(presence.awaySince, 100)
    assert.isFalse(presence.missed(400))
  })

  it("is back when a probe is answered in time, not when one is answered late", () => {
    const presence = new Presence(awayAfter)
    presence.missed(0)
    assert.isFalse(presence.probed(0, awayAfter + 1))
    assert.isTrue(presence.probed(10, awayAfter + 10))
    assert.isUndefined(presence.awaySince)
    assert.isFalse(presence.probed(20, 30))
  })

  it("does not blame a Redis that is back for calls that were made before", () => {
    const presence = new Presence(awayAfter)
    presence.asked(0)
    presence.missed(1_000)
    presence.probed(2_000_000, 2_001_000)
    assert.strictEqual(presence.nextLook, 2_001_000 + awayAfter)
  })

  it("is away when a call comes to nothing, but not for one that was made before it was away", () => {
    const presence = new Presence(awayAfter)
    const [early, late] = [presence.asked(0), presence.asked(1_000)]
    assert.isTrue(presence.failed(early, 2_000))
    assert.strictEqual(presence.awaySince, 0)
    presence.probed(3_000, 4_000)
    assert.isFalse(presence.failed(late, 5_000))
    assert.isUndefined(presence.awaySince)
    assert.isTrue(presence.failed(presence.asked(6_000), 7_000))
  })

  it("agrees with a model that remembers everything, whatever happens", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = seeded(seed)
      const presence = new Presence(awayAfter)
      /** When each call without an answer was made, or what counts as that. */
      const open = new Map<Call, number>()
      const old = new Set<Call>()
      let away: number | undefined
      let suspected: { call: Call; at: number } | undefined
      let now = 0
      for (let step = 0; step < 400; step++) {
        now += random.integer(0, 120_000)
        const oldest = [...open].reduce<[Call, number] | undefined>(
          (first, one) => (first === undefined || one[1] < first[1] ? one : first),
          undefined
        )
        const choice = random.integer(0, 9)
        if (choice < 3) open.set(presence.asked(now), now)
        else if (choice < 5) {
          const calls = [...open.keys()]
          const call = calls[random.integer(0, Math.max(0, calls.length - 1))]
          if (call === undefined) continue
          if (random.chance(0.8)) presence.over(call)
          else {
            const isNews = away === undefined && !old.has(call)
            assert.strictEqual(presence.failed(call, now), isNews)
            if (isNews) {
              away = oldest?.[1]
              suspected = undefined
            }
          }
          open.delete(call)
        } else if (choice === 5) {
          assert.strictEqual(presence.missed(now), away === undefined)
          away ??= oldest?.[1] ?? now
          suspected = undefined
        } else if (choice === 6) {
          const sent = now - random.integer(0, 2 * awayAfter)
          const isBack = away !== undefined && now - sent <= awayAfter
          assert.strictEqual(presence.probed(sent, now), isBack)
          if (isBack) {
            away = undefined
            for (const call of open.keys()) {
              open.set(call, now)
              old.add(call)
            }
          }
        } else {
          const isOverdue = away === undefined && oldest !== undefined && now - oldest[1] >= awayAfter
          const isConfirmed = isOverdue && suspected?.call === oldest[0] && now - suspected.at >= secondLook
          assert.strictEqual(presence.look(now), isConfirmed, `seed ${seed}, step ${step}`)
          if (isConfirmed) {
            away = oldest[1]
            suspected = undefined
          } else if (isOverdue && suspected?.call !== oldest[0]) suspected = { call: oldest[0], at: now }
        }
        assert.strictEqual(presence.awaySince, away)
      }
    }
  })
})
