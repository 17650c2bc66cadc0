import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Processes, not threads: a crash in native code ends one test file, not the run.
    pool: "forks",
    maxWorkers: "100%",
    // Generous: they only bound a hang. No test measures time.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
  },
});
