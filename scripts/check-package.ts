/**
 * Packs the package as it would be published, installs it into empty projects, and uses it there as people do:
 * under the Node of the system, with and without ioredis, type-checked by two kinds of project, and bundled.
 * Prints a line for each check, and `N passed, N failed` last.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const bin = (name: string) => join(root, "node_modules", ".bin", name)
const work = mkdtempSync(join(tmpdir(), "steindamm-package-"))

/** The Node that a user of this machine has, not the one that our tools bring along. */
const systemPath = (process.env["PATH"] ?? "")
  .split(delimiter)
  .filter((folder) => !folder.includes("node_modules"))
  .join(delimiter)

const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): string =>
  execFileSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, PATH: systemPath, npm_config_audit: "false", npm_config_fund: "false" },
    stdio: ["ignore", "pipe", "pipe"]
  })

let passed = 0
let failed = 0

const check = (claim: string, body: () => void): void => {
  try {
    body()
    passed++
    console.log(`ok ${claim}`)
  } catch (error) {
    failed++
    const output = (error as { stdout?: string }).stdout ?? ""
    console.log(`not ok ${claim}\n${output}${String(error)}`)
  }
}

const assert = (condition: boolean, message: string): void => {
  if (!condition) throw new Error(message)
}

const { name, version, peerDependencies, devDependencies } = JSON.parse(
  readFileSync(join(root, "package.json"), "utf8")
)

run(root, "npm", "pack", "--pack-destination", work)
const tarball = join(work, `${name}-${version}.tgz`)

const project = (folder: string, dependencies: Record<string, string>): string => {
  const path = join(work, folder)
  mkdirSync(path)
  writeFileSync(
    join(path, "package.json"),
    JSON.stringify({
      name: folder,
      private: true,
      type: "module",
      dependencies: { steindamm: `file:${tarball}`, ...dependencies }
    })
  )
  run(path, "npm", "install", "--no-package-lock")
  return path
}

const program = `
import { Effect } from "effect"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"

const program = Effect.gen(function* () {
  const bucket = yield* TokenBucket.make({ name: "bucket", capacity: 2 })
  const semaphore = yield* Semaphore.make({ name: "semaphore", capacity: 2 })
  return yield* bucket.withPermit(semaphore.withPermit(Effect.succeed("works")))
})

Effect.runPromise(program.pipe(Effect.provide(LocalLive))).then(console.log)
`

const redisProgram = `
import { Effect, Layer } from "effect"
import { InvalidOptions, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"

const live = RedisLive.pipe(Layer.provide(RedisClient.layer({ url: "nonsense" })))
Effect.runPromise(Effect.flip(TokenBucket.make({ name: "bucket" }).pipe(Effect.provide(live)))).then((error) =>
  console.log(error instanceof InvalidOptions ? "works" : error)
)
`

try {
  const bare = project("bare", { effect: peerDependencies.effect })
  const nodeVersion = run(bare, "node", "--version").trim()

  check(`runs under the system's Node ${nodeVersion} with nothing but effect`, () => {
    writeFileSync(join(bare, "main.mjs"), program)
    assert(run(bare, "node", "main.mjs").trim() === "works", "the program did not say that it works")
  })

  check("can be required from CommonJS under the project's own Node", () => {
    writeFileSync(
      join(bare, "main.cjs"),
      `const { TokenBucket } = require("steindamm")\nconsole.log(typeof TokenBucket.make)\n`
    )
    assert(run(bare, bin("node"), "main.cjs").trim() === "function", "TokenBucket.make is no function")
  })

  check("can be bundled, without ioredis", () => {
    writeFileSync(join(bare, "entry.mjs"), program)
    run(bare, bin("esbuild"), "entry.mjs", "--bundle", "--platform=node", "--format=esm", "--outfile=bundle.mjs")
    assert(
      !/from ["']ioredis["']|require\\(["']ioredis["']\\)/.test(readFileSync(join(bare, "bundle.mjs"), "utf8")),
      "the bundle loads ioredis"
    )
    assert(run(bare, "node", "bundle.mjs").trim() === "works", "the bundle did not say that it works")
  })

  const full = project("full", {
    effect: peerDependencies.effect,
    ioredis: peerDependencies.ioredis,
    "@types/node": devDependencies["@types/node"]
  })

  check(`loads its Redis part under Node ${nodeVersion}`, () => {
    writeFileSync(join(full, "redis.mjs"), redisProgram)
    assert(run(full, "node", "redis.mjs").trim() === "works", "the options were not refused as expected")
  })

  for (const [moduleResolution, module] of [
    ["nodenext", "nodenext"],
    ["bundler", "esnext"]
  ] as const) {
    for (const exactOptionalPropertyTypes of [true, false]) {
      check(
        `type-checks with moduleResolution ${moduleResolution}, exact optional properties ${exactOptionalPropertyTypes}`,
        () => {
          writeFileSync(
            join(full, "main.ts"),
            program +
              redisProgram
                .replaceAll("program", "other")
                .replace("import { Effect, Layer }", "import { Layer }")
                .replace("InvalidOptions, TokenBucket", "InvalidOptions")
          )
          writeFileSync(
            join(full, "tsconfig.json"),
            JSON.stringify({
              compilerOptions: {
                strict: true,
                noEmit: true,
                target: "es2022",
                types: ["node"],
                skipLibCheck: true,
                moduleResolution,
                module,
                exactOptionalPropertyTypes
              },
              include: ["main.ts"]
            })
          )
          run(full, bin("tsc"), "-p", ".")
        }
      )
    }
  }

  check("has sound exports (publint)", () => void run(root, bin("publint"), tarball))
  check("resolves its types everywhere (attw)", () => void run(root, bin("attw"), tarball, "--profile", "esm-only"))
} finally {
  rmSync(work, { recursive: true, force: true })
}

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
