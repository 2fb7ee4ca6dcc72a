/**
 * Semaphores in Redis, as one process takes part in them: it asks, waits, renews its leases, hears by message of what
 * was granted to it, and notices by its own clock when a lease could not be kept.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { BackendError } from "../Errors.ts"
import type { RedisClient } from "../RedisClient.ts"
import type { Holder, SemaphoreState } from "../Semaphore.ts"
import { maxSpan } from "./bucket.ts"
import { Asked, closed, Lane, type Traffic, type Trouble } from "./lane.ts"
import type { SemaphoreConfig } from "./options.ts"
import { type SemaphoreResult, semaphoreScript } from "./redisScripts.ts"
import { Register } from "./register.ts"
import type { Grant, Refusal, SemaphoreStore } from "./semaphoreLimiter.ts"
import { monotonicMicros } from "./time.ts"
import { type Waiter, WaitingLine } from "./waitingLine.ts"
import { Watch } from "./watch.ts"

/** Requests that don't wait for permits wait for an answer no longer than this: five seconds. */
const patience = 5_000_000

/** The part of its lease that a holder trusts: it stops before Redis gives its permits to somebody else. */
const trusted = 0.9

/** How many holders `state` shows. */
const listed = 1000

/** A semaphore that nobody here has used for so long is forgotten: a minute. */
const idleTime = 60_000_000

/** When told that something may be granted at a moment, look so much later. */
const afterwards = 1_000

/** So many operations in one call take the server about a millisecond. */
const maxOperations = 128

/** So many calls that give permits back may be on their way at once, besides one that asks for some. */
const waysHome = 4

/** A layer that closes waits so long for what is under way. */
const lastWait = "1 second"

type Words = ReadonlyArray<string | number>

/** An operation of the script on its way. */
class Request extends Asked<SemaphoreResult> {
  readonly operation: string
  readonly encode: (now: number) => Words
  /** When the call that carried it was sent first. */
  sent = 0

  constructor(
    operation: string,
    encode: (now: number) => Words,
    deadline: number,
    undo?: (result: SemaphoreResult) => void
  ) {
    super(deadline, undo)
    this.operation = operation
    this.encode = encode
  }
}

// A class for the reason that nodes of linked lists have.
class RedisGrant implements Grant {
  readonly id: string
  readonly permits: number
  readonly fencingToken: number
  readonly waited: number
  isLost = false
  onLost: (() => void) | undefined = undefined

  constructor(id: string, permits: number, fencingToken: number, waited: number) {
    this.id = id
    this.permits = permits
    this.fencingToken = fencingToken
    this.waited = waited
  }
}

/** A place in the queue or among the holders. */
class Place implements Waiter {
  id: string
  readonly permits: number
  /** As its limiter was made. */
  readonly capacity: number
  /** In microseconds. */
  readonly lease: number
  readonly asked: number
  readonly deadline: number
  readonly isTry: boolean
  /** Where in the queue, to come back to; 0: never queued. */
  ticket = 0
  /** Only a grant with a greater fencing token is meant for this place. */
  since = 0
  /** When it was asked for: Redis counts the lease from no earlier moment. */
  sent = 0
  /** Until when this process may trust that Redis remembers the place. */
  leaseEnd = 0
  /** A request for this place is on its way. */
  isAsking = false
  /** The latest that asked for permits. */
  request: Request | undefined
  grant: Grant | undefined
  /** It holds without Redis saying so: its lease could not be renewed while that was away, or it was granted meanwhile. */
  isUnvouched = false
  /** A request to hold again is on its way. */
  isReclaiming = false
  /** The fencing token by which Redis knows it as a holder. */
  fence = 0
  answer: Grant | Refusal | BackendError | undefined
  wake: (() => void) | undefined

  constructor(
    id: string,
    permits: number,
    { capacity, expiry }: SemaphoreConfig,
    asked: number,
    deadline: number,
    isTry: boolean
  ) {
    this.id = id
    this.permits = permits
    this.capacity = capacity
    this.lease = expiry
    this.asked = asked
    this.deadline = deadline
    this.isTry = isTry
  }

