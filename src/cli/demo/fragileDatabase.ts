/**
 * A database that bears so many connections at a time. Beyond that it slows down, and far beyond it refuses.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** Seconds that a query takes as long as the database is not overloaded. */
export const queryTime = 0.12

/** Refuses a query that would bring it to more than this many times what it bears. */
const breakingPoint = 2.5

export class FragileDatabase extends Context.Service<
  FragileDatabase,
  {
    /** Runs a query that needs so many connections; false if the database refused it. */
    readonly query: (connections: number) => Effect.Effect<boolean>
  }
>()("steindamm/demo/FragileDatabase") {
  static readonly layer = (bears: number): Layer.Layer<FragileDatabase> =>
    Layer.sync(FragileDatabase, () => {
      let open = 0
      return FragileDatabase.of({
        query: (connections) =>
          Effect.suspend(() => {
            if (open + connections > breakingPoint * bears) return Effect.succeed(false)
            open += connections
            const slowdown = Math.max(1, open / bears) ** 1.5
            return Effect.sleep(Duration.seconds(queryTime * slowdown)).pipe(
              Effect.as(true),
              Effect.ensuring(
                Effect.sync(() => {
                  open -= connections
                })
              )
            )
          })
      })
    })
}
