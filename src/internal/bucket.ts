/**
 * How a token bucket decides: pure functions of a state, a time and a request.
 *
 * The bucket of J. S. Turner ("New directions in communications", 1986), told in debts instead of waits: `level` is
 * what the bucket holds less everything promised to those who wait, so it goes below zero while anyone does, and a
 * request runs at the first moment when refills have covered that debt and itself. A grant therefore costs two
 * divisions, however many wait.
 *
 * Its twin is `lua/token-bucket.lua`: the same names, the same lines in the same order, and a test that holds one
 * against the other. All numbers are integers below 2^53, so that both compute the same: times in microseconds, tokens
 * in millionths (units). No quotient of such integers is rounded up, or down, to the next integer.
 */

/** What a bucket is like, in units and microseconds. */
export interface Rules {
  readonly capacity: number
  /** Arrives every `interval`; 0: a quota that never refills. */
  readonly amount: number
  readonly interval: number
  /** Refills fall on multiples of `interval` after this moment; -1: on multiples after the first request. */
  readonly origin: number
  /** What a bucket that nobody remembers starts with. */
  readonly initial: number
  /** How long a bucket is remembered once it is full, or, if it never refills, after its last activity. */
  readonly expiry: number
}

export interface State {
  /** Tokens in the bucket less all that is promised; below zero while anyone waits for more than it holds. */
  readonly level: number
  /** The latest refill that `level` counts; in a pause, those until its end. */
  readonly slot: number
  /** When the bucket last decided: a clock that shows less than this was set back. */
  readonly at: number
  /** When the latest promise runs. Those that come later run no sooner. */
  readonly tail: number
  /** The promise that runs at `tail`. */
  readonly tailSerial: number
  /** Number of the latest reservation. It grows over resets too, being no less than the time. */
  readonly serial: number
  /** The first reservation of this life of the bucket: what older ones give back was forgotten with them. */
  readonly born: number
  /** Given back, in this busy period, from before promises that can't move up to use it. */
  readonly surplus: number
  /** The most that the bucket holds in this busy period while anyone waits, but for what was given back. */
  readonly held: number
  /** The first reservation of this busy period. */
  readonly since: number
  /** All that was ever taken in this life of the bucket. */
  readonly taken: number
  readonly capacity: number
  readonly amount: number
  readonly interval: number
  readonly origin: number
}

/** What identifies a reservation when it is given back, and what its bucket's tail was before it. */
export interface Reservation {
  readonly amount: number
  readonly serial: number
  readonly beforeSerial: number
  /** How much later than the tail before it this reservation runs. */
  readonly beforeGap: number
  /** All that had been taken from the bucket then, this reservation included. */
  readonly taken: number
  /** Only if it runs later than its bucket alone would have it: how that stood before. */
  readonly before?: Before
}

/** A bucket before it was held off until a later moment, when it may have overflown meanwhile. */
export interface Before {
  readonly level: number
  /** How much time the refills cover that were counted in advance. */
  readonly ahead: number
}

export type Outcome =
  | { readonly _tag: "Reserved"; readonly wait: number; readonly reservation: Reservation }
  | { readonly _tag: "TooLong"; readonly wait: number }
  | { readonly _tag: "Empty"; readonly available: number }

/** One bucket's part in a request to several. */
export interface Part {
  readonly state: State
  readonly amount: number
  /** Whether the request may wait because of this bucket, and not only because of others. */
  readonly mayWait: boolean
}

/** What becomes of a request to several buckets; `part` is the place of the bucket that refuses. */
export type JointOutcome =
  | { readonly _tag: "Reserved"; readonly wait: number; readonly reservations: ReadonlyArray<Reservation> }
  | { readonly _tag: "TooLong"; readonly wait: number; readonly part: number }
  | { readonly _tag: "Empty"; readonly available: number; readonly part: number }

