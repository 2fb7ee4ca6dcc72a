/**
 * The Grafana dashboard, made from the definitions of the metrics, so that it names none that doesn't exist.
 */
import { type MetricDefinition, metrics } from "../src/internal/metrics.ts"

type Panel = Readonly<Record<string, unknown>>

interface Query {
  readonly expr: string
  readonly legend: string
}

interface Place {
  readonly h: number
  readonly w: number
  readonly x: number
  readonly y: number
}

interface Drawing {
  readonly title: string
  readonly description: string
  readonly unit: string
  readonly queries: ReadonlyArray<Query>
}

/** What is chosen above the panels. Round trips are not those of one limiter. */
const ofLimiter = '{limiter=~"$limiter", backend=~"$backend"}'
const ofBackend = '{backend=~"$backend"}'

const rate = (series: string) => `rate(${series}[$__rate_interval])`

const perSecond = ({ name }: MetricDefinition, selector: string, ...by: ReadonlyArray<string>) =>
  `sum by (${by.join(", ")}) (${rate(name + selector)})`

const sum = ({ name }: MetricDefinition, ...by: ReadonlyArray<string>) =>
  `sum by (${by.join(", ")}) (${name}${ofLimiter})`

const quantile = (q: number, { name }: MetricDefinition, selector: string, ...by: ReadonlyArray<string>) =>
  `histogram_quantile(${q}, sum by (${["le", ...by].join(", ")}) (${rate(`${name}_bucket${selector}`)}))`

const quantiles = (metric: MetricDefinition, selector: string, by: string): ReadonlyArray<Query> =>
  [0.5, 0.95, 0.99].map((q) => ({ expr: quantile(q, metric, selector, by), legend: `{{${by}}} p${q * 100}` }))

const mean = ({ name }: MetricDefinition, by: string) =>
  `sum by (${by}) (${rate(`${name}_sum${ofBackend}`)}) / sum by (${by}) (${rate(`${name}_count${ofBackend}`)})`

const datasource = { type: "prometheus", uid: "$datasource" }

