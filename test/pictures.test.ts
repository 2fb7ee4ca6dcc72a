import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, it } from "vitest"

const script = fileURLToPath(new URL("../scripts/pictures.ts", import.meta.url))

describe("the pictures of the guides", () => {
  it("show what the limiters do", async () => {
    await promisify(execFile)(process.execPath, ["--conditions", "steindamm-source", script, "--check"])
  })
})
