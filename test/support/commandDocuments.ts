/**
 * What the command `steindamm` prints with `--json`, as others rely on it: these fields and no other.
 */
import { Schema } from "effect"

const Identity = { name: Schema.String, tag: Schema.NullOr(Schema.String) }

const BucketReport = Schema.Struct({
  kind: Schema.Literal("token-bucket"),
  ...Identity,
  capacity: Schema.Number,
  tokens: Schema.Number,
  owed: Schema.Number,
  waitMs: Schema.NullOr(Schema.Number),
  nextRefillMs: Schema.NullOr(Schema.Number),
  taken: Schema.Number,
  options: Schema.Struct({
    refillAmount: Schema.Number,
    refillFrequencyMs: Schema.Number,
    initialTokens: Schema.Number,
    expiryMs: Schema.Number,
    windowStartTime: Schema.NullOr(Schema.String)
  })
})

const SemaphoreReport = Schema.Struct({
  kind: Schema.Literal("semaphore"),
  ...Identity,
  capacity: Schema.NullOr(Schema.Number),
  resized: Schema.Boolean,
  ownCapacities: Schema.Array(Schema.Number),
  inUse: Schema.Number,
  waiting: Schema.Number,
  holders: Schema.Array(
    Schema.Struct({
      id: Schema.String,
      permits: Schema.Number,
      fencingToken: Schema.Number,
      heldMs: Schema.Number,
      leaseLeftMs: Schema.Number
    })
  ),
  waiters: Schema.Array(
    Schema.Struct({
      id: Schema.String,
      permits: Schema.Number,
      waitingMs: Schema.Number,
      leaseLeftMs: Schema.Number
    })
  )
})

const Where = { redis: Schema.String, prefix: Schema.String }

export const ReleaseDocument = Schema.Struct({
  ...Where,
  kind: Schema.Literal("semaphore"),
  ...Identity,
  id: Schema.String,
  released: Schema.Literal(true)
})

export const ResizeDocument = Schema.Struct({
  ...Where,
  kind: Schema.Literal("semaphore"),
  ...Identity,
  capacity: Schema.NullOr(Schema.Number),
  before: Schema.NullOr(Schema.Number)
})

export const ResetDocument = Schema.Struct({
  ...Where,
  kind: Schema.Literals(["token-bucket", "semaphore"]),
  ...Identity,
  reset: Schema.Literal(true)
})

export const InspectDocument = Schema.Struct({
  ...Where,
  limiters: Schema.Array(Schema.Union([BucketReport, SemaphoreReport]))
})

export const TopDocument = Schema.Struct({
  ...Where,
  isCut: Schema.Boolean,
  limiters: Schema.Array(
    Schema.Struct({
      kind: Schema.Literals(["token-bucket", "semaphore"]),
      ...Identity,
      capacity: Schema.NullOr(Schema.Number),
      inUse: Schema.NullOr(Schema.Number),
      waiting: Schema.NullOr(Schema.Number),
      tokens: Schema.NullOr(Schema.Number),
      waitMs: Schema.NullOr(Schema.Number),
      nextRefillMs: Schema.NullOr(Schema.Number),
      ratePerSecond: Schema.NullOr(Schema.Number),
      problem: Schema.NullOr(Schema.String)
    })
  )
})