/** What a look shows. Waits are infinite where none would help. */
export interface View {
  /** Free this instant. */
  readonly available: number
  /** What a request would meet. */
  readonly wait: number
  /** Until one more whole token is free than now. */
  readonly nextToken: number
}

/** Tokens are counted in millionths. */
export const unitsPerToken = 1_000_000

/** Longer waits are refused, so that every sum stays exact: forty years. */
export const maxSpan = 40 * 365 * 86_400_000_000

/** No bucket is larger and no debt deeper, for the same reason: four thousand million tokens. */
export const maxAmount = 4_000_000_000 * unitsPerToken

/** The last grid point at or before `time`. */
const gridFloor = (time: number, origin: number, interval: number): number => {
  const past = (time - origin) % interval
  return past < 0 ? time - past - interval : time - past
}

const firstSlot = (rules: Rules, now: number): number =>
  rules.amount > 0 && rules.origin >= 0 ? gridFloor(now, rules.origin, rules.interval) : now

/** A bucket that nobody remembers. */
const fresh = (rules: Rules, now: number): State => ({
  level: rules.initial,
  slot: firstSlot(rules, now),
  at: now,
  tail: now,
  tailSerial: 0,
  serial: now,
  born: now,
  surplus: 0,
  held: 0,
  since: now,
  taken: 0,
  capacity: rules.capacity,
  amount: rules.amount,
  interval: rules.interval,
  origin: rules.origin
})

/** In how long an empty bucket fills. */
export const fillTime = ({ capacity, amount, interval }: Rules): number =>
  amount > 0 ? Math.ceil(capacity / amount) * interval : Number.POSITIVE_INFINITY

const fullAt = (state: State): number =>
  state.level >= state.capacity
    ? state.at
    : state.slot + Math.ceil((state.capacity - state.level) / state.amount) * state.interval

/** From this moment on the state means the same as none. */
export const forgottenAt = (state: State, rules: Rules): number =>
  Math.max(state.at, state.tail, state.amount > 0 ? fullAt(state) : 0) + rules.expiry

/** Full, nobody waiting, and a bucket that nobody remembers would be full as well. */
export const isSameAsNone = (state: State, rules: Rules, now: number): boolean =>
  state.amount > 0 && rules.initial === rules.capacity && now >= Math.max(state.at, state.tail, fullAt(state))

/** The clock was set back: move everything with it, so that no wait grows and no interval is counted twice. */
const setBack = (state: State, now: number): State => {
  const by = state.at - now
  const shifted = state.slot - by
  const floor = state.origin >= 0 && state.amount > 0 ? gridFloor(shifted, state.origin, state.interval) : shifted
  return { ...state, slot: floor < shifted ? floor + state.interval : floor, tail: state.tail - by, at: now }
}

/** Count the refills that have come. */
const advance = (state: State, now: number): State => {
  if (state.amount === 0 || now < state.slot + state.interval) return now === state.at ? state : { ...state, at: now }
  const refills = Math.floor((now - state.slot) / state.interval)
  const level = Math.min(state.capacity, state.level + refills * state.amount)
  return { ...state, level, slot: state.slot + refills * state.interval, at: now }
}

const agrees = (state: State, rules: Rules): boolean =>
  state.capacity === rules.capacity &&
  state.amount === rules.amount &&
  state.interval === rules.interval &&
  state.origin === rules.origin

/** What a part of an interval is worth. */
const broughtBy = ({ amount, interval }: Pick<Rules, "amount" | "interval">, from: number, until: number): number =>
  amount > 0 ? ((until - from) * amount) / interval : 0

/**
 * Another process had other rules: tokens carry over as an amount, and so does what the interval has brought so far.
 * What was promised stays as it was; the caller's rules begin behind it.
 */
