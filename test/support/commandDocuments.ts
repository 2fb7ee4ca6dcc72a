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

export const InspectDocument = Schema.Struct({
  redis: Schema.String,
  prefix: Schema.String,
  limiters: Schema.Array(Schema.Union([BucketReport, SemaphoreReport]))
})
