/**
 * One standalone server and one three-node cluster for the whole run of the tests. They are, in this order, those that
 * the environment names, a Docker container, or processes of our own; see `serverProcess.ts` for where their program
 * comes from.
 */
import { Effect, Exit, Scope } from "effect"
import type { TestProject } from "vitest/node"
import { startContainer } from "./container.ts"
import { startCluster, startServer } from "./servers.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly redisUrl: string
    readonly clusterUrl: string
  }
}

const { STEINDAMM_REDIS_URL, REDIS_URL, REDIS_CLUSTER_URL } = process.env
const named = { redisUrl: STEINDAMM_REDIS_URL ?? REDIS_URL, clusterUrl: REDIS_CLUSTER_URL }

const startProcesses = Effect.gen(function* () {
  const redisUrl = named.redisUrl ?? (yield* startServer()).url
  const clusterUrl = named.clusterUrl ?? (yield* startCluster()).url
  return { redisUrl, clusterUrl }
})

const start = Effect.gen(function* () {
  if (named.redisUrl !== undefined && named.clusterUrl !== undefined) return yield* startProcesses
  return { ...(yield* Effect.catch(startContainer, () => startProcesses)), ...definedOnly(named) }
})

const definedOnly = <A>(record: Readonly<Record<string, A | undefined>>) =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined))

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scope = Scope.makeUnsafe()
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const { redisUrl, clusterUrl } = await Effect.runPromise(Scope.provide(start, scope)).catch(async (cause) => {
    await close()
    throw cause
  })
  project.provide("redisUrl", redisUrl)
  project.provide("clusterUrl", clusterUrl)
  return close
}