const panel = (type: string, { title, description, unit, queries }: Drawing, place: Place): Panel => ({
  type,
  title,
  description,
  datasource,
  gridPos: place,
  fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
  options:
    type === "stat"
      ? { reduceOptions: { calcs: ["lastNotNull"] }, graphMode: "area" }
      : { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi", sort: "desc" } },
  targets: queries.map(({ expr, legend }, index) => ({
    refId: String.fromCharCode("A".charCodeAt(0) + index),
    datasource,
    expr,
    legendFormat: legend
  }))
})

const columns = 24

/** Panels side by side, under a heading or without one. */
const row = (y: number, height: number, type: string, drawings: ReadonlyArray<Drawing>): ReadonlyArray<Panel> => {
  const w = Math.floor(columns / drawings.length)
  return drawings.map((drawing, index) => panel(type, drawing, { h: height, w, x: index * w, y }))
}

const heading = (title: string, y: number): Panel => ({
  type: "row",
  title,
  collapsed: false,
  gridPos: { h: 1, w: columns, x: 0, y },
  panels: []
})

const drawn = (title: string, metric: MetricDefinition, unit: string, queries: ReadonlyArray<Query>): Drawing => ({
  title,
  description: metric.description,
  unit,
  queries
})

const single = (title: string, metric: MetricDefinition, unit: string, expr: string): Drawing =>
  drawn(title, metric, unit, [{ expr, legend: title }])

const total = ({ name }: MetricDefinition) => `sum(${rate(name + ofLimiter)})`

const inAll = ({ name }: MetricDefinition, selector: string) => `sum(increase(${name}${selector}[$__range]))`

const glance: ReadonlyArray<Drawing> = [
  single("Granted", metrics.permitsGranted, "ops", total(metrics.permitsGranted)),
  single("Refused", metrics.requestsRefused, "reqps", total(metrics.requestsRefused)),
  single("Waiting", metrics.requestsWaiting, "short", `sum(${metrics.requestsWaiting.name}${ofLimiter})`),
  single("Wait, p95", metrics.wait, "s", quantile(0.95, metrics.wait, ofLimiter)),
  single("Leases lost", metrics.leasesLost, "short", inAll(metrics.leasesLost, ofLimiter)),
  single("Backend errors", metrics.backendErrors, "short", inAll(metrics.backendErrors, ofBackend))
]

const requests: ReadonlyArray<Drawing> = [
  drawn("Permits and tokens granted", metrics.permitsGranted, "ops", [
    { expr: perSecond(metrics.permitsGranted, ofLimiter, "limiter"), legend: "{{limiter}}" }
  ]),
  drawn("Requests refused, by reason", metrics.requestsRefused, "reqps", [
    { expr: perSecond(metrics.requestsRefused, ofLimiter, "limiter", "reason"), legend: "{{limiter}} {{reason}}" }
  ])
]

const waits: ReadonlyArray<Drawing> = [
  drawn("Requests waiting", metrics.requestsWaiting, "short", [
    { expr: sum(metrics.requestsWaiting, "limiter"), legend: "{{limiter}}" }
  ]),
  drawn("Wait", metrics.wait, "s", quantiles(metrics.wait, ofLimiter, "limiter"))
]

const semaphores: ReadonlyArray<Drawing> = [
  drawn("Permits in use", metrics.permitsInUse, "short", [
    { expr: sum(metrics.permitsInUse, "limiter"), legend: "{{limiter}}" }
  ]),
  drawn("Hold", metrics.hold, "s", quantiles(metrics.hold, ofLimiter, "limiter")),
  drawn("Leases lost", metrics.leasesLost, "short", [
    {
      expr: `sum by (limiter) (increase(${metrics.leasesLost.name}${ofLimiter}[$__rate_interval]))`,
      legend: "{{limiter}}"
    }
  ])
]

// Every process looks at the same bucket in Redis, and at its own one in memory: the emptiest is what matters.
const tokenBuckets: ReadonlyArray<Drawing> = [
  drawn("Tokens left", metrics.tokensAvailable, "short", [
    { expr: `min by (limiter) (${metrics.tokensAvailable.name}${ofLimiter})`, legend: "{{limiter}}" }
  ]),
  drawn("Requests that found other options", metrics.optionsDisagreed, "ops", [
    { expr: perSecond(metrics.optionsDisagreed, ofLimiter, "limiter"), legend: "{{limiter}}" }
  ])
]

const backend: ReadonlyArray<Drawing> = [
  drawn("Round trips", metrics.roundTrips, "ops", [
    { expr: perSecond(metrics.roundTrips, ofBackend, "kind"), legend: "{{kind}}" }
  ]),
  drawn("Round trip time", metrics.roundTrip, "s", quantiles(metrics.roundTrip, ofBackend, "kind")),
  drawn("Requests that share a round trip", metrics.batchSize, "short", [
    { expr: mean(metrics.batchSize, "kind"), legend: "{{kind}}" }
  ]),
  drawn("Granted while it was away", metrics.permitsGrantedAway, "ops", [
    { expr: perSecond(metrics.permitsGrantedAway, ofLimiter, "limiter"), legend: "{{limiter}}" }
  ]),
  drawn("Errors, by reason", metrics.backendErrors, "ops", [
    { expr: perSecond(metrics.backendErrors, ofBackend, "reason"), legend: "{{reason}}" }
  ])
]

const chosen = (name: string, query: string) => ({
  name,
  type: "query",
  datasource,
  query: { query, refId: name },
  definition: query,
  refresh: 2,
  includeAll: true,
  multi: true,
  allValue: ".*",
  current: { text: "All", value: "$__all" }
})

const parts: ReadonlyArray<readonly [title: string, drawings: ReadonlyArray<Drawing>]> = [
  ["Requests", requests],
  ["Waits", waits],
  ["Semaphores", semaphores],
  ["Token buckets", tokenBuckets],
  ["Redis", backend]
]

const glanceHeight = 4
const drawingHeight = 8

const panels: ReadonlyArray<Panel> = [
  ...row(0, glanceHeight, "stat", glance),
  ...parts.flatMap(([title, drawings], index) => {
    const y = glanceHeight + index * (drawingHeight + 1)
    return [heading(title, y), ...row(y + 1, drawingHeight, "timeseries", drawings)]
  })
]

const dashboard = {
  title: "Steindamm",
  uid: "steindamm",
  description: "Rate and concurrency limits: who gets through, who waits, and how the backend does.",
  tags: ["steindamm"],
  schemaVersion: 39,
  version: 1,
  editable: true,
  graphTooltip: 1,
  refresh: "10s",
  time: { from: "now-1h", to: "now" },
  templating: {
    list: [
      { name: "datasource", type: "datasource", query: "prometheus", current: {} },
      chosen("limiter", `label_values(${metrics.permitsGranted.name}, limiter)`),
      chosen("backend", `label_values(${metrics.permitsGranted.name}, backend)`)
    ]
  },
  panels: panels.map((panel, index) => ({ id: index + 1, ...panel }))
}

export const dashboardText: string = `${JSON.stringify(dashboard, undefined, 2)}\n`
