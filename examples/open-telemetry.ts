/**
 * Limiters that report to OpenTelemetry: metrics, spans and log lines, by Effect's own exporter.
 *
 * The collector is a stand-in within this process, which tells what has arrived. Give the exporter the address of a real
 * one, such as `http://localhost:4318`, and docs/grafana-dashboard.json shows the rest.
 *
 *     npx node --conditions steindamm-source examples/open-telemetry.ts
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Console, Effect, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"
import { LocalLive, Observation, Semaphore, TokenBucket } from "steindamm"

interface Attribute {
  readonly key: string
  readonly value: Readonly<Record<string, unknown>>
}

interface Point {
  readonly attributes: ReadonlyArray<Attribute>
  readonly asDouble?: number
  readonly count?: number
  readonly sum?: number
}

interface Metric {
  readonly name: string
  readonly sum?: { readonly dataPoints: ReadonlyArray<Point> }
  readonly gauge?: { readonly dataPoints: ReadonlyArray<Point> }
  readonly histogram?: { readonly dataPoints: ReadonlyArray<Point> }
}

interface Span {
  readonly name: string
  readonly attributes: ReadonlyArray<Attribute>
}

interface LogRecord {
  readonly body: Readonly<Record<string, unknown>>
  readonly attributes: ReadonlyArray<Attribute>
}

/** As much of the protocol as is looked at here. */
interface Telemetry {
  readonly resourceMetrics?: ReadonlyArray<{
    readonly scopeMetrics: ReadonlyArray<{ readonly metrics: ReadonlyArray<Metric> }>
  }>
  readonly resourceSpans?: ReadonlyArray<{
    readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<Span> }>
  }>
  readonly resourceLogs?: ReadonlyArray<{
    readonly scopeLogs: ReadonlyArray<{ readonly logRecords: ReadonlyArray<LogRecord> }>
  }>
}

/** What a collector was sent. */
class Collected {
  /** Every export tells all metrics as they are by then. */
  metrics: ReadonlyArray<Metric> = []
  readonly spans: Array<Span> = []
  readonly logs: Array<LogRecord> = []

  take({ resourceMetrics, resourceSpans, resourceLogs }: Telemetry): void {
    if (resourceMetrics !== undefined) {
      this.metrics = resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
    }
    for (const { scopeSpans } of resourceSpans ?? []) for (const { spans } of scopeSpans) this.spans.push(...spans)
    for (const { scopeLogs } of resourceLogs ?? [])
      for (const { logRecords } of scopeLogs) this.logs.push(...logRecords)
  }
}

const startCollector = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; readonly collected: Collected; readonly close: Effect.Effect<void> }>(
    (resume) => {
      const collected = new Collected()
      const server = createServer(async (request, response) => {
        const body = await request.toArray()
        collected.take(JSON.parse(Buffer.concat(body).toString()))
        response.end("{}")
      }).listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        const close = Effect.callback<void>((resume) => {
          server.closeAllConnections()
          server.close(() => resume(Effect.void))
        })
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, collected, close }))
      })
    }
  ),
  ({ close }) => close
)

/** A service that asks a model no more often than it may, and lets two queries at a time into its database. */
const service = Effect.gen(function* () {
  const model = yield* TokenBucket.make({
    name: "model",
    capacity: 3,
    refillFrequency: "100 millis",
    maxSleep: "250 millis"
  })
  const database = yield* Semaphore.make({ name: "database", capacity: 2 })
  const answer = (question: number) =>
    Effect.log(`answering question ${question}`).pipe(
      Effect.andThen(database.withPermit(Effect.sleep("30 millis").pipe(Effect.withSpan("query")))),
      model.withPermit,
      Effect.withSpan("answer"),
      Effect.catchTag("MaxSleepExceeded", () => Effect.void)
    )
  yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8], answer, { concurrency: "unbounded", discard: true })
})

/** `limiter=model backend=local`, without the prefix that attributes of spans and log lines have. */
const told = (attributes: ReadonlyArray<Attribute>, ...keys: ReadonlyArray<string>) =>
  attributes
    .map(({ key, value }) => [key.replace("steindamm.", ""), Object.values(value)[0]] as const)
    .filter(([key]) => keys.includes(key))
    .map(([key, value]) => `${key}=${value}`)
    .join(" ")

const showMetrics = (metrics: ReadonlyArray<Metric>) =>
  Effect.forEach(metrics, ({ name, sum, gauge, histogram }) =>
    Effect.forEach((sum ?? gauge ?? histogram)?.dataPoints ?? [], ({ attributes, asDouble, count, sum = 0 }) => {
      const value = asDouble ?? `${count} values, ${sum.toFixed(3)} in all`
      // All series are there from the start; most of them stay at zero.
      return asDouble === 0 ? Effect.void : Console.log(`  ${name} ${told(attributes, "limiter", "reason")} ${value}`)
    })
  )

const program = Effect.gen(function* () {
  const { url, collected } = yield* startCollector

  const telemetry = Otlp.layerJson({
    baseUrl: url,
    resource: { serviceName: "answers" },
    loggerMergeWithExisting: false
  }).pipe(Layer.provide(FetchHttpClient.layer))
  const observation = Observation.layer({ spans: true, logs: true, lookEvery: "100 millis" })

  // Whatever has not been sent is sent when the layer closes.
  yield* service.pipe(Effect.provide(LocalLive.pipe(Layer.provide(observation))), Effect.provide(telemetry))

  yield* Console.log("Metrics")
  yield* showMetrics(collected.metrics)
  yield* Console.log("Spans")
  yield* Effect.forEach(collected.spans, ({ name, attributes }) =>
    Console.log(`  ${name} ${told(attributes, "limiter", "outcome", "wait_seconds")}`)
  )
  yield* Console.log("Log lines")
  yield* Effect.forEach(collected.logs, ({ body, attributes }) =>
    Console.log(`  ${Object.values(body)[0]} ${told(attributes, "limiter", "wait_seconds")}`)
  )
}).pipe(Effect.scoped)

await Effect.runPromise(program)
