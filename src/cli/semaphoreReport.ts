/**
 * What Redis tells when it is asked to look at a semaphore.
 */
import type { LimiterAddress } from "../internal/limiterKeys.ts"
import type { SemaphoreResult } from "../internal/redisScripts.ts"
import type { SemaphoreReport } from "./report.ts"

/** As the script lists them: the value is a fencing token or a ticket, neither of which is less than its time. */
type Row = readonly [id: string, permits: number, value: number, leaseLeft: number]

/** An id is permits.capacity.client.serial. */
const capacityIn = ([id]: Row): number => Number(id.split(".")[1])

/** `now` in microseconds, by the server's clock. */
export const semaphoreReport = (
  { name, tag = null }: { readonly name: string; readonly tag?: LimiterAddress["tag"] | null },
  now: number,
  [, resized, inUse, waiting, holders, waiters]: SemaphoreResult
): SemaphoreReport => {
  const [holding, queued] = [holders, waiters] as [ReadonlyArray<Row>, ReadonlyArray<Row>]
  const ownCapacities = Array.from(new Set([...holding, ...queued].map(capacityIn))).sort((a, b) => a - b)
  const since = (value: number) => Math.max(0, now - value) / 1000
  return {
    kind: "semaphore",
    name,
    tag,
    capacity: Number(resized) || (ownCapacities.at(-1) ?? null),
    resized: Number(resized) > 0,
    ownCapacities,
    inUse: Number(inUse),
    waiting: Number(waiting),
    holders: holding.map(([id, permits, fencingToken, leaseLeft]) => ({
      id,
      permits,
      fencingToken,
      heldMs: since(fencingToken),
      leaseLeftMs: leaseLeft / 1000
    })),
    waiters: queued.map(([id, permits, ticket, leaseLeft]) => ({
      id,
      permits,
      waitingMs: since(ticket),
      leaseLeftMs: leaseLeft / 1000
    }))
  }
}