const adopt = (state: State, rules: Rules, now: number): State => {
  const begins = Math.max(now, state.tail, state.slot)
  const then = advance(state, begins)
  const brought = (until: number) => broughtBy(then, then.slot, until)
  let slot = firstSlot(rules, begins)
  let carried = 0
  if (rules.amount > 0 && rules.origin >= 0) {
    // The window brings all of its interval when that ends: no time is to count twice, and none for nothing.
    const until = then.origin >= 0 ? Math.max(slot, then.slot) : begins
    carried = Math.floor(brought(until) - broughtBy(rules, slot, until))
  } else if (rules.amount > 0) {
    const value = brought(begins)
    carried = Math.floor(value / rules.amount) * rules.amount
    slot -= Math.min(rules.interval - 1, Math.floor(((value - carried) * rules.interval) / rules.amount))
  }
  const level = Math.min(rules.capacity, Math.max(-maxAmount, Math.min(then.level, rules.capacity) + carried))
  return {
    ...then,
    level,
    slot,
    at: now,
    // Whoever stands at the tail takes nothing along by leaving, for the rules changed there.
    tailSerial: state.tail > now ? 0 : state.tailSerial,
    // What was taken from a bucket that refilled then may have come back by itself.
    born: state.amount > 0 && rules.amount === 0 ? state.serial + 1 : state.born,
    capacity: rules.capacity,
    amount: rules.amount,
    interval: rules.interval,
    origin: rules.origin
  }
}

/** A bucket at this moment, from what was remembered of it. */
export interface Loaded {
  readonly state: State
  /** It was remembered with other rules than the caller's, whose rules hold from here on. */
  readonly disagreed: boolean
  /**
   * Time counts from here, and so the state has to be remembered whatever comes of the request: the clock was set back,
   * or the bucket starts with fewer tokens than its capacity.
   */
  readonly starts: boolean
}

export const load = (remembered: State | undefined, rules: Rules, now: number): Loaded => {
  if (remembered === undefined || (now >= remembered.at + rules.expiry && now >= forgottenAt(remembered, rules))) {
    return { state: fresh(rules, now), disagreed: false, starts: rules.initial < rules.capacity }
  }
  const starts = now < remembered.at
  const state = advance(starts ? setBack(remembered, now) : remembered, now)
  return agrees(state, rules)
    ? { state, disagreed: false, starts }
    : { state: adopt(state, rules, now), disagreed: true, starts }
}

/** What is taken is counted, as far as that is exact; then counting starts anew, and nothing older goes back. */
const count = (state: State, amount: number): number =>
  state.taken + amount <= Number.MAX_SAFE_INTEGER ? state.taken + amount : amount

/**
 * When a request that comes now runs: in order of arrival, and once refills have covered the debt and `amount`.
 * Undefined if that is never, or not within what can be counted.
 */
const runsAt = (state: State, amount: number): number | undefined => {
  const missing = amount - state.level
  if (missing <= 0) return Math.max(state.tail, state.at)
  if (state.amount === 0 || missing > maxAmount) return undefined
  const span = Math.ceil(missing / state.amount) * state.interval
  return span > maxSpan ? undefined : Math.max(state.tail, state.slot + span)
}

/** Decide about everyone who comes as one would at a later moment than any that is promised: `ends`. */
const holdOff = (state: State, ends: number): State => {
  const now = state.at
  const busy = state.tail > now
  const then = advance(state, ends)
  return {
    ...then,
    at: now,
    tail: ends,
    tailSerial: 0,
    surplus: 0,
    held: Math.max(0, then.level, busy ? state.held + state.surplus : 0),
    since: busy ? state.since : state.serial + 1
  }
}

/** Take `amount`, to run at `runs`. */
const take = (state: State, amount: number, runs: number): State => {
  const now = state.at
  const busy = state.tail > now
  const waits = runs > now
  const serial = Math.max(state.serial + 1, now)
  const taken = count(state, amount)
  return {
    ...state,
    level: state.level - amount,
    taken,
    born: taken >= state.taken ? state.born : serial,
    serial,
    tail: waits ? runs : state.tail,
    tailSerial: waits ? serial : state.tailSerial,
    surplus: busy ? state.surplus : 0,
    held: Math.max(busy ? state.held : 0, waits ? amount : 0),
    since: busy ? state.since : serial
  }
}

