/** What runs against the two guests that test/vm/run.mjs has booted: one file after another, as there is one pair. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/vm/*.vm.ts"],
    pool: "forks",
    fileParallelism: false,
    reporters: ["verbose"],
    // They only bound a hang.
    testTimeout: 300_000,
    hookTimeout: 150_000,
    teardownTimeout: 5_000,
  },
});
