/**
 * A pool of worker processes, and a database that bears three connections. A semaphore in Redis keeps to that number
 * over all of them, also when one is killed in the midst of a query.
 *
 * The database is a stand-in within the process that starts the workers. Without the variable REDIS_URL, Redis is
 * expected on this machine, on its usual port.
 *
 *     npx node --conditions steindamm-source examples/worker-pool.ts
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Clock, Console, Data, Effect, Layer } from "effect"
import { Semaphore } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"

const bears = 3

class Connections extends Semaphore.Service<Connections>()("Connections", {
  name: "worker-pool",
  capacity: bears,
  // The permits of a worker that died are missing for so long at most.
  expiry: "3 seconds"
}) {}

const Live = Connections.layer.pipe(Layer.provide(RedisLive), Layer.provide(RedisClient.layerConfig()))

// A worker ----------------------------------------------------------------------------------------------------------

class QueryFailed extends Data.TaggedError("QueryFailed")<{ readonly cause: unknown }> {}

const work = Effect.fn("work")(function* (database: string, queries: ReadonlyArray<string>) {
  const connections = yield* Connections
  const query = connections.wrap((sql: string) =>
    Effect.tryPromise({
      try: async (signal) => {
        const response = await fetch(database, { method: "POST", body: sql, signal })
        if (!response.ok) throw new Error(await response.text())
      },
      catch: (cause) => new QueryFailed({ cause })
    })
  )
  // Whoever stands still for so long that its permit is lost has its query cancelled, and asks again.
  const retried = (sql: string) => Effect.retry(query(sql), { while: ({ _tag }) => _tag === "PermitLost" })
  yield* Effect.forEach(queries, retried, { concurrency: "unbounded", discard: true })
})

// The database ------------------------------------------------------------------------------------------------------

const slow = "select everything"

class Database {
  most = 0
  answered = 0
  refused = 0
  private onSlowQuery: () => void = () => {}
  readonly slowQuery = new Promise<void>((resolve) => {
    this.onSlowQuery = resolve
  })
  private readonly open = new Set<ServerResponse>()
  readonly server = createServer(async (request, response) => {
    this.open.add(response)
    response.on("close", () => this.open.delete(response))
    this.most = Math.max(this.most, this.open.size)
    if (this.open.size > bears) {
      this.refused++
      response.writeHead(503).end("too many connections")
      return
    }
    const sql = (await request.setEncoding("utf8").toArray()).join("")
    if (sql === slow) return this.onSlowQuery()
    setTimeout(() => {
      this.answered++
      this.open.delete(response)
      response.end()
    }, 20)
  })

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`
  }
}

const openDatabase = Effect.acquireRelease(
  Effect.promise(async () => {
    const database = new Database()
    database.server.listen(0, "127.0.0.1")
    await once(database.server, "listening")
    return database
  }),
  ({ server }) => Effect.sync(() => server.close())
)

// The pool ----------------------------------------------------------------------------------------------------------

const startWorker = (database: Database, queries: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => fork(import.meta.filename, [database.url, ...queries])),
    (worker) => Effect.sync(() => worker.kill("SIGKILL"))
  )

const finished = (worker: ChildProcess) =>
  Effect.promise(async () => {
    if (worker.exitCode === null) await once(worker, "exit")
    if (worker.exitCode !== 0) throw new Error(`a worker ended with ${worker.exitCode}`)
  })

const pool = Effect.gen(function* () {
  const connections = yield* Connections
  const database = yield* openDatabase
  const queries = Array.from({ length: 20 }, (_, n) => `select ${n}`)

  const unlucky = yield* startWorker(database, [slow])
  yield* Effect.promise(() => database.slowQuery)
  const workers = yield* Effect.forEach([1, 2, 3], () => startWorker(database, queries))

  yield* Effect.promise(() => once(database.server, "request"))
  unlucky.kill("SIGKILL")
  const killed = yield* Clock.currentTimeMillis
  yield* Console.log("one of four workers was killed in the midst of a query")

  const allBack = connections.withPermits(bears)(Clock.currentTimeMillis)
  yield* Effect.forEach(workers, finished, { concurrency: "unbounded", discard: true })
  yield* Console.log(`${database.answered} queries, ${database.most} at once at most, ${database.refused} refused`)
  yield* Console.log(`all ${bears} permits were back ${(yield* allBack) - killed} ms after the worker was killed`)
})

const run = <A, E>(program: Effect.Effect<A, E, Connections>) => Effect.runPromise(Effect.provide(program, Live))

const [database, ...queries] = process.argv.slice(2)
if (database === undefined) await run(Effect.scoped(pool))
else await run(work(database, queries))