/** Take `amount` at the first moment possible in order of arrival, unless that is more than `maxWait` away. */
export const reserve = (
  state: State,
  amount: number,
  maxWait: number
): { readonly state: State; readonly outcome: Outcome } => {
  const runs = runsAt(state, amount)
  if (runs === undefined) {
    return state.amount === 0
      ? { state, outcome: { _tag: "Empty", available: Math.max(0, state.level) } }
      : { state, outcome: { _tag: "TooLong", wait: maxSpan } }
  }
  const wait = runs - state.at
  if (wait > maxWait) return { state, outcome: { _tag: "TooLong", wait } }
  const after = take(state, amount, runs)
  return {
    state: after,
    outcome: {
      _tag: "Reserved",
      wait,
      reservation: {
        amount,
        serial: after.serial,
        beforeSerial: state.tailSerial,
        beforeGap: runs - state.tail,
        taken: after.taken
      }
    }
  }
}

/** Take `amount` at a moment that is no sooner than the bucket alone would have it. */
const reserveAt = (
  state: State,
  amount: number,
  runs: number
): { readonly state: State; readonly reservation: Reservation } => {
  const isLater = runs > (runsAt(state, amount) ?? runs)
  const then = isLater ? holdOff(state, runs) : state
  const after = take(then, amount, runs)
  const reservation = {
    amount,
    serial: after.serial,
    beforeSerial: state.tailSerial,
    beforeGap: runs - state.tail,
    taken: after.taken
  }
  return {
    state: after,
    reservation: isLater
      ? { ...reservation, before: { level: state.level, ahead: then.slot - state.slot } }
      : reservation
  }
}

/**
 * Take from several buckets what one request needs of each, to run at one moment: the first that suits all of them in
 * their orders of arrival, and no sooner than in `minWait`. If that is more than `maxWait` away, or never comes, or if
 * the slowest is one that nobody may wait for, nothing is taken from any.
 *
 * A bucket that alone would have been ready sooner holds off those who come later until then, as in a pause: its tokens
 * are taken when the request runs, so that what it gives away before doesn't count twice.
 */
export const reserveTogether = (
  parts: ReadonlyArray<Part>,
  minWait: number,
  maxWait: number
): { readonly states: ReadonlyArray<State>; readonly outcome: JointOutcome } => {
  const states = parts.map(({ state }) => state)
  let wait = minWait
  let mostPatience = minWait
  let slowest = 0
  for (const [part, { state, amount, mayWait }] of parts.entries()) {
    const runs = runsAt(state, amount)
    if (runs === undefined && state.amount === 0) {
      return { states, outcome: { _tag: "Empty", available: Math.max(0, state.level), part } }
    }
    const own = runs === undefined ? Number.POSITIVE_INFINITY : runs - state.at
    if (mayWait) mostPatience = Math.max(mostPatience, own)
    if (own > wait) {
      wait = own
      slowest = part
    }
  }
  if (wait > maxWait || wait > mostPatience) {
    return { states, outcome: { _tag: "TooLong", wait: Math.min(wait, maxSpan), part: slowest } }
  }
  const reserved = parts.map(({ state, amount }) => reserveAt(state, amount, state.at + wait))
  return {
    states: reserved.map(({ state }) => state),
    outcome: { _tag: "Reserved", wait, reservations: reserved.map(({ reservation }) => reservation) }
  }
}

/**
 * What the bucket would hold had it not been held off for the promise at its tail: as much as came since then and fits,
 * with what was given back meanwhile from the start, and less what was charged.
 */
