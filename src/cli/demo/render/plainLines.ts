/**
 * What a scenario prints where there is no terminal to draw in: a line a second, and one at the end of each run.
 */

import { type Line, plain, strong } from "../../render/text.ts"
import { done, type Run } from "../run.ts"
import type { Scene, View } from "../view.ts"
import { seconds } from "./units.ts"

const progress = (name: string, run: Run, scene: Scene): Line => {
  const moment = run.phase === "over" ? `over after ${seconds(run.elapsed)}` : `${Math.floor(run.elapsed)} s`
  const total = String(run.total)
  const count = (value: number) => String(value).padStart(total.length)
  return [
    plain(`  ${name.padEnd(15)}  ${count(done(run))} of ${total} ${scene.work}, `),
    plain(`${count(run.good)} ${scene.good}, ${count(run.bad)} ${scene.bad}, ${count(run.waiting)} waiting (${moment})`)
  ]
}

const news = (name: string, last: Run | undefined, run: Run, scene: Scene): Array<Line> => {
  const ended = run.phase === "over" && last?.phase !== "over"
  const secondPassed = run.phase === "running" && Math.floor(run.elapsed) > Math.floor(last?.elapsed ?? 0)
  return ended || secondPassed ? [progress(name, run, scene)] : []
}

/** What is new since the last view. */
export const plainLines = (last: View | undefined, view: View): Array<Line> => [
  ...(last === undefined ? [[strong(view.scene.title), plain(`: ${view.scene.about}`)]] : []),
  ...news("without limiter", last?.without, view.without, view.scene),
  ...news("with limiter", last?.limited, view.limited, view.scene)
]