  get isAnswered(): boolean {
    return this.answer !== undefined
  }

  decide(answer: Grant | Refusal | BackendError): void {
    this.answer = answer
    this.wake?.()
  }
}

/** The reply to `look`, in which a holder is id, permits, fencing token and lease left. */
const stateOf = ([, resized, held, waiting, holders]: SemaphoreResult, ownCapacity: number): SemaphoreState => {
  const rows = holders as ReadonlyArray<readonly [id: string, permits: number, fencingToken: number, lease: number]>
  return {
    capacity: Number(resized) || ownCapacity,
    held: Number(held),
    waiting: Number(waiting),
    holders: rows.map(
      ([id, permits, fencingToken, lease]): Holder => ({
        id,
        permits,
        fencingToken,
        leaseLeft: Duration.millis(lease / 1000)
      })
    )
  }
}

/** What all semaphores of a layer share. */
interface Surroundings {
  readonly client: RedisClient["Service"]
  readonly clock: Clock.Clock
  readonly process: string
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly nextSerial: () => string
  /** To be looked at when this moment comes. */
  readonly lookAt: (moment: number) => void
  /** Whether permits are held without Redis, for it is away. */
  readonly goesOn: (key: string) => boolean
}

/** After these the semaphore is there; a look, say, leaves nothing behind. */
const provesKnown: ReadonlySet<string> = new Set(["held", "queued", "resized"])

/** A semaphore as this process sees it. */
class RemoteSemaphore {
  readonly name: string
  readonly key: string
  private readonly around: Surroundings
  /** Where order matters: a place is left only after it was asked for. */
  private readonly lane: Lane<Request>
  /**
   * For leases, which end: they don't wait for a crowd that asks, nor for a request that Redis has no memory for. Those of
   * holders go first.
   */
  private readonly renewals: Lane<Request>
  /** For permits on their way home, for which somebody waits elsewhere: they don't wait for calls on their way. */
  private readonly homes: ReadonlyArray<Lane<Request>>
  /** What comes home may go by any of these, unless permits are still being asked for. */
  private readonly ways: ReadonlyArray<Lane<Request>>
  private readonly lanes: ReadonlyArray<Lane<Request>>
  /** Everyone here who waits or holds. */
  private readonly places = new Register<Place>()
  private readonly holders = new Register<Place>()
  private readonly subscription = Scope.makeUnsafe()
  private isSubscribed = false
  /** Redis has known it before: if it knows nothing of the semaphore then, it has lost its data. */
  private isKnown = false
  /** The longest that was asked for here. */
  private lease = 0
  private serverAhead: number | undefined
  /** The last reset: what was granted or queued by a lower token is gone. */
  private resetBy = 0
  private keepAt = Number.POSITIVE_INFINITY
  private lookAt = Number.POSITIVE_INFINITY
  private busyLanes = 0
  private onDrained: () => void = () => {}
  /** Those whose work has not ended, whether or not their lease has. */
  private readonly unreleased = new Register<Place>()
  private readonly awaitingReleases = new Set<(error: BackendError) => void>()
  private lastUsed: number

  constructor(name: string, key: string, around: Surroundings) {
    this.name = name
    this.key = key
    this.around = around
    this.lastUsed = this.now()
    const traffic: Traffic<Request> = {
      clock: around.clock,
      fork: around.fork,
      maxRequests: maxOperations,
      call: (requests, onTrouble) => this.call(requests, onTrouble),
      onIdle: () => {
        this.busyLanes--
        this.tellIfDrained()
      }
    }
    this.lane = new Lane(traffic)
    this.homes = Array.from({ length: waysHome }, () => new Lane(traffic))
    this.ways = [this.lane, ...this.homes]
    this.renewals = new Lane(traffic)
    this.lanes = [...this.ways, this.renewals]
  }

