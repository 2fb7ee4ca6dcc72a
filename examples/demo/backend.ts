/**
 * Where the demo's limiters live. This is the only place that knows.
 */
import type { Layer } from "effect"
import { LocalLive, type Semaphore, type TokenBucket } from "steindamm"

export const backend: Layer.Layer<TokenBucket | Semaphore> = LocalLive
