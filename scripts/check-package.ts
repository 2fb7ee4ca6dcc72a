/**
 * Packs the package as it would be published, installs it into empty projects, and uses it there as people do: under
 * the Node of the system, with and without ioredis, over a real Redis, type-checked by several kinds of project,
 * bundled and required. Prints a line for each check, and `N passed, N failed` last.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Exit, Scope } from "effect"
import { startServer } from "../test/support/servers.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const work = mkdtempSync(join(tmpdir(), "steindamm-package-"))
const scope = Scope.makeUnsafe()

/** A tool of this project. */
const bin = (name: string) => join(root, "node_modules", ".bin", name)

/** Where commands are found by someone who uses the package, without the Node that our own tools bring along. */
const systemPath = (process.env["PATH"] ?? "")
  .split(delimiter)
  .filter((folder) => !folder.includes("node_modules"))
  .join(delimiter)

const run = (cwd: string, command: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}): string =>
  execFileSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, PATH: systemPath, npm_config_audit: "false", npm_config_fund: "false", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 300_000
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
    const { stdout = "", stderr = "" } = error as { readonly stdout?: string; readonly stderr?: string }
    console.log([`not ok ${claim}`, stdout, stderr, String(error)].join("\n"))
  }
}

const assert = (holds: boolean, message: string): void => {
  if (!holds) throw new Error(message)
}

const says = (output: string, expected: string): void =>
  assert(output.trim() === expected, `expected ${JSON.stringify(expected)}, got ${JSON.stringify(output)}`)

/** An empty project that depends on the tarball and what else is named. */
const makeProject = (folder: string, tarball: string, dependencies: Readonly<Record<string, string>>): string => {
  const path = join(work, folder)
  mkdirSync(path)
  writeFileSync(
    join(path, "package.json"),
    JSON.stringify({ private: true, type: "module", dependencies: { steindamm: `file:${tarball}`, ...dependencies } })
  )
  run(path, "npm", ["install", "--no-package-lock"])
  return path
}

const limits = (layer: string) => `
const limited = Effect.gen(function* () {
  const bucket = yield* TokenBucket.make({ name: "bucket", capacity: 2 })
  const semaphore = yield* Semaphore.make({ name: "semaphore", capacity: 2 })
  return yield* bucket.withPermit(semaphore.withPermit(Effect.succeed("works")))
})

Effect.runPromise(limited.pipe(Effect.provide(${layer}))).then(console.log)
`

const localProgram = `
import { Effect } from "effect"
import { LocalLive, Semaphore, TokenBucket } from "steindamm"
${limits("LocalLive")}`

const redisProgram = `
import { Effect, Layer } from "effect"
import { Semaphore, TokenBucket } from "steindamm"
import { RedisClient, RedisLive } from "steindamm/redis"
${limits("RedisLive.pipe(Layer.provide(RedisClient.layerConfig()))")}`

const httpProgram = `
import { Effect } from "effect"
import { HttpClient, HttpClientResponse } from "effect/http"
import { LocalLive, TokenBucket } from "steindamm"
import { limitRequests } from "steindamm/http"

const server = HttpClient.make((request) =>
  Effect.succeed(HttpClientResponse.fromWeb(request, new Response("works")))
)
const asked = TokenBucket.make({ name: "bucket" }).pipe(
  Effect.flatMap((limiter) => server.pipe(limitRequests(limiter)).get("https://api.example/")),
  Effect.flatMap((response) => response.text)
)

Effect.runPromise(asked.pipe(Effect.provide(LocalLive))).then(console.log)
`

const promises = (connection: string) => `
const limited = async () => {
  const limiters = [createTokenBucket({ name: "bucket"${connection} }), createSemaphore({ name: "semaphore"${connection} })]
  const [bucket, semaphore] = limiters
  const permit = await semaphore.acquire({ permits: 2, signal: AbortSignal.timeout(10_000) })
  permit.release()
  const answer = await bucket.withPermit(() => semaphore.withPermit(async ({ signal }) => signal.aborted || "works"))
  for (const limiter of limiters) await limiter.close()
  return answer
}

limited().then(console.log, ({ reason, message }) => console.log(reason, message))
`

const overRedis = ", redis: process.env.REDIS_URL"

const promiseProgram = (connection = ""): string => `
import { createSemaphore, createTokenBucket } from "steindamm/promise"
${promises(connection)}`

const requiringProgram = (connection = ""): string => `
const { createSemaphore, createTokenBucket } = require("steindamm/promise")
${promises(connection)}`