  private now(): number {
    return monotonicMicros(this.around.clock)
  }

  get isIdle(): boolean {
    return this.places.size === 0 && this.busyLanes === 0
  }

  get isForgotten(): boolean {
    return this.isIdle && this.now() - this.lastUsed >= idleTime
  }

  /** Everything said has been heard, and permits that were held are on their way home. */
  readonly drained: Effect.Effect<void> = Effect.callback((resume) => {
    this.onDrained = () => resume(Effect.void)
    this.tellIfDrained()
  })

  private tellIfDrained(): void {
    if (this.busyLanes === 0 && this.unreleased.size === 0) this.onDrained()
  }

  /** Why who asked for permits has no answer yet. */
  get trouble(): Trouble {
    return this.lane.trouble
  }

  /** Nobody renews leases from here on: those who wait hear that, and work that holds permits is told to stop. */
  leaveAll(): void {
    for (const place of Array.from(this.places.values())) {
      if (place.grant !== undefined) this.lose(place)
      else {
        this.release(place.id, place.lease)
        place.decide(new BackendError({ operation: "acquire", name: this.name, ...closed }))
      }
    }
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    for (const lane of this.lanes) for (const request of lane.unanswered()) this.fail(request, closed)
    return Scope.close(this.subscription, Exit.void)
  })

  // Requests -------------------------------------------------------------------------------------------------------

  send(
    operation: string,
    words: Words | ((now: number) => Words),
    wait: number,
    lane = this.lane,
    undo?: (result: SemaphoreResult) => void,
    isAhead = false
  ): Request {
    const encode = typeof words === "function" ? words : () => words
    const deadline = wait < maxSpan ? this.now() + wait : Number.POSITIVE_INFINITY
    const request = new Request(operation, encode, deadline, undo)
    if (lane.add(request, isAhead)) this.busyLanes++
    this.around.lookAt(request.deadline)
    return request
  }

  /** What was given back before has arrived: for whoever wants to see it. Fails if that is given up. */
  readonly released: Effect.Effect<void, BackendError> = Effect.suspend(() => {
    const requests = this.homes.flatMap((lane) => lane.unanswered())
    if (requests.length === 0) return Effect.void
    return Effect.callback<void, BackendError>((resume) => {
      const giveUp = (error: BackendError) => resume(Effect.fail(error))
      this.awaitingReleases.add(giveUp)
      let missing = requests.length
      const onAnswer = () => {
        if (--missing > 0) return
        this.awaitingReleases.delete(giveUp)
        resume(Effect.void)
      }
      for (const request of requests) request.onAnswer(onAnswer)
      return Effect.sync(() => this.awaitingReleases.delete(giveUp))
    })
  })

  private fail(request: Request, { reason, cause }: Trouble): void {
    const { operation } = request
    request.answer(Exit.fail(new BackendError({ operation, name: this.name, reason, cause })))
  }

  private call(
    requests: ReadonlyArray<Request>,
    onTrouble: (trouble: Trouble) => void
  ): Effect.Effect<() => ReadonlyArray<Request>> {
    const { client, process } = this.around
    const now = this.now()
    const deadline = requests.reduce((latest, request) => Math.max(latest, request.deadline), 0)
    const notAfter =
      deadline === Number.POSITIVE_INFINITY || this.serverAhead === undefined ? 0 : deadline + this.serverAhead
    const args: Array<string | number> = [0, process, notAfter, client.publishCommand, this.isKnown ? this.lease : 0]
    for (const request of requests) {
      request.sent = now
      args.push(...request.encode(now))
    }
    let isRepeated = false
    const ran = client.run(semaphoreScript, [this.key], args, {
      operation: "semaphore call",
      requests: requests.length,
      name: this.name,
      deadline,
      retryLost: true,
      onRetry: (trouble) => {
        isRepeated = true
        onTrouble(trouble)
      }
    })
    return Effect.match(ran, {
      onFailure: (error) => () => {
        for (const request of requests) this.fail(request, error)
        return []
      },
      onSuccess:
        ([time, next, notices, results]) =>
        () => {
          this.isKnown ||= results.some(([answer]) => provesKnown.has(answer))
          this.serverAhead = time - this.now()
          for (const [index, request] of requests.entries()) {
            const result = results[index]
            if (result !== undefined) request.answer(Exit.succeed(result))
          }
          for (const notice of notices) this.hear(notice)
          // A reply that was lost may have held notices.
          if (isRepeated) this.keepWaiters()
          this.expectChance(next)
          return []
        }
    })
  }

  // Places ---------------------------------------------------------------------------------------------------------

  /** Asks for permits; the place's `answer` tells what came of it. */
  enter(permits: number, config: SemaphoreConfig, maxWait: number): Place {
    const asked = this.now()
    const wait = maxWait === 0 ? Math.min(config.maxSleep, patience) : maxWait
    const deadline = wait < maxSpan ? asked + wait : Number.POSITIVE_INFINITY
    const place = new Place(this.newId(permits, config.capacity), permits, config, asked, deadline, maxWait === 0)
    this.lastUsed = asked
    this.add(place)
    this.ask(place)
    return place
  }

  private add(place: Place): void {
    this.lease = Math.max(this.lease, place.lease)
    this.places.set(place.id, place)
  }

  newId(permits: number, capacity: number): string {
    return `${permits}.${capacity}.${this.around.process}.${this.around.nextSerial()}`
  }

  private ask(place: Place): void {
    const giveUp = (now: number): number => {
      if (place.isTry) return 0
      return place.deadline === Number.POSITIVE_INFINITY ? -1 : Math.max(1, place.deadline - now)
    }
    place.isAsking = true
    const { id } = place
    const request = this.sendAcquire(place, "acquire", giveUp, place.deadline - this.now())
    request.onAnswer((exit) => {
      if (this.hasLeft(place, id, exit)) return
      place.isAsking = false
      if (place.grant !== undefined) return
      if (Exit.isFailure(exit)) {
        Option.map(Exit.findErrorOption(exit), (error) => {
          this.end(place, error)
          // It may have been granted by an answer that has not arrived.
          if (request.sent > 0 && error.reason !== "Closed") this.release(id, place.lease)
        })
        return
      }
      const [answer, ...values] = exit.value
      const [value = 0, since = 0] = values as ReadonlyArray<number>
      if (answer === "held") this.granted(place, value, request.sent)
      else if (answer === "queued") this.queued(place, value, since, request.sent)
      else if (answer === "busy") this.end(place, { _tag: "TimeUp" })
      else if (answer === "refused") this.end(place, { _tag: "TooLarge", capacity: value })
      else this.ask(place)
    })
  }

  /** Asks that the place be there. `giveUp`: for how long it waits, as the script is told. */
  private sendAcquire(place: Place, operation: string, giveUp: (now: number) => number, wait: number): Request {
    const { id } = place
    const encode = (now: number): Words => {
      place.sent = now
      return ["acquire", id, place.lease, giveUp(now), place.ticket]
    }
    const undo = (result: SemaphoreResult) => this.undo(place, id, result)
    const request = this.send(operation, encode, wait, this.lane, undo)
    place.request = request
    return request
  }

  /** Whether nobody needs the answer any more. */
  private hasLeft(place: Place, id: string, exit: Exit.Exit<SemaphoreResult, BackendError>): boolean {
    if (this.places.get(id) === place) return false
    if (Exit.isSuccess(exit)) this.undo(place, id, exit.value)
    return true
  }

  /**
   * The place was left before the answer came that it is there. It was released, but that may have been given up by then,
   * or have arrived earlier; unless it was lost, and its work has yet to end.
   */
  private undo(place: Place, id: string, [answer]: SemaphoreResult): void {
    if (this.places.get(id) === place || this.unreleased.get(id) === place) return
    if (answer === "held" || answer === "queued") this.send("release", ["release", id], place.lease)
  }

  /** As somebody else, so that no late news of before is taken for an answer; but with the old place in the queue. */
  private askAgain(place: Place): void {
    this.release(place.id, place.lease)
    place.id = this.newId(place.permits, place.capacity)
    this.places.set(place.id, place)
    this.ask(place)
  }

  private end(place: Place, answer: Refusal | BackendError): void {
    this.leave(place)
    place.decide(answer)
  }

  private queued(place: Place, ticket: number, since: number, sent: number): void {
    place.ticket = ticket
    place.since = since
    if (since < this.resetBy) this.missing(place)
    else {
      this.trust(place, sent)
      this.subscribe()
    }
  }

  private granted(place: Place, fencingToken: number, sent: number): void {
    this.trust(place, sent)
    const now = this.now()
    if (now >= place.leaseEnd || fencingToken < this.resetBy) {
      // The news has lain about for too long: the lease may be over, or everything has been reset.
      this.askAgain(place)
      return
    }
    const { id, permits } = place
    place.grant = new RedisGrant(id, permits, fencingToken, now - place.asked)
    place.fence = fencingToken
    this.holders.set(place.id, place)
    this.unreleased.set(id, place)
    this.around.lookAt(place.leaseEnd)
    place.decide(place.grant)
  }

  private trust(place: Place, sent: number): void {
    place.leaseEnd = Math.max(place.leaseEnd, sent + place.lease * trusted)
    this.keepSoon(this.now() + place.lease / 3)
  }

  /** Stops waiting, or holding. Redis is told in the background until the lease would be over anyway. */
  release(id: string, lease: number): void {
    const place = this.places.get(id) ?? this.unreleased.get(id)
    let way: Lane<Request> | undefined = this.lane
    if (place !== undefined) {
      if (place.request?.isOver === false) place.request.abandon()
      else way = this.ways.find((lane) => !lane.isBusy) ?? this.homes[0]
      this.leave(place)
    }
    this.lastUsed = this.now()
    this.unreleased.delete(id)
    this.send("release", ["release", id], lease, way)
  }

  /** Redis doesn't vouch for the permits any more. They are not released before the work has stopped. */
  private lose(place: Place): void {
    this.places.delete(place.id)
    this.holders.delete(place.id)
    const { grant } = place
    if (grant === undefined || grant.isLost) return
    grant.isLost = true
    grant.onLost?.()
  }

  // What a map held when it moved to another table stays in memory with the old one, which is collected late. So a place
  // lets go of whatever is larger than itself.
  private leave(place: Place): void {
    this.places.delete(place.id)
    this.holders.delete(place.id)
    place.request = undefined
    if (place.grant !== undefined) place.grant.onLost = undefined
  }

  // Keeping in touch -----------------------------------------------------------------------------------------------

  private keep(place: Place): void {
    if (place.isAsking) return
    place.isAsking = true
    const { id } = place
    const request = this.sendKeep(place, this.renewals)
    request.onAnswer((exit) => {
      if (this.hasLeft(place, id, exit)) return
      place.isAsking = false
      if (Exit.isFailure(exit)) return
      const [answer, ...values] = exit.value
      const [value = 0, since = 0] = values as ReadonlyArray<number>
      if (answer === "held") {
        if (place.grant === undefined) this.granted(place, value, request.sent)
        else this.vouched(place, value, request.sent)
      } else if (answer === "queued") this.queued(place, value, since, request.sent)
      else if (answer === "unknown") this.missing(place)
    })
  }

  private sendKeep(place: Place, lane: Lane<Request>): Request {
    const { id } = place
    const undo = (result: SemaphoreResult) => this.undo(place, id, result)
    const isHeld = place.grant !== undefined
    return this.send("keep", () => ["keep", id, place.lease, place.fence], place.lease, lane, undo, isHeld)
  }

  /** Redis knows nothing of the place any more. */
  private missing(place: Place): void {
    if (place.grant === undefined) this.askAgain(place)
    else if (place.isUnvouched) this.reclaim(place)
    else this.lose(place)
  }

  // Going on without Redis ------------------------------------------------------------------------------------------

  /** Who waits for permits hears that there is no answer, and leaves the queue once Redis hears of it. */
  giveUp({ reason, cause }: Trouble): void {
    const errorOf = (operation: string) => new BackendError({ operation, name: this.name, reason, cause })
    for (const place of Array.from(this.places.values())) {
      if (place.grant !== undefined) continue
      this.end(place, errorOf("acquire"))
      // What is on its way may run as soon as Redis is back, however late that is.
      this.send("release", ["release", place.id], maxSpan)
    }
    for (const request of this.lane.unanswered()) {
      const { operation } = request
      if (operation === "acquire" || operation === "look") request.answer(Exit.fail(errorOf(operation)))
    }
    for (const giveUp of Array.from(this.awaitingReleases)) giveUp(errorOf("acquire"))
    this.awaitingReleases.clear()
  }

  /** What this process holds, whether or not Redis vouches for it. */
  holding(): ReadonlyArray<Grant> {
    return Array.from(this.holders.values()).flatMap(({ grant }) => grant ?? [])
  }

  /** Counts a grant at Redis that was made without it, as soon as it fits. Its work goes on meanwhile. */
  adopt(grant: Grant, config: SemaphoreConfig): void {
    const place = new Place(grant.id, grant.permits, config, this.now(), Number.POSITIVE_INFINITY, false)
    place.grant = grant
    place.isUnvouched = true
    this.lastUsed = place.asked
    this.add(place)
    this.holders.set(place.id, place)
    this.unreleased.set(place.id, place)
    this.reclaim(place)
  }

  /** Redis is back: what it doesn't vouch for is to count there before anything else is asked. */
  reclaimAll(): void {
    for (const place of this.holders.values()) if (place.isUnvouched) this.reclaim(place)
  }

  /** A server that has lost its data may still take a holder's word; otherwise the permits have to be had anew. */
  private reclaim(place: Place): void {
    if (place.isReclaiming) return
    place.isReclaiming = true
    const { id } = place
    this.sendKeep(place, this.lane)
    const request = this.sendAcquire(place, "reclaim", () => -1, maxSpan)
    request.onAnswer((exit) => {
      place.isReclaiming = false
      if (this.hasLeft(place, id, exit) || Exit.isFailure(exit)) return
      const [answer, ...values] = exit.value
      const [value = 0, since = 0] = values as ReadonlyArray<number>
      if (answer === "held") this.vouched(place, value, request.sent)
      else if (answer === "queued") this.queued(place, value, since, request.sent)
      else if (answer === "late") this.reclaim(place)
    })
  }

  /** Redis knows it as a holder. */
  private vouched(place: Place, fence: number, sent: number): void {
    this.trust(place, sent)
    if (!place.isUnvouched) return
    place.fence = fence
    if (fence < this.resetBy) this.lose(place)
    else if (this.now() >= place.leaseEnd) this.reclaim(place)
    else {
      place.isUnvouched = false
      this.around.lookAt(place.leaseEnd)
    }
  }

  /** Its lease is over by our clock. */
  private lapse(place: Place): void {
    if (this.around.goesOn(this.key)) place.isUnvouched = true
    else this.lose(place)
  }

  private keepWaiters(): void {
    for (const place of this.places.values()) if (place.grant === undefined) this.keep(place)
  }

  private keepSoon(moment: number): void {
    this.keepAt = Math.min(this.keepAt, moment)
    this.around.lookAt(this.keepAt)
  }

  /** The latest news counts: the lease that was to end before has been renewed since, or everybody has left. */
  private expectChance(next: number): void {
    this.lookAt = next >= 0 ? this.now() + next + afterwards : Number.POSITIVE_INFINITY
    if (next >= 0) this.around.lookAt(this.lookAt)
  }

  /** Does what is due; gives the next moment when something will be, or undefined if nothing is under way. */
  look(now: number): number | undefined {
    if (this.isIdle) return undefined
    for (const place of Array.from(this.holders.values()))
      if (place.leaseEnd <= now && !place.isUnvouched) this.lapse(place)
    if (this.keepAt <= now) {
      this.keepAt = Number.POSITIVE_INFINITY
      for (const place of this.places.values()) {
        this.keep(place)
        this.keepAt = Math.min(this.keepAt, now + place.lease / 3)
      }
    } else if (this.lookAt <= now) {
      this.lookAt = Number.POSITIVE_INFINITY
      const waiter = Array.from(this.places.values()).find((place) => place.grant === undefined)
      if (waiter !== undefined) this.keep(waiter)
    }
    const onLate = (request: Request, why: Trouble) => this.fail(request, why)
    const overdue = Math.min(...this.lanes.map((lane) => lane.expire(onLate)))
    let next = Math.min(overdue, this.keepAt, this.lookAt)
    for (const place of this.holders.values()) if (!place.isUnvouched) next = Math.min(next, place.leaseEnd)
    return next
  }

  /** A message from Redis: a grant, a refusal, that a permit was taken away, or that everything was reset. */
  private hear(notice: string): void {
    const [what, id = "", value] = notice.split(" ")
    const number = Number(value)
    if (what === "reset") {
      this.resetBy = Math.max(this.resetBy, number)
      for (const place of Array.from(this.places.values())) {
        const token = place.grant === undefined ? place.since : place.fence
        if (token > 0 && token < this.resetBy) this.missing(place)
      }
      return
    }
    const place = this.places.get(id)
    if (place === undefined) {
      if (what === "grant") this.release(id, patience)
    } else if (what === "revoke") {
      // While it is being reclaimed, the news of its latest grant may come later.
      if (place.grant !== undefined && number >= place.fence) this.lose(place)
    } else if (what === "grant" && place.isUnvouched) this.vouched(place, number, place.sent)
    else if (place.grant === undefined && what === "grant") {
      if (number > place.since) this.granted(place, number, place.sent)
    } else if (place.grant === undefined && what === "refuse") this.end(place, { _tag: "TooLarge", capacity: number })
  }

  private subscribe(): void {
    if (this.isSubscribed) return
    this.isSubscribed = true
    const listening = this.around.client.subscribe(`${this.key}:${this.around.process}`, {
      onMessage: (message) => {
        for (const notice of message.split(",")) this.hear(notice)
      },
      // What was granted before we could hear of it.
      onEstablished: () => this.keepWaiters()
    })
    this.around.fork(Scope.provide(listening, this.subscription))
  }
}

