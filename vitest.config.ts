import { defineConfig } from "vitest/config"

export default defineConfig({
  resolve: { conditions: ["steindamm-source"] },
  ssr: { resolve: { conditions: ["steindamm-source"] } },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    testTimeout: 30_000,
    // Two cores, on which timing tests run as well.
    maxConcurrency: 2
  }
})
