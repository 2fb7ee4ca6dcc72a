/**
 * What the pictures of the guides show: each a bucket, who comes and when, and what was decided.
 */
import { Clock, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { LocalLive } from "../../src/Local.ts"
import { TokenBucket } from "../../src/TokenBucket.ts"
import { across, Drawing, levelChart, rowLabel, type TimeAxis, timeAxis, timeGrid } from "./drawing.ts"
import { type Decision, Simulation } from "./simulation.ts"

const inSeconds = (time: number): string => `${time} s`

const times = <A>(n: number, f: (index: number) => A): ReadonlyArray<A> => Array.from({ length: n }, (_, i) => f(i))

/** Dots for starts; those of one moment stand on one another. */
const drawStarts = (drawing: Drawing, time: TimeAxis, starts: ReadonlyArray<number>, y: number): void => {
  const x = across(drawing, time)
  const standing = new Map<number, number>()
  for (const start of starts) {
    const below = standing.get(start) ?? 0
    standing.set(start, below + 1)
    drawing.dot(x(start), y - below * 12, "start")
  }
}

const startsOf = (decisions: ReadonlyArray<Decision>): ReadonlyArray<number> =>
  decisions.flatMap(({ starts }) => starts ?? [])

const twoWaysToRefill = (): Drawing => {
  const drawing = new Drawing(
    "Twelve requests come at once to a bucket of six tokens that refills by three every three seconds. By interval, six run at once, three after 3 s and three after 6 s. Continuously, six run at once and then one each second.",
    452
  )
  const time: TimeAxis = { until: 13, every: 1, label: inSeconds }
  for (const [index, refill] of (["interval", "continuous"] as const).entries()) {
    const top = 40 + index * 216
    const bucket = new Simulation({ capacity: 6, refillAmount: 3, refillFrequency: "3 seconds", refill })
    const decisions = times(12, () => bucket.request())
    bucket.advance(time.until)
    timeAxis(drawing, time, top, top + 156)
    drawing.text(12, top - 16, `refill: "${refill}"`, { bold: true })
    levelChart(drawing, time, { least: -6, most: 6, marked: [6, 0, -6] }, top + 6, top + 76, bucket.levelHistory)
    drawStarts(drawing, time, startsOf(decisions), top + 150)
    rowLabel(drawing, top + 150, "starts")
  }
  return drawing
}

const aBurst = (): Drawing => {
  const drawing = new Drawing(
    "Ten requests come at once to a bucket of five tokens that refills by one a second, with a maxSleep of four seconds. Five run at once, four wait one to four seconds, and the tenth is refused at once and told to come back in five seconds.",
    420
  )
  const time: TimeAxis = { until: 10, every: 1, label: inSeconds }
  const x = across(drawing, time)
  const bucket = new Simulation({ capacity: 5, maxSleep: "4 seconds" })
  const decisions = times(10, () => bucket.request())
  bucket.advance(time.until)
  timeGrid(drawing, time, 34, 150)
  drawing.text(12, 22, "tokens in the bucket, less those that are promised", { bold: true })
  levelChart(drawing, time, { least: -5, most: 5, marked: [5, 0, -5] }, 44, 144, bucket.levelHistory)
  timeAxis(drawing, time, 188, 390)
  drawing.text(12, 176, "ten requests", { bold: true })
  for (const [index, { came, starts, requiredSleep }] of decisions.entries()) {
    const y = 196 + index * 19.5
    rowLabel(drawing, y, `no. ${index + 1}`)
    if (starts === undefined) {
      drawing.cross(x(came), y, "refused")
      drawing.text(x(came) + 12, y + 4.5, `refused at once: requiredSleep is ${requiredSleep} s, maxSleep 4 s`, {
        ink: "refused"
      })
      continue
    }
    if (starts > came)
      drawing.line(
        [
          [x(came), y],
          [x(starts), y]
        ],
        "wait",
        { width: 3 }
      )
    drawing.dot(x(starts), y, "start")
  }
  return drawing
}

/** In seconds after noon. */
const timeOfDay = (time: number): string => {
  const seconds = time % 60
  return seconds === 0 ? `12:0${time / 60}` : `:${seconds}`
}

const windows = (): Drawing => {
  const drawing = new Drawing(
    "Nine requests come at 12:00:40 to a bucket that refills by three each minute. Without windowStartTime the refills come a minute after the first request and another minute later; with it they come when the minute turns.",
    252
  )
  const time: TimeAxis = { until: 180, every: 20, label: timeOfDay }
  for (const [index, windowStartTime] of [undefined, 0].entries()) {
    const top = 34 + index * 124
    const bucket = new Simulation({
      capacity: 3,
      refillAmount: 3,
      refillFrequency: "1 minute",
      maxSleep: "1 hour",
      windowStartTime
    })
    const decisions = times(9, () => bucket.advance(40).request())
    drawing.text(12, top - 12, windowStartTime === undefined ? "without windowStartTime" : "windowStartTime: 0", {
      bold: true
    })
    timeAxis(drawing, time, top, top + 58)
    drawStarts(drawing, time, startsOf(decisions), top + 44)
    rowLabel(drawing, top + 44, "starts")
  }
  return drawing
}

/** When five start that come at once to a bucket of one token a second, if one of them leaves. */
const startsWithout = (leaver: number): Effect.Effect<ReadonlyArray<number | undefined>> =>
  Effect.gen(function* () {
    const limiter = yield* TokenBucket.make({ name: "picture", capacity: 1 })
    const starts: Array<number | undefined> = times(5, () => undefined).slice()
    const fibers = yield* Effect.forEach(starts, (_, index) =>
      Effect.forkChild(
        limiter.withPermit(
          Effect.map(Clock.currentTimeMillis, (now) => {
            starts[index] = now / 1000
          })
        ),
        { startImmediately: true }
      )
    )
    yield* TestClock.adjust("1500 millis")
    const leaving = fibers[leaver]
    if (leaving !== undefined) yield* Fiber.interrupt(leaving)
    yield* TestClock.adjust("10 seconds")
    return starts
  }).pipe(Effect.orDie, Effect.provide(LocalLive), Effect.provide(TestClock.layer()))

const aWaiterLeaves = async (): Promise<Drawing> => {
  const drawing = new Drawing(
    "Five requests come at once to a bucket of one token a second. The third leaves after one and a half seconds. The fourth and the fifth, which would have run after three and four seconds, run after two and three.",
    206
  )
  const time: TimeAxis = { until: 5, every: 1, label: inSeconds }
  const x = across(drawing, time)
  const [before, after] = await Effect.runPromise(Effect.all([startsWithout(-1), startsWithout(2)]))
  timeAxis(drawing, time, 34, 172)
  drawing.text(12, 22, "the third of five leaves", { bold: true })
  for (const [index, promised] of before.entries()) {
    const y = 52 + index * 27
    rowLabel(drawing, y, `no. ${index + 1}`)
    const starts = after[index]
    if (promised !== undefined && promised !== starts) drawing.dot(x(promised), y, "wait", { hollow: true })
    const ends = starts ?? 1.5
    if (ends > 0)
      drawing.line(
        [
          [x(0), y],
          [x(ends), y]
        ],
        "wait",
        { width: 3 }
      )
    if (starts === undefined) drawing.cross(x(ends), y, "refused")
    else drawing.dot(x(starts), y, "start")
  }
  return drawing
}

const settling = (): Drawing => {
  const drawing = new Drawing(
    "A bucket of a thousand tokens that trickles in over a minute. A call takes 600 and settles at 200: 400 go back. The next takes 600 and settles at 1100: the level nearly reaches zero, and a call for 300 waits until that much has come in.",
    268
  )
  const time: TimeAxis = { until: 60, every: 10, label: inSeconds }
  const x = across(drawing, time)
  const bucket = new Simulation({
    capacity: 1000,
    refillAmount: 1000,
    refillFrequency: "1 minute",
    refill: "continuous",
    maxSleep: "1 minute"
  })
  bucket.advance(2)
  const cheap = bucket.request(600)
  bucket.advance(10)
  bucket.settle(cheap, 200)
  bucket.advance(26)
  const dear = bucket.request(600)
  bucket.advance(34)
  bucket.settle(dear, 1100)
  bucket.advance(38)
  const waiting = bucket.request(300)
  bucket.advance(time.until)
  timeAxis(drawing, time, 34, 234)
  drawing.text(12, 22, "tokens in the bucket, less those that are promised", { bold: true })
  const y = levelChart(
    drawing,
    time,
    { least: -500, most: 1000, marked: [1000, 500, 0, -500] },
    44,
    204,
    bucket.levelHistory
  )
  drawing.text(x(2) + 6, y(290), "takes 600")
  drawing.text(x(10) + 6, y(760), "settles 200:")
  drawing.text(x(10) + 6, y(600), "400 go back")
  drawing.text(x(26) + 6, y(290), "takes 600")
  drawing.text(x(34) + 6, y(360), "settles 1100:")
  drawing.text(x(34) + 6, y(200), "500 more are taken")
  drawing.text(x(38) + 6, y(-330), "a request for 300 waits")
  const { came, starts = came } = waiting
  drawing.line(
    [
      [x(came), 222],
      [x(starts), 222]
    ],
    "wait",
    { width: 3 }
  )
  drawing.dot(x(starts), 222, "start")
  rowLabel(drawing, 222, "it starts")
  return drawing
}

const aPause = (): Drawing => {
  const drawing = new Drawing(
    "Requests come evenly to a bucket of three tokens that refills by two a second. After three seconds the bucket is paused for four. Who comes meanwhile waits; at the end of the pause three start at once, which is what the bucket holds, and the rest at the rate, until nobody waits any more.",
    300
  )
  const time: TimeAxis = { until: 12, every: 1, label: inSeconds }
  const x = across(drawing, time)
  const bucket = new Simulation({ capacity: 3, refillFrequency: "500 millis" })
  const decisions: Array<Decision> = []
  for (const [index, came] of times(15, (index) => 0.4 + index * 0.8).entries()) {
    if (index === 4) bucket.advance(3).pause(4)
    decisions.push(bucket.advance(came).request())
  }
  bucket.advance(time.until)
  drawing.area(x(3), 34, x(7) - x(3), 232, "grid")
  timeAxis(drawing, time, 34, 266)
  drawing.text(x(5), 48, "pause", { ink: "muted", anchor: "middle" })
  drawing.text(12, 22, "tokens that can be taken at once", { bold: true })
  levelChart(drawing, time, { least: 0, most: 3, marked: [3, 0] }, 54, 112, bucket.availableHistory)
  drawing.text(12, 144, "requests", { bold: true })
  rowLabel(drawing, 170, "come")
  rowLabel(drawing, 244, "start")
  for (const { came, starts = came } of decisions) {
    drawing.line(
      [
        [x(came), 170],
        [x(starts), 244]
      ],
      "wait",
      { width: 1.5 }
    )
    drawing.dot(x(came), 170, "wait")
  }
  drawStarts(drawing, time, startsOf(decisions), 244)
  return drawing
}

/** The pictures of the guides, by the name of their file. */
export const scenes: Readonly<Record<string, () => Drawing | Promise<Drawing>>> = {
  "two-ways-to-refill": twoWaysToRefill,
  "a-burst": aBurst,
  windows,
  "a-waiter-leaves": aWaiterLeaves,
  settling,
  "a-pause": aPause
}