/** A semaphore whose permits may be given while Redis is away. */
export interface RedisSemaphoreStore extends SemaphoreStore {
  /** At Redis. */
  readonly key: string
  /** For a grant that Redis doesn't know of yet. */
  readonly newId: (permits: number) => string
  /** What this process holds. */
  readonly holding: () => ReadonlyArray<Grant>
  /** Counts a grant that was made without Redis. From then on it is one of this store. */
  readonly adopt: (grant: Grant) => void
}

/**
 * The semaphores of one layer, by key.
 */
export class RedisSemaphores {
  private readonly around: Surroundings
  private readonly semaphores = new Map<string, RemoteSemaphore>()
  private hand = this.semaphores.entries()
  private serial = 0
  private isClosed = false

  constructor(
    client: RedisClient["Service"],
    process: string,
    clock: Clock.Clock,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    goesOn: (key: string) => boolean = () => false
  ) {
    const watch = new Watch(clock, fork, (now) => {
      let next: number | undefined
      for (const semaphore of this.semaphores.values()) {
        const moment = semaphore.look(now)
        if (moment !== undefined) next = Math.min(next ?? moment, moment)
      }
      return next
    })
    this.around = {
      client,
      clock,
      process,
      fork,
      nextSerial: () => (++this.serial).toString(36),
      lookAt: (moment) => watch.at(moment),
      goesOn
    }
  }

