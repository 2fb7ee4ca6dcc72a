/**
 * Several limiters as one, of which at least one is watched.
 */
import { type Attributes, attributesOf } from "./acquisitionSpan.ts"
import { JointMeters } from "./jointMeters.ts"
import type { Watch } from "./observedRequest.ts"
import { observedVerbs } from "./observedVerbs.ts"
import { type Watched, watchedOf } from "./watchedLimiter.ts"

export const observeJoint: Watched["observeJoint"] = (joint, parts) => {
  const observed = parts.flatMap(({ limiter, permits }) => {
    const its = watchedOf(limiter)
    return its === undefined ? [] : [{ name: limiter.name, usual: permits ?? its.usual, ...its.watch }]
  })
  const told = (which: "spans" | "logs") => {
    const all = observed.flatMap((one): ReadonlyArray<Attributes> => (one[which] === undefined ? [] : [one[which]]))
    const backends = new Set(all.map((attributes) => attributes["steindamm.backend"]))
    return all.length === 0
      ? undefined
      : attributesOf({ limiter: joint.name, kind: joint.kind, backend: Array.from(backends).join(" + ") })
  }
  const watch: Watch = {
    meters: new JointMeters(observed),
    isAway: undefined,
    spans: told("spans"),
    logs: told("logs")
  }
  return { ...joint, ...observedVerbs(joint, watch, 1) }
}
