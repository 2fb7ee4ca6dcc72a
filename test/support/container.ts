/**
 * The shared servers in a Docker container, where Docker runs.
 */
import { Effect, type Scope } from "effect"
import { Redis } from "ioredis"
import type { StartedTestContainer } from "testcontainers"
import { freePort } from "./serverProcess.ts"
import { type ClusterNode, formCluster } from "./servers.ts"

// Any that brings a program named redis-server, as Valkey's do.
const image = process.env["STEINDAMM_REDIS_IMAGE"] ?? "redis:8-alpine"

/**
 * One container with a standalone server and a three-node cluster, whose ports are the same inside and outside so that
 * clients reach the nodes where the nodes say they are. Fails when there is no Docker.
 */
export const startContainer: Effect.Effect<
  { readonly redisUrl: string; readonly clusterUrl: string },
  unknown,
  Scope.Scope
> = Effect.gen(function* () {
  const [standalone = 0, ...ports] = yield* Effect.promise(() => Promise.all(Array.from({ length: 7 }, freePort)))
  const nodes = [0, 1, 2].map((index) => ({ port: ports[index] ?? 0, busPort: ports[index + 3] ?? 0 }))
  const server = (...directives: ReadonlyArray<string>) =>
    ["redis-server", "--save '' --protected-mode no", ...directives, "&"].join(" ")
  const script = [
    server(`--port ${standalone}`),
    ...nodes.map(({ port, busPort }) =>
      server(
        `--port ${port} --cluster-port ${busPort} --cluster-enabled yes --cluster-config-file nodes-${port}.conf`,
        "--cluster-announce-ip 127.0.0.1 --cluster-node-timeout 2000"
      )
    ),
    "wait"
  ].join(" ")

  const container = yield* Effect.acquireRelease(
    Effect.tryPromise(async () => {
      const { GenericContainer, getContainerRuntimeClient, Wait } = await import("testcontainers")
      await getContainerRuntimeClient()
      return new GenericContainer(image)
        .withEntrypoint(["sh", "-c", script])
        .withExposedPorts(
          ...[standalone, ...nodes.map(({ port }) => port)].map((port) => ({ container: port, host: port }))
        )
        .withWaitStrategy(Wait.forLogMessage("Ready to accept connections", 4))
        .start()
    }),
    (container: StartedTestContainer) => Effect.promise(() => container.stop())
  )
  yield* formCluster(nodes.map(clusterNode))
  return {
    redisUrl: `redis://${container.getHost()}:${standalone}`,
    clusterUrl: `redis://127.0.0.1:${nodes[0]?.port}`
  }
})

const clusterNode = ({ port, busPort }: { readonly port: number; readonly busPort: number }): ClusterNode => ({
  host: "127.0.0.1",
  port,
  busPort,
  command: (name, ...args) =>
    Effect.acquireUseRelease(
      Effect.sync(() => new Redis(port)),
      (client) => Effect.promise(() => client.call(String(name), ...args)),
      (client) => Effect.sync(() => client.disconnect())
    )
})
