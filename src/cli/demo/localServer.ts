/**
 * An HTTP server on a free port of this machine, as long as its scope is open.
 */
import { createServer, type IncomingMessage, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface Answer {
  readonly status: number
  readonly text: string
}

/** Gives its address. */
export const localServer = (
  answer: (request: IncomingMessage) => Effect.Effect<Answer>
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const server = createServer((request, response) => {
      runFork(Effect.map(answer(request), ({ status, text }) => void response.writeHead(status).end(text)))
    })
    yield* Effect.acquireRelease(listening(server), () => closed(server))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })

const listening = (server: Server): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.once("error", (error) => resume(Effect.die(error)))
    server.listen(0, "127.0.0.1", () => resume(Effect.void))
  })

const closed = (server: Server): Effect.Effect<void> =>
  Effect.callback((resume) => {
    server.close(() => resume(Effect.void))
    server.closeAllConnections()
  })
