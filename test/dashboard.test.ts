import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { Observation, Semaphore, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { beforeAll, inject } from "vitest"
import { metrics } from "../src/internal/metrics.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"
import { isolated, reading } from "./support/metrics.ts"
import { until } from "./support/servers.ts"

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8")

interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number }
  readonly targets?: ReadonlyArray<{ readonly expr: string }>
}

const dashboard = JSON.parse(read("docs/grafana-dashboard.json")) as {
  readonly panels: ReadonlyArray<Panel>
  readonly templating: { readonly list: ReadonlyArray<{ readonly definition?: string }> }
}

const queries = [
  ...dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
  ...dashboard.templating.list.flatMap(({ definition = [] }) => definition)
]

/** The labels of the series that Prometheus would see, by name. */
const scraped = Effect.gen(function* () {
  const bucket = yield* TokenBucket.make({ name: "bucket", whenAway: "allow" })
  const semaphore = yield* Semaphore.make({ name: "semaphore" })
  yield* bucket.withPermit(semaphore.withPermit(Effect.void))
  yield* until(Effect.map(reading(metrics.tokensAvailable.name), (tokens) => !Number.isNaN(tokens)))
  const series = new Map<string, ReadonlySet<string>>()
  for (const line of (yield* PrometheusMetrics.format()).split("\n")) {
    const [, name, labels = ""] = /^(\w+)\{(.*)\} \S+$/.exec(line) ?? []
    if (name !== undefined)
      series.set(name, new Set(Array.from(labels.matchAll(/(\w+)="/g), ([, label = ""]) => label)))
  }
  return series
}).pipe(
  Effect.provide(
    RedisLive.pipe(
      Layer.provide(RedisClient.layer({ url: inject("redisUrl"), keyPrefix: freshKeyPrefix() })),
      Layer.provide(Observation.layer({ lookEvery: "10 millis" }))
    )
  ),
  isolated
)

describe("the Grafana dashboard", () => {
  let series: ReadonlyMap<string, ReadonlySet<string>>
  beforeAll(async () => {
    series = await Effect.runPromise(scraped)
  })

  it("asks for series that exist, by labels that they have", () => {
    for (const query of queries) {
      const names = query.match(/steindamm_\w+/g) ?? []
      assert.isNotEmpty(names, query)
      const asked = [
        ...Array.from(query.matchAll(/by \(([^)]*)\)/g), ([, labels = ""]) => labels.split(", ")),
        ...Array.from(query.matchAll(/(\w+)=~/g), ([, label = ""]) => label),
        ...Array.from(query.matchAll(/label_values\(\w+, (\w+)\)/g), ([, label = ""]) => label)
      ].flat()
      for (const name of names) {
        const labels = series.get(name)
        assert.isDefined(labels, `${name} in ${query}`)
        for (const label of asked) assert.isTrue(labels?.has(label), `${label} of ${name} in ${query}`)
      }
    }
  })

  it("shows every metric", () => {
    for (const { name } of Object.values(metrics)) {
      assert.isTrue(
        queries.some((query) => new RegExp(`\\b${name}(_bucket|_sum|_count)?\\b`).test(query)),
        name
      )
    }
  })

  it("has queries whose brackets match", () => {
    const closing: Record<string, string> = { ")": "(", "]": "[", "}": "{" }
    for (const query of queries) {
      const open: Array<string> = []
      for (const one of query.replace(/"[^"]*"/g, "")) {
        if ("([{".includes(one)) open.push(one)
        else if (one in closing) assert.strictEqual(open.pop(), closing[one], query)
      }
      assert.isEmpty(open, query)
    }
  })

  it("has panels beside and below each other", () => {
    const cells = new Set<string>()
    for (const { title, gridPos } of dashboard.panels) {
      assert.isAtMost(gridPos.x + gridPos.w, 24, title)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          assert.isFalse(cells.has(`${x} ${y}`), title)
          cells.add(`${x} ${y}`)
        }
      }
    }
    assert.strictEqual(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
  })
})

describe("the guide to observability", () => {
  it("tells of every metric, its type and what it tells, and of no other", () => {
    const rows = Array.from(
      read("docs/observability.md").matchAll(/^\| `(steindamm_\w+)` \| (\w+) \|[^|]*\| ([^|]*) \|$/gm),
      ([, name, type, description]) => [name, type, description]
    )
    assert.deepStrictEqual(
      rows,
      Object.values(metrics).map(({ name, type, description }) => [name, type, description])
    )
  })
})
