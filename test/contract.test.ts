import { Layer } from "effect"
import { LocalLive } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
import { inject } from "vitest"
import type { Backend } from "./contract/harness.ts"
import { jointContract } from "./contract/joint.ts"
import { keyedContract } from "./contract/keyed.ts"
import { semaphoreContract } from "./contract/semaphore.ts"
import { tokenBucketContract } from "./contract/tokenBucket.ts"
import { freshKeyPrefix } from "./support/keyPrefix.ts"

const backends: ReadonlyArray<Backend> = [
  { label: "in memory", layer: LocalLive, tolerance: 0 },
  {
    label: "over Redis",
    layer: RedisLive.pipe(Layer.provide(RedisClient.layer({ url: inject("redisUrl"), keyPrefix: freshKeyPrefix() }))),
    tolerance: 150
  },
  {
    label: "over Redis Cluster",
    layer: RedisLive.pipe(
      Layer.provide(RedisClient.layer({ nodes: [inject("clusterUrl")], keyPrefix: freshKeyPrefix() }))
    ),
    tolerance: 150
  }
]

for (const backend of backends) {
  tokenBucketContract(backend)
  semaphoreContract(backend)
  keyedContract(backend)
  jointContract(backend, true)
  jointContract(backend, false)
}
