/**
 * The native programs of test/native, each as one test here: built without Node, listed by ctest,
 * run as they are. `npm run test:asan` and `test:tsan` run the same programs under sanitizers.
 */
import { execFile } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const BUILD_FOLDER = "build-native";
/** As the TIMEOUT that CMakeLists.txt gives ctest, in ms. */
const PROGRAM_MS_MAX = 900_000;
const OUTPUT_BYTES_MAX = 64 << 20;

const run = (file: string, args: readonly string[]) =>
  promisify(execFile)(file, args, { cwd: root, maxBuffer: OUTPUT_BYTES_MAX });

interface Listing {
  readonly tests: readonly { readonly name: string; readonly command?: readonly string[] }[];
}

// `npm test` has built these already; then this takes a moment.
await run(process.execPath, ["cmake/build.mjs", "native-test-programs"]);
const { stdout } = await run("ctest", ["--test-dir", BUILD_FOLDER, "--show-only=json-v1"]);
// Others, which count no tests, run under ctest alone.
const programs = (JSON.parse(stdout) as Listing).tests.filter(({ name }) => name.endsWith("_test"));

describe("native programs", () => {
  test("ctest lists them", () => {
    expect(programs.length).toBeGreaterThan(0);
  });

  test.each(programs.map(({ name, command = [] }) => [name, command] as const))(
    "%s",
    async (name, [file = "", ...args]) => {
      const done = await run(file, args).catch((error: unknown) => error);
      const { stdout: out = "", stderr: err = "" } = done as { stdout?: string; stderr?: string };
      if (done instanceof Error) throw new Error(`${name}: ${done.message}\n${out}${err}`);
      const count = Number(/^(\d+) tests passed$/m.exec(out)?.[1]);
      expect(count, `what ${name} counted:\n${out}`).toBeGreaterThan(0);
      process.stdout.write(`${name}: ${count} native tests passed\n`);
    },
    PROGRAM_MS_MAX,
  );
});