const asBefore = (state: State, reservation: Reservation, { level, ahead }: Before): State => {
  const before = { ...state, level, slot: state.slot - ahead }
  const charged = state.taken - reservation.taken
  const returned = state.level + reservation.amount + charged - advance(before, state.slot).level
  const now = advance({ ...before, level: Math.min(state.capacity, level + returned) }, state.at)
  return { ...now, level: now.level - charged }
}

/**
 * Give back `amount` of a reservation, as if it had not been taken in the first place.
 *
 * The latest promise goes back whole, and the tail with it. Anything else leaves a hole that those behind it, who were
 * told when to run, can't move up to fill: until the tail the bucket has to hold those tokens on top of what it holds
 * while its head waits, which is less than the largest request, or what a pause leaves in it. And it must have been
 * able to hold them ever since they were taken: surely so if somebody has waited all the time; otherwise what others
 * took since may have been there only because these tokens were not. What would not fit is lost. In a quota that never
 * refills there always is room.
 */
export const giveBack = (
  state: State,
  reservation: Reservation,
  amount: number
): { readonly state: State; readonly returned: number } => {
  if (reservation.serial < state.born) return { state, returned: 0 }
  const busy = state.tail > state.at
  if (busy && reservation.serial === state.tailSerial && amount === reservation.amount) {
    const without =
      reservation.before === undefined
        ? { ...state, level: Math.min(state.capacity, state.level + amount) }
        : asBefore(state, reservation, reservation.before)
    return {
      state: {
        ...without,
        taken: state.taken - amount,
        tail: state.tail - reservation.beforeGap,
        tailSerial: reservation.beforeSerial
      },
      returned: amount
    }
  }
  const takenSince = state.taken - reservation.taken
  const refills = state.amount > 0
  const ahead = busy && refills ? state.capacity - state.held - state.surplus : amount
  const isSinceBusy = busy && reservation.serial >= state.since
  const behind = isSinceBusy || !refills ? amount : state.capacity - state.level - takenSince
  const returned = Math.max(0, Math.min(amount, ahead, behind))
  return {
    state: {
      ...state,
      level: state.level + returned,
      taken: takenSince === 0 ? state.taken - returned : state.taken,
      surplus: busy ? state.surplus + returned : state.surplus
    },
    returned
  }
}

/** Take `amount` at once, below zero if need be: the work has already been done. */
export const charge = (state: State, amount: number): State => {
  const taken = count(state, amount)
  return {
    ...state,
    level: Math.max(-maxAmount, state.level - amount),
    taken,
    born: taken >= state.taken ? state.born : state.serial + 1
  }
}

/**
 * Nobody who asks from now on runs before `duration` is over, however many tokens there are: requests are decided as
 * they would be at its end. What refills meanwhile is kept as far as it fits, and promises that were made before hold.
 */
export const pause = (state: State, duration: number): State => {
  const now = state.at
  const ends = now + duration
  // Whoever stands at the tail holds everyone off for longer, and must not take that back by leaving.
  return ends <= Math.max(now, state.tail) ? { ...state, tailSerial: 0 } : holdOff(state, ends)
}

/** Full as on the first day. Reservations made before count for nothing any more. */
export const reset = (state: State, rules: Rules): State => {
  const serial = Math.max(state.serial, state.at)
  return { ...fresh(rules, state.at), serial, born: serial + 1 }
}

/** How long a request would wait that came now. */
const waitFor = (state: State, amount: number): number => {
  const runs = runsAt(state, amount)
  return runs === undefined || runs - state.at > maxSpan ? Number.POSITIVE_INFINITY : runs - state.at
}

/** What a request for `amount` would meet. */
export const look = (state: State, amount: number): View => {
  const available = state.tail > state.at ? 0 : Math.max(0, state.level)
  const more = (Math.floor(available / unitsPerToken) + 1) * unitsPerToken
  return {
    available,
    wait: amount === 0 ? 0 : waitFor(state, amount),
    nextToken: more > state.capacity ? Number.POSITIVE_INFINITY : waitFor(state, more)
  }
}