// What is any would be accepted.
const wrongProgram = `
import { TokenBucket } from "steindamm"
import { createSemaphore } from "steindamm/promise"
import { RedisClient } from "steindamm/redis"

// @ts-expect-error: a capacity is a number
TokenBucket.make({ name: "bucket", capacity: "2" })
// @ts-expect-error: a URL is a string
RedisClient.layer({ url: 6379 })
// @ts-expect-error: a client is none of any kind
createSemaphore({ name: "semaphore", redis: {} })
// @ts-expect-error: what work gives is what is promised
const count: number = await createSemaphore({ name: "semaphore" }).withPermit(async () => "text")
`

const usingProgram = `
import { Redis } from "ioredis"
import { createSemaphore } from "steindamm/promise"

await using limiter = createSemaphore({ name: "semaphore", redis: new Redis() })
await using permit = await limiter.acquire()
const token: number = permit.fencingToken
`

interface Metafile {
  readonly inputs: Readonly<Record<string, unknown>>
  readonly outputs: Readonly<
    Record<string, { readonly bytes: number; readonly imports: ReadonlyArray<{ readonly path: string }> }>
  >
}

/** Bundles a program with everything that it imports. */
const bundle = (project: string, name: string, program: string, options: ReadonlyArray<string> = []) => {
  writeFileSync(join(project, `${name}.mjs`), program)
  const meta = join(project, `${name}.json`)
  const out = join(project, `${name}.bundle.mjs`)
  run(project, bin("esbuild"), [
    ...[`${name}.mjs`, "--bundle", "--platform=node", "--format=esm"],
    ...[`--metafile=${meta}`, `--outfile=${out}`],
    ...options
  ])
  const { inputs, outputs }: Metafile = JSON.parse(readFileSync(meta, "utf8"))
  const [output] = Object.values(outputs)
  return {
    out,
    bytes: output?.bytes ?? 0,
    modules: [...Object.keys(inputs), ...(output?.imports ?? []).map(({ path }) => path)]
  }
}

