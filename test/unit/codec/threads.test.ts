/** Who does the work, and what becomes of it when JavaScript ends. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { ErasureCode } from "../../../src/codec/index.ts";

const PROGRAM = fileURLToPath(new URL("./threads-program.mjs", import.meta.url));
const DEADLINE_MS = 100_000;

async function run(how: string, environment: NodeJS.ProcessEnv = {}) {
  const options = { timeout: DEADLINE_MS, env: { ...process.env, ...environment } };
  try {
    return { code: 0, ...(await promisify(execFile)(process.execPath, [PROGRAM, how], options)) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}

describe("the thread of JavaScript", () => {
  const code = new ErasureCode({ kind: "mds", k: 8, m: 4 });
  const random = new Random(1);

  it("encodes nothing itself: parity comes while it does nothing but look", async () => {
    const data = Array.from({ length: 8 }, () => random.fill(new Uint8Array(5000)).fill(0, 4999));
    data[3]![4999] = 7;
    const parity = Array.from({ length: 4 }, () => new Uint8Array(5000));
    const done = code.encode(data, parity);
    const deadline = performance.now() + DEADLINE_MS;
    while (parity.some((chunk) => chunk[4999] === 0)) {
      if (performance.now() > deadline) throw new Error("nobody encodes");
    }
    await done;
  });

  it("goes on while others encode", async () => {
    const data = Array.from({ length: 8 }, () => random.fill(new Uint8Array(1 << 20)));
    let turns = 0;
    let isDone = false;
    const count = () => {
      turns++;
      if (!isDone) setImmediate(count);
    };
    setImmediate(count);
    const parities = Array.from({ length: 16 }, () =>
      Array.from({ length: 4 }, () => new Uint8Array(1 << 20)),
    );
    await Promise.all(parities.map((parity) => code.encode(data, parity)));
    isDone = true;
    expect(turns).toBeGreaterThan(0);
    for (const [i, chunk] of parities.at(-1)!.entries())
      expect(Buffer.compare(chunk, parities[0]![i]!)).toBe(0);
  });
});

describe("many calls at once", () => {
  it.each(["1", "2", "7"])("from four threads of JavaScript, on %s", async (threads) => {
    const { code, stdout, stderr } = await run("many", { SDR_CODEC_THREADS: threads });
    expect({ code, stdout, stderr }).toEqual({
      ...{ code: 0, stderr: "" },
      stdout: "150 150 150 150\n",
    });
  });

  it("leave a process that ends by itself", async () => {
    expect(await run("ends")).toEqual({ code: 0, stdout: "150\n", stderr: "" });
  });

  it("keep the process until they are done", async () => {
    expect(await run("waits")).toEqual({ code: 0, stdout: "encoded\n", stderr: "" });
  });
});

describe("an environment that ends while calls run and wait", () => {
  it("takes its own with it, again and again, and nobody else's", async () => {
    expect(await run("terminate")).toEqual({ code: 0, stdout: "terminated 150\n", stderr: "" });
  });

  it("ends with the status given to process.exit", async () => {
    expect(await run("exit")).toEqual({ code: 3, stdout: "", stderr: "" });
  });

  it("leaves an exception of the program to the program", async () => {
    expect(await run("throw")).toEqual({ code: 4, stdout: "", stderr: "" });
  });
});

describe("SDR_CODEC_THREADS", () => {
  it("sets the number of threads", async () => {
    const { stdout } = await run("info", { SDR_CODEC_THREADS: "5" });
    expect(JSON.parse(stdout)).toMatchObject({ threads: 5 });
  });

  it("is said to be wrong once, and not followed", async () => {
    const { code, stdout, stderr } = await run("info", { SDR_CODEC_THREADS: "many" });
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/^sdr: SDR_CODEC_THREADS=many is not [^\n]*\n$/),
    });
    expect(JSON.parse(stdout).threads).toBeGreaterThan(0);
  });
});
