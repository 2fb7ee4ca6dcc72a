/**
 * Real servers on free loopback ports, with nothing persisted unless asked for. Each lives as long as its scope.
 *
 * Tests of normal behaviour share the two servers of `globalSetup.ts`. A test that hurts its server (kills, stops,
 * fills or misconfigures it) starts one of its own here.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { Effect, type Scope } from "effect"
import { Redis, type RedisOptions } from "ioredis"
import { freePort, ServerDidNotStart, type ServerProcess, serverCommand, spawnServer } from "./serverProcess.ts"

const host = "127.0.0.1"

export interface ServerOptions {
  /** Directives of redis.conf, such as `{ maxmemory: "2mb", requirepass: "secret" }`. */
  readonly config?: Readonly<Record<string, string>> | undefined
  /** Log every write to disk before it is answered, so that `restart` finds the data again. */
  readonly appendOnly?: boolean | undefined
}

export interface RedisServer {
  readonly host: string
  readonly port: number
  /** Where the nodes of a cluster talk to each other; unused otherwise. */
  readonly busPort: number
  readonly url: string
  /** Runs one command over a connection of its own, with full rights. */
  readonly command: (...command: ReadonlyArray<string | number>) => Effect.Effect<unknown>
  /** Ends it with SIGKILL. */
  readonly kill: Effect.Effect<void>
  /**
   * Starts it again on the same port after `kill`, with the data it logged or with none. Settles when it answers, or
   * as soon as it listens.
   */
  readonly start: (options?: {
    readonly empty?: boolean
    readonly until?: "ready" | "listening"
  }) => Effect.Effect<void>
  /** SIGSTOP: connections stay open, nothing is answered. */
  readonly pause: Effect.Effect<void>
  /** SIGCONT. */
  readonly resume: Effect.Effect<void>
}

/** A connection for the test itself: fails at once when the server is away, never reconnects. */
export const connect = (
  server: { readonly host: string; readonly port: number },
  options: Omit<RedisOptions, "replyMapping"> = {}
): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Redis(server.port, server.host, {
        retryStrategy: () => null,
        maxRetriesPerRequest: 0,
        enableReadyCheck: false,
        ...options
      })
      return client.on("error", () => {})
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "steindamm-"))),
  (dir) => Effect.promise(() => rm(dir, { recursive: true, force: true, maxRetries: 3 }))
)