try {
  run(root, "npm", ["pack", "--pack-destination", work])
  const tarball = join(work, `${manifest.name}-${manifest.version}.tgz`)
  const { effect, ioredis } = manifest.peerDependencies
  const bare = makeProject("bare", tarball, { effect })
  const full = makeProject("full", tarball, { effect, ioredis, "@types/node": manifest.devDependencies["@types/node"] })
  const systemNode = run(bare, "node", ["--version"]).trim()
  const { url: REDIS_URL } = await Effect.runPromise(Scope.provide(startServer(), scope))

  check("has sound exports (publint)", () => void run(root, bin("publint"), [tarball, "--strict"]))
  check("resolves its types everywhere (attw)", () => void run(root, bin("attw"), [tarball, "--profile", "esm-only"]))

  for (const project of [bare, full]) {
    check(`limits in one process under Node ${systemNode}, ${project === bare ? "without" : "with"} ioredis`, () => {
      writeFileSync(join(project, "local.mjs"), localProgram)
      says(run(project, "node", ["local.mjs"]), "works")
    })
  }

  check(`limits over Redis under Node ${systemNode}`, () => {
    writeFileSync(join(full, "redis.mjs"), redisProgram)
    says(run(full, "node", ["redis.mjs"], { REDIS_URL }), "works")
  })

  check(`limits an HTTP client under Node ${systemNode}, without ioredis`, () => {
    writeFileSync(join(bare, "http.mjs"), httpProgram)
    says(run(bare, "node", ["http.mjs"]), "works")
  })

  for (const project of [bare, full]) {
    const where = `under Node ${systemNode}, ${project === bare ? "without" : "with"} ioredis`
    check(`limits promises in one process ${where}, and the process ends`, () => {
      writeFileSync(join(project, "promise.mjs"), promiseProgram())
      says(run(project, "node", ["promise.mjs"]), "works")
    })
  }

  check(`limits promises over Redis under Node ${systemNode}, and the process ends`, () => {
    writeFileSync(join(full, "promise-redis.mjs"), promiseProgram(overRedis))
    says(run(full, "node", ["promise-redis.mjs"], { REDIS_URL }), "works")
  })

  check("limits promises of programs that require it, under the Node of our tools", () => {
    writeFileSync(join(full, "promise.cjs"), requiringProgram())
    says(run(full, bin("node"), ["promise.cjs"]), "works")
    writeFileSync(join(full, "promise-redis.cjs"), requiringProgram(overRedis))
    says(run(full, bin("node"), ["promise-redis.cjs"], { REDIS_URL }), "works")
  })

  check("says to promises which package a Redis needs", () => {
    writeFileSync(join(bare, "promise-redis.mjs"), promiseProgram(overRedis))
    const output = run(bare, "node", ["promise-redis.mjs"], { REDIS_URL })
    assert(/^NotInstalled .*npm install ioredis/.test(output), output)
  })

  check("says which package its Redis part needs", () => {
    writeFileSync(
      join(bare, "missing.mjs"),
      `await import("steindamm/redis").catch((error) => console.log(/'ioredis'/.test(error.message)))`
    )
    says(run(bare, "node", ["missing.mjs"]), "true")
  })

  for (const project of [bare, full]) {
    check(`has a command under Node ${systemNode}, ${project === bare ? "without" : "with"} ioredis`, () =>
      says(run(project, "npx", ["--no", "--", "steindamm", "--version"]), `steindamm v${manifest.version}`)
    )
  }

  check(`shows its demo under Node ${systemNode}, without ioredis`, () => {
    const shown = run(bare, "npx", ["--no", "--", "steindamm", "demo", "--calls", "30", "--queries", "30"])
    assert(/answered +\d+ +30\n/.test(shown), shown)
  })

  check("says which package its command needs to reach Redis", () => {
    const needed = `${manifest.name}: Redis is reached through ioredis, which is not installed here: npm install ioredis`
    says(run(bare, "sh", ["-c", "npx --no -- steindamm inspect bucket 2>&1 || test $? = 1"]), needed)
  })

  check("looks into a limiter over Redis by its command", () => {
    const { limiters } = JSON.parse(
      run(full, "npx", ["--no", "--", "steindamm", "inspect", "bucket", "--json"], { REDIS_URL })
    )
    says(limiters[0].kind, "token-bucket")
  })

  check("can be required, every part of it, under the Node of our tools", () => {
    const parts = Object.keys(manifest.exports).map((part) => part.replace(".", manifest.name))
    const load = parts.map((part) => `Object.keys(require(${JSON.stringify(part)})).length > 0`).join(" && ")
    writeFileSync(join(full, "required.cjs"), `console.log(${load})`)
    says(run(full, bin("node"), ["required.cjs"]), "true")
  })

  check("bundles without ioredis and HTTP, and the bundle runs", () => {
    const { modules, out } = bundle(full, "bundled", localProgram)
    const unwanted = modules.filter((module) => /\bioredis\b|\beffect\b.*\/http\/Http/.test(module))
    assert(unwanted.length === 0, `the bundle holds ${unwanted.join(", ")}`)
    says(run(full, "node", [out]), "works")
  })

  check("bundles promises without ioredis, which is loaded from its package, and the bundle runs", () => {
    const { modules, out } = bundle(full, "promises", promiseProgram(overRedis), ["--external:ioredis"])
    assert(
      !modules.some((module) => module.includes("node_modules/ioredis/")),
      `the bundle holds ${modules.join(", ")}`
    )
    says(run(full, "node", [out], { REDIS_URL }), "works")
  })

  check("leaves nothing in a bundle that does not use it", () => {
    const { bytes } = bundle(
      full,
      "unused",
      `import "steindamm"\nimport "steindamm/http"\nimport "steindamm/promise"\nimport "steindamm/redis"\n`
    )
    assert(bytes === 0, `${bytes} bytes are left`)
  })

  for (const [moduleResolution, module] of [
    ["nodenext", "nodenext"],
    ["bundler", "esnext"]
  ] as const) {
    for (const exactOptionalPropertyTypes of [true, false]) {
      const optional = exactOptionalPropertyTypes ? "exact" : "loose"
      check(`type-checks with moduleResolution ${moduleResolution} and ${optional} optional properties`, () => {
        writeFileSync(join(full, "local.ts"), localProgram)
        writeFileSync(join(full, "redis.ts"), redisProgram)
        writeFileSync(join(full, "http.ts"), httpProgram)
        writeFileSync(join(full, "promise.ts"), promiseProgram())
        writeFileSync(join(full, "using.ts"), usingProgram)
        writeFileSync(join(full, "wrong.ts"), wrongProgram)
        writeFileSync(
          join(full, "tsconfig.json"),
          JSON.stringify({
            compilerOptions: {
              strict: true,
              noEmit: true,
              target: "es2022",
              // effect's declarations speak of JsonWebKey, which is part of the DOM's.
              lib: ["es2022", "dom"],
              types: ["node"],
              skipLibCheck: false,
              moduleResolution,
              module,
              exactOptionalPropertyTypes
            },
            include: ["*.ts"]
          })
        )
        run(full, bin("tsc"), ["-p", "."])
      })
    }
  }
} finally {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  rmSync(work, { recursive: true, force: true })
}

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
