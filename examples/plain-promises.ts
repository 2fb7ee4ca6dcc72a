/**
 * A program of plain promises that calls an API: three calls at once and then one every 100 milliseconds, two of them in
 * flight. Users leave, and the program shuts down in order.
 *
 * With a Redis named in `REDIS_URL`, all processes keep to the limits together; nothing else changes.
 *
 *     npx node --conditions steindamm-source examples/plain-promises.ts
 */
import { setTimeout } from "node:timers/promises"
import { createSemaphore, createTokenBucket, MaxSleepExceeded } from "steindamm/promise"

const begun = performance.now()
const say = (message: string) => console.log(`${((performance.now() - begun) / 1000).toFixed(1)} s  ${message}`)

/** The API, which isn't one. */
const geocode = async (city: string, signal: AbortSignal): Promise<string> => {
  await setTimeout(120, undefined, { signal })
  return `${city} is where it has always been`
}

const options = { name: "geocoder", redis: process.env["REDIS_URL"] }
const rate = createTokenBucket({ ...options, capacity: 3, refillFrequency: "100 millis" })
const inFlight = createSemaphore({ ...options, capacity: 2 })

// First a permit and then a token, so that every token is used the moment it is there. A signal that aborts ends either
// wait or the call itself, whichever is under way.
const locate = (city: string, signal?: AbortSignal): Promise<string> =>
  inFlight.withPermit(({ signal }) => rate.withPermit(({ signal }) => geocode(city, signal), { signal }), { signal })

say("five cities, as the limits let them")
await Promise.all(["Hamburg", "Lyon", "Porto", "Turku", "Graz"].map(async (city) => say(await locate(city))))

say("a user who leaves while the API thinks")
const user = new AbortController()
const answer = locate("Atlantis", user.signal)
void setTimeout(50).then(() => user.abort(new Error("the user has left")))
await answer.catch((error) => say(`no answer: ${error.message}`))

say("a job that runs only if there is nothing better to do")
const tidyUp = async () => {
  await using permit = await inFlight.tryAcquire({ permits: 2 })
  return permit === undefined ? "busy, another time" : "tidied up"
}
say((await Promise.all([locate("Kyoto"), tidyUp()]))[1])
say(await tidyUp())

say("somebody who won't wait")
const impatient = createTokenBucket({ ...options, capacity: 3, refillFrequency: "100 millis", maxSleep: "10 millis" })
await rate.acquire(3)
await impatient
  .withPermit(() => say("this is not reached"))
  .catch((error) => {
    if (!(error instanceof MaxSleepExceeded)) throw error
    say(error.message)
  })

say("closing: what has begun may end, nothing else begins")
const last = locate("Ghent").then(say, (error) => say(error.message))
await setTimeout(50)
// The outer one first, or else what has its permit would be refused a token.
for (const limiter of [inFlight, rate, impatient]) await limiter.close({ timeout: "5 seconds" })
await last
await locate("Trieste").catch((error) => say(error.message))
