/**
 * `steindamm inspect NAME`: everything that Redis knows of a limiter.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Limiters } from "./limiters.ts"
import { kindFlag, limitersNamed, nameInput, nounOf, quoted } from "./named.ts"
import { print } from "./output.ts"
import { amount, duration, perSecond } from "./render/quantities.ts"
import { type Column, tableLines } from "./render/table.ts"
import { emptyLine, faint, type Line, plain, strong } from "./render/text.ts"
import type { BucketReport, HolderReport, LimiterReport, SemaphoreReport, WaiterReport } from "./report.ts"
import { limitersOfOptions } from "./steindamm.ts"

export const inspect = Command.make(
  "inspect",
  { ...nameInput, kind: kindFlag },
  Effect.fnUntraced(function* (names) {
    const { redis, prefix } = yield* Limiters
    const reports = (yield* limitersNamed(names)).map(({ report }) => report)
    yield* print(
      { redis, prefix, limiters: reports },
      reports.flatMap((report, index) => [...(index === 0 ? [] : [emptyLine]), ...reportLines(report)])
    )
  })
).pipe(
  Command.withDescription(
    "Show a limiter: its options, who holds permits and for how long yet, who waits and in what order."
  ),
  Command.withShortDescription("Show a limiter, its holders and waiters"),
  Command.provide(limitersOfOptions)
)

const reportLines = (report: LimiterReport): ReadonlyArray<Line> => [
  [
    strong(`${nounOf[report.kind]} ${quoted(report.name)}`),
    ...(report.tag === null ? [] : [plain(`  tag ${quoted(report.tag)}`)])
  ],
  ...(report.kind === "token-bucket" ? bucketLines(report) : semaphoreLines(report))
]

const factLine = (fact: string, value: string, note = ""): Line => [
  faint(`  ${fact.padEnd(14)}`),
  plain(value),
  ...(note === "" ? [] : [faint(`  ${note}`)])
]

const bucketLines = (report: BucketReport): ReadonlyArray<Line> => {
  const { refillAmount, refillFrequencyMs, initialTokens, expiryMs, windowStartTime } = report.options
  const refills = refillAmount > 0
  return [
    factLine("tokens", `${amount(report.tokens)} of ${amount(report.capacity)}`),
    ...(report.owed > 0
      ? [factLine("owed", amount(report.owed), "to requests that wait, or cost more than reserved")]
      : []),
    factLine(
      "a request",
      report.waitMs === 0 ? "runs at once" : report.waitMs === null ? "fails" : `waits ${duration(report.waitMs)}`
    ),
    factLine("next refill", report.nextRefillMs === null ? "–" : `in ${duration(report.nextRefillMs)}`),
    factLine("taken", amount(report.taken), "since it was made or reset"),
    refills
      ? factLine(
          "refill",
          `${amount(refillAmount)} every ${duration(refillFrequencyMs)}`,
          perSecond((refillAmount / refillFrequencyMs) * 1000)
        )
      : factLine("refill", "never"),
    ...(windowStartTime === null ? [] : [factLine("windows since", windowStartTime)]),
    ...(initialTokens === report.capacity ? [] : [factLine("starts with", amount(initialTokens))]),
    factLine("expiry", duration(expiryMs))
  ]
}

const semaphoreLines = (report: SemaphoreReport): ReadonlyArray<Line> => [
  factLine("capacity", report.capacity === null ? "unknown" : String(report.capacity), capacityNote(report)),
  factLine("in use", String(report.inUse)),
  factLine("waiting", String(report.waiting)),
  ...section("holders", holderColumns, report.holders, listedPermits(report) < report.inUse),
  ...section("waiters, in their order", waiterColumns, report.waiters, report.waiters.length < report.waiting)
]

const listedPermits = ({ holders }: SemaphoreReport): number => holders.reduce((sum, { permits }) => sum + permits, 0)

const capacityNote = ({ capacity, resized, ownCapacities }: SemaphoreReport): string => {
  const own = ownCapacities.join(" and ")
  if (resized) return own === "" ? "by resize" : `by resize; its programs say ${own}`
  if (ownCapacities.length > 1) return `its programs disagree: ${own}`
  return capacity === null ? "nobody holds or waits" : ""
}

const id = { head: "id", cell: (row: { readonly id: string }) => plain(row.id) }

const permits = {
  head: "permits",
  align: "right",
  cell: (row: { readonly permits: number }) => plain(String(row.permits))
} as const

const leaseLeft = {
  head: "lease left",
  align: "right",
  cell: (row: { readonly leaseLeftMs: number }) => plain(duration(row.leaseLeftMs))
} as const

const holderColumns: ReadonlyArray<Column<HolderReport>> = [
  id,
  permits,
  { head: "held for", align: "right", cell: ({ heldMs }) => plain(duration(heldMs)) },
  leaseLeft,
  { head: "fencing token", align: "right", cell: ({ fencingToken }) => plain(String(fencingToken)) }
]

const waiterColumns: ReadonlyArray<Column<WaiterReport>> = [
  id,
  permits,
  { head: "waiting for", align: "right", cell: ({ waitingMs }) => plain(duration(waitingMs)) },
  leaseLeft
]

const section = <Row>(
  title: string,
  columns: ReadonlyArray<Column<Row>>,
  rows: ReadonlyArray<Row>,
  isCut: boolean
): ReadonlyArray<Line> =>
  rows.length === 0
    ? []
    : [
        emptyLine,
        [strong(`  ${title}`), ...(isCut ? [faint(`  the first ${rows.length}`)] : [])],
        ...tableLines(columns, rows).map((line) => [plain("  "), ...line])
      ]