  /** Brings home what is under way, then refuses everything. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    const semaphores = Array.from(this.semaphores.values())
    for (const one of semaphores) one.leaveAll()
    return Effect.andThen(
      Effect.timeoutOption(
        Effect.forEach(semaphores, (one) => one.drained, { discard: true }),
        lastWait
      ),
      Effect.forEach(semaphores, (one) => one.close, { discard: true })
    )
  })

  /** Whoever waits for an answer about such a key hears that there is none. */
  giveUp(concerns: (key: string) => boolean, why: Trouble): void {
    for (const semaphore of this.semaphores.values()) if (concerns(semaphore.key)) semaphore.giveUp(why)
  }

  /** What is held of such a key, and Redis doesn't vouch for, is to count there again. */
  reclaim(concerns: (key: string) => boolean): void {
    for (const semaphore of this.semaphores.values()) if (concerns(semaphore.key)) semaphore.reclaimAll()
  }

  store(config: SemaphoreConfig): RedisSemaphoreStore {
    const { name, capacity } = config
    const key = this.around.client.key({ kind: "Semaphore", ...config })
    const line = new WaitingLine()

    const ask = (operation: string, ...words: Words): Effect.Effect<SemaphoreResult, BackendError> =>
      Effect.suspend(() => {
        const semaphore = this.get(name, key)
        return Effect.flatMap(
          semaphore.released,
          () => semaphore.send(operation, [operation, ...words], patience).answered
        )
      })

    const unanswered = ({ reason, cause }: Trouble) =>
      Effect.fail(new BackendError({ operation: "acquire", name, reason, cause }))

    const answerOf = (place: Place, semaphore: RemoteSemaphore): Effect.Effect<Grant | Refusal, BackendError> => {
      const { answer } = place
      if (answer instanceof BackendError) return Effect.fail(answer)
      if (answer !== undefined) return Effect.succeed(answer)
      return place.ticket > 0 ? Effect.succeed({ _tag: "TimeUp" }) : unanswered(semaphore.trouble)
    }

    return {
      home: this,
      key,
      newId: (permits) => this.get(name, key).newId(permits, capacity),
      holding: () => this.semaphores.get(key)?.holding() ?? [],
      adopt: (grant) => this.get(name, key).adopt(grant, config),
      take: (permits, maxWait, restore, onAnswer) =>
        Effect.suspend(() => {
          const semaphore = this.get(name, key)
          const enter = Effect.suspend(() => {
            if (this.isClosed) return unanswered(closed)
            const place = semaphore.enter(permits, config, maxWait)
            const answered = line.wait(place, restore, (isInterrupted) => {
              if (isInterrupted || place.answer === undefined) semaphore.release(place.id, place.lease)
            })
            return Effect.flatMap(answered, () => Effect.flatMap(answerOf(place, semaphore), onAnswer))
          })
          return maxWait === 0 ? Effect.flatMap(restore(semaphore.released), () => enter) : enter
        }),
      release: ({ id }) => this.get(name, key).release(id, config.expiry),
      resize: (capacity) => Effect.asVoid(ask("resize", capacity)),
      look: Effect.map(ask("look", listed), (result) => stateOf(result, capacity)),
      reset: Effect.asVoid(ask("reset"))
    }
  }

  private get(name: string, key: string): RemoteSemaphore {
    let semaphore = this.semaphores.get(key)
    if (semaphore === undefined) {
      semaphore = new RemoteSemaphore(name, key, this.around)
      this.semaphores.set(key, semaphore)
    }
    this.dropOld()
    return semaphore
  }

  // Every call looks at another semaphore, so that those which nobody uses any more need no timer.
  private dropOld(): void {
    const next = this.hand.next()
    if (next.done) this.hand = this.semaphores.entries()
    else if (next.value[1].isForgotten) {
      this.semaphores.delete(next.value[0])
      this.around.fork(next.value[1].close)
    }
  }
}