const makeServer = Effect.fnUntraced(function* (options: ServerOptions) {
  const command = serverCommand()
  const dir = yield* temporaryDirectory
  const appendOnly = options.appendOnly ? ["--appendonly", "yes", "--appendfsync", "always"] : ["--appendonly", "no"]
  const config = Object.entries(options.config ?? {}).flatMap(([directive, value]) => [
    `--${directive}`,
    ...value.split(" ")
  ])

  const launch = (ports: Ports, until: "ready" | "listening") =>
    spawnServer(
      dir,
      command,
      [
        ...["--port", String(ports.port), "--cluster-port", String(ports.busPort), "--bind", host],
        ...["--dir", dir, "--save", "", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"],
        ...appendOnly,
        ...config
      ],
      until === "ready" ? /Ready to accept connections/ : /Server initialized/
    )

  let running: ServerProcess | undefined
  const kill = Effect.promise(async () => {
    await running?.kill()
    running = undefined
  })
  yield* Effect.addFinalizer(() => kill)
  const ports = yield* Effect.promise(async () => {
    const [ports, process] = await onFreePorts((ports) => launch(ports, "ready"))
    running = process
    return ports
  })

  const signal = (name: NodeJS.Signals) =>
    Effect.sync(() => {
      if (running !== undefined) process.kill(running.pid, name)
    })
  const { requirepass: password } = options.config ?? {}
  const server: RedisServer = {
    host,
    ...ports,
    url: `redis://${password === undefined ? "" : `:${password}@`}${host}:${ports.port}`,
    command: (name, ...args) =>
      Effect.scoped(
        Effect.flatMap(connect({ host, port: ports.port }, password === undefined ? {} : { password }), (client) =>
          Effect.promise(() => client.call(String(name), ...args))
        )
      ),
    kill,
    start: ({ empty = false, until = "ready" } = {}) =>
      Effect.promise(async () => {
        await running?.kill()
        if (empty) await rm(join(dir, "appendonlydir"), { recursive: true, force: true })
        running = await launch(ports, until)
      }),
    pause: signal("SIGSTOP"),
    resume: signal("SIGCONT")
  }
  return server
})

interface Ports {
  readonly port: number
  readonly busPort: number
}

/** Another process may take a port between our look and the server's bind: then with other ports again. */
const onFreePorts = async <A>(launch: (ports: Ports) => Promise<A>): Promise<readonly [Ports, A]> => {
  for (let attempt = 1; ; attempt++) {
    const ports = { port: await freePort(), busPort: await freePort() }
    try {
      return [ports, await launch(ports)]
    } catch (cause) {
      if (!(cause instanceof ServerDidNotStart && cause.portTaken) || attempt === 10) throw cause
    }
  }
}

/** A standalone server. */
export const startServer = (options: ServerOptions = {}): Effect.Effect<RedisServer, never, Scope.Scope> =>
  makeServer(options)

/** A replica of `primary`, once it has caught up. */
export const startReplica = Effect.fnUntraced(function* (
  primary: Pick<RedisServer, "host" | "port">,
  options: ServerOptions = {}
): Effect.fn.Return<RedisServer, never, Scope.Scope> {
  const replica = yield* makeServer({
    ...options,
    config: { replicaof: `${primary.host} ${primary.port}`, ...options.config }
  })
  yield* until(Effect.map(replica.command("INFO", "replication"), (info) => /master_link_status:up/.test(String(info))))
  return replica
})

export interface RedisCluster {
  readonly primaries: ReadonlyArray<RedisServer>
  /** Of the first primary; a client finds the others by itself. */
  readonly url: string
  readonly ownerOf: (slot: number) => Effect.Effect<RedisServer>
  /**
   * Moves a slot with its keys to another primary, as a resharding tool does. `halfway` runs while the slot is between
   * the two, when multi-key commands may be answered with TRYAGAIN.
   */
  readonly moveSlot: <E = never, R = never>(
    slot: number,
    to: RedisServer,
    halfway?: Effect.Effect<void, E, R>
  ) => Effect.Effect<void, E, R>
}

/**
 * A cluster whose slots are spread evenly over three primaries, once all of them agree on that.
 */
export const startCluster = Effect.fnUntraced(function* (
  options: ServerOptions = {}
): Effect.fn.Return<RedisCluster, never, Scope.Scope> {
  const config = { "cluster-enabled": "yes", "cluster-node-timeout": "2000", ...options.config }
  const primaries = yield* Effect.forEach([1, 2, 3], () => makeServer({ ...options, config }), {
    concurrency: "unbounded"
  })
  yield* formCluster(primaries)
  const ownerOf = (slot: number) => findOwner(primaries, slot)
  return {
    primaries,
    url: primaries[0]?.url ?? "",
    ownerOf,
    moveSlot: (slot, to, halfway = Effect.void) =>
      Effect.flatMap(ownerOf(slot), (from) => moveSlot(slot, from, to, primaries, halfway))
  }
})

/** What forming a cluster needs to know of a node, so that nodes in a container can be formed into one too. */
export type ClusterNode = Pick<RedisServer, "host" | "port" | "busPort" | "command">

const slotCount = 16_384

/** Joins empty nodes, which share the slots. */
export const formCluster = Effect.fnUntraced(function* (nodes: ReadonlyArray<ClusterNode>) {
  for (const [index, node] of nodes.entries()) {
    yield* node.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
    const first = Math.floor((slotCount * index) / nodes.length)
    const last = Math.floor((slotCount * (index + 1)) / nodes.length) - 1
    yield* node.command("CLUSTER", "ADDSLOTSRANGE", first, last)
  }
  const [first, ...others] = nodes
  if (first === undefined) return
  for (const node of others) yield* first.command("CLUSTER", "MEET", node.host, node.port, node.busPort)
  yield* until(allAgree(nodes, /cluster_state:ok/, new RegExp(`cluster_known_nodes:${nodes.length}\\b`)))
})

const allAgree = (nodes: ReadonlyArray<ClusterNode>, ...wanted: ReadonlyArray<RegExp>) =>
  Effect.map(
    Effect.forEach(nodes, (node) => node.command("CLUSTER", "INFO"), { concurrency: "unbounded" }),
    (infos) => infos.every((info) => wanted.every((pattern) => pattern.test(String(info))))
  )

const findOwner = Effect.fnUntraced(function* (primaries: ReadonlyArray<RedisServer>, slot: number) {
  const ranges = (yield* primaries[0]?.command("CLUSTER", "SLOTS") ?? Effect.succeed([])) as ReadonlyArray<
    readonly [first: number, last: number, primary: readonly [host: string, port: number]]
  >
  const port = ranges.find(([first, last]) => first <= slot && slot <= last)?.[2][1]
  const owner = primaries.find((node) => node.port === port)
  return owner ?? (yield* Effect.die(new Error(`No primary owns slot ${slot}`)))
})

const moveSlot = Effect.fnUntraced(function* <E, R>(
  slot: number,
  from: RedisServer,
  to: RedisServer,
  primaries: ReadonlyArray<RedisServer>,
  halfway: Effect.Effect<void, E, R>
) {
  const [fromId, toId] = [String(yield* from.command("CLUSTER", "MYID")), String(yield* to.command("CLUSTER", "MYID"))]
  yield* to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", fromId)
  yield* from.command("CLUSTER", "SETSLOT", slot, "MIGRATING", toId)
  yield* halfway
  for (;;) {
    const keys = (yield* from.command("CLUSTER", "GETKEYSINSLOT", slot, 100)) as ReadonlyArray<string>
    if (keys.length === 0) break
    yield* from.command("MIGRATE", to.host, to.port, "", 0, 5000, "KEYS", ...keys)
  }
  yield* Effect.forEach([to, from, ...primaries], (node) => node.command("CLUSTER", "SETSLOT", slot, "NODE", toId), {
    discard: true
  })
})

export interface SentinelGroup {
  readonly name: string
  readonly sentinels: Array<{ readonly host: string; readonly port: number }>
  readonly primary: RedisServer
  readonly replica: RedisServer
  /** Has the sentinels promote the replica, and waits until they have. */
  readonly failover: Effect.Effect<void>
}

export const sentinelUrl = ({ name, sentinels }: SentinelGroup): string =>
  `redis-sentinel://${sentinels.map(({ host, port }) => `${host}:${port}`).join(",")}#${name}`

/**
 * A primary with one replica, watched by three sentinels.
 */
export const startSentinelGroup = Effect.fnUntraced(function* (
  options: ServerOptions = {}
): Effect.fn.Return<SentinelGroup, never, Scope.Scope> {
  const name = "steindamm"
  const primary = yield* startServer(options)
  const replica = yield* startReplica(primary, options)
  const sentinels = yield* Effect.forEach([1, 2, 3], () => startSentinel(name, primary))
  const ask = (sentinel: { readonly host: string; readonly port: number }, ...args: ReadonlyArray<string>) =>
    Effect.scoped(Effect.flatMap(connect(sentinel), (client) => Effect.promise(() => client.call("SENTINEL", ...args))))
  const everySentinel = (accepts: (seen: ReadonlyArray<unknown>) => boolean, ...args: ReadonlyArray<string>) =>
    until(
      Effect.map(
        Effect.forEach(sentinels, (sentinel) => ask(sentinel, ...args)),
        (replies) => replies.every((reply) => Array.isArray(reply) && accepts(reply))
      )
    )
  yield* everySentinel((replicas) => replicas.length === 1, "REPLICAS", name)
  yield* everySentinel((others) => others.length === 2, "SENTINELS", name)
  return {
    name,
    sentinels,
    primary,
    replica,
    failover: Effect.andThen(
      Effect.suspend(() => (sentinels[0] === undefined ? Effect.void : ask(sentinels[0], "FAILOVER", name))),
      everySentinel(([, port]) => port === String(replica.port), "GET-MASTER-ADDR-BY-NAME", name)
    )
  }
})

const startSentinel = Effect.fnUntraced(function* (name: string, primary: RedisServer) {
  const command = serverCommand()
  const dir = yield* temporaryDirectory
  const launch = async ({ port }: Ports) => {
    const file = join(dir, "sentinel.conf")
    await writeFile(
      file,
      [
        `port ${port}`,
        `bind ${host}`,
        `dir ${dir}`,
        `sentinel monitor ${name} ${primary.host} ${primary.port} 2`,
        `sentinel down-after-milliseconds ${name} 1000`,
        `sentinel failover-timeout ${name} 5000`
      ].join("\n")
    )
    return spawnServer(dir, command, [file, "--sentinel"], /Sentinel ID is/)
  }
  const [ports] = yield* Effect.acquireRelease(
    Effect.promise(() => onFreePorts(launch)),
    ([, process]) => Effect.promise(() => process.kill())
  )
  return { host, port: ports.port }
})

// in real time, whatever clock the test runs under
const aMoment = Effect.promise(() => setTimeout(20))

/** Asks again and again, for what servers do by themselves and tell nobody. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.flatMap(condition, (holds) => (holds ? Effect.void : Effect.andThen(aMoment, until(condition))))
