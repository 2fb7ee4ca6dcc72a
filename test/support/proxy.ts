/**
 * A TCP proxy before a server, for what networks do to connections.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

export interface TcpProxy {
  readonly host: string
  readonly port: number
  readonly url: string
  /** Milliseconds by which every request and every reply is held up; may be changed at any time. */
  latency: number
  /**
   * `"dropReplies"`: requests arrive and run, nothing comes back. `"blackhole"`: nothing gets through in either
   * direction, and no connection is closed; new ones are accepted and get no answer either.
   */
  mode: "pass" | "dropReplies" | "blackhole"
  /** Where new connections lead. */
  target: { readonly host: string; readonly port: number }
  /**
   * Breaks the connection in the middle of the reply to each of the next `count` requests that match: the server has
   * run them, the client never learns the outcome.
   */
  readonly cutReplies: (count: number, matches?: (request: string) => boolean) => void
  /** The connections that are open now go silent for ever without being closed; new ones work. */
  readonly goHalfOpen: () => void
  /** Breaks all connections that are open now. */
  readonly killConnections: () => void
  readonly counts: {
    connections: number
    open: number
    cut: number
    dropped: number
  }
}

interface Pair {
  readonly downstream: Socket
  readonly upstream: Socket
  silent: boolean
  /** The next reply will be cut. */
  doomed: boolean
}

const host = "127.0.0.1"

export const startProxy = (target: {
  readonly host: string
  readonly port: number
}): Effect.Effect<TcpProxy, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => listen(target)),
      ({ close }) => Effect.promise(close)
    ),
    ({ proxy }) => proxy
  )

const listen = (target: TcpProxy["target"]) =>
  new Promise<{ readonly proxy: TcpProxy; readonly close: () => Promise<void> }>((resolve) => {
    const pairs = new Set<Pair>()
    let cutsLeft = 0
    let cutMatches: (request: string) => boolean = () => true

    const open = (downstream: Socket) => {
      const upstream = connect(proxy.target.port, proxy.target.host)
      const [toServer, toClient] = [line(), line()]
      const pair: Pair = { downstream, upstream, silent: false, doomed: false }
      const close = () => {
        downstream.destroy()
        upstream.destroy()
        if (pairs.delete(pair)) proxy.counts.open--
      }
      pairs.add(pair)
      proxy.counts.connections++
      proxy.counts.open++
      for (const socket of [downstream, upstream]) socket.setNoDelay(true).on("error", close).on("close", close)

      downstream.on("data", (request: Buffer) => {
        if (pair.silent || proxy.mode === "blackhole") return
        if (cutsLeft > 0 && !pair.doomed && cutMatches(String(request))) {
          cutsLeft--
          pair.doomed = true
        }
        toServer(() => upstream.writable && upstream.write(request))
      })
      upstream.on("data", (reply: Buffer) => {
        if (pair.silent || proxy.mode !== "pass") {
          proxy.counts.dropped++
        } else if (pair.doomed) {
          proxy.counts.cut++
          pair.silent = true
          toClient(() => downstream.writable && downstream.write(reply.subarray(0, reply.length / 2), close))
        } else {
          toClient(() => downstream.writable && downstream.write(reply))
        }
      })
    }
    // What was sent before arrives before, also when the latency has become less meanwhile, and nothing arrives early,
    // though a timer may fire so.
    const line = () => {
      const sending: Array<{ readonly due: number; readonly send: () => void }> = []
      const wait = (due: number) => setTimeout(sendDue, Math.ceil(due - performance.now()))
      const sendDue = () => {
        for (let first = sending[0]; first !== undefined; first = sending[0]) {
          if (first.due > performance.now()) {
            wait(first.due)
            return
          }
          sending.shift()
          first.send()
        }
      }
      return (send: () => void) => {
        if (proxy.latency === 0 && sending.length === 0) return send()
        const due = Math.max(sending.at(-1)?.due ?? 0, performance.now() + proxy.latency)
        sending.push({ due, send })
        if (sending.length === 1) wait(due)
      }
    }

    const server = createServer(open)
    const proxy: TcpProxy = {
      host,
      port: 0,
      url: "",
      latency: 0,
      mode: "pass",
      target,
      cutReplies: (count, matches = () => true) => {
        cutsLeft = count
        cutMatches = matches
      },
      goHalfOpen: () => {
        for (const pair of pairs) pair.silent = true
      },
      killConnections: () => {
        for (const { downstream } of pairs) downstream.destroy()
      },
      counts: { connections: 0, open: 0, cut: 0, dropped: 0 }
    }
    server.listen(0, host, () => {
      const { port } = server.address() as AddressInfo
      resolve({
        proxy: Object.assign(proxy, { port, url: `redis://${host}:${port}` }),
        close: () => {
          const closed = new Promise<void>((done) => server.close(() => done()))
          proxy.killConnections()
          return closed
        }
      })
    })
  })
