/** sdr plan as a command. */
import { afterEach, describe, expect, test } from "vitest";
import { cleanUp, run } from "./sdr.ts";

afterEach(cleanUp);

const LINK = ["--link", "rate 400gbit delay 12.5ms loss 0.1%"];

interface Result {
  readonly scheme: string;
  readonly completionNs: { readonly mean: number; readonly p99: number; readonly p999: number };
  readonly overBound: { readonly p999: number };
  readonly overhead: number;
  readonly isWithinOverhead: boolean;
}

async function planned(...args: string[]) {
  const { status, stdout, stderr } = await run("plan", "--json", ...args);
  return { status, stderr, ...JSON.parse(stdout) };
}

describe("sdr plan", () => {
  test("names the best scheme with its parameters, the others behind it, and why", async () => {
    const made = await planned(...LINK, "--size", "128MiB", "--chunk", "64KiB");
    expect({ status: made.status, stderr: made.stderr }).toEqual({ status: 0, stderr: "" });
    expect(made.message).toEqual({
      bytes: 2 ** 27,
      packetBytes: 4096,
      chunkBytes: 65_536,
      chunks: 2048,
    });
    expect(made.chunkLoss).toBeCloseTo(1 - 0.999 ** 16, 9);
    expect(made.idealNs).toBeCloseTo((2 ** 27 * 8) / 400 + 25e6, 0);
    expect(made.objective).toBe("p99.9");
    expect(made.overheadMax).toBeNull();
    expect(made.best.scheme).toMatch(/^hybrid/);
    expect(made.best.parameters).toEqual({
      k: expect.any(Number),
      rows: expect.any(Number),
      parity: expect.any(Number),
      interleave: expect.any(Number),
    });
    expect(made.best.overBound.p999).toBeLessThan(0.1);
    expect(made.reason).toContain(made.best.scheme);
    const others: Result[] = made.runnersUp;
    expect(others.map(({ scheme }) => scheme.replace(/\(.*/, "")).sort()).toEqual([
      "ec-mds",
      "ec-xor",
      "sr-nack",
      "sr-rto",
    ]);
    for (const { completionNs } of others) {
      expect(completionNs.p999).toBeGreaterThan(made.best.completionNs.p999 * 0.99);
    }
  });

  test("looks for the chunk size too, which matters where packets are lost often", async () => {
    const link = ["--link", "rate 400gbit delay 12.5ms loss 0.6%", "--size", "1GiB"];
    const usual = await planned(...link, "--chunk", "64KiB");
    const best = await planned(...link);
    expect(best.message.chunkBytes).toBeLessThan(65_536);
    expect(best.best.completionNs.p999).toBeLessThan(usual.best.completionNs.p999);
  });

  test("keeps to an overhead, and fails saying which scheme is nearest when none does", async () => {
    const within = await planned(...LINK, "--overhead-max", "10%", "--objective", "mean");
    expect(within.status).toBe(0);
    expect(within.best.overhead).toBeLessThanOrEqual(0.1);
    expect(within.runnersUp.find(({ scheme }: Result) => scheme === "ec-xor(32,8)")).toMatchObject({
      isWithinOverhead: false,
    });
    const beyond = await planned(...LINK, "--overhead-max", "1e-6", "--chunk", "64KiB");
    expect(beyond.status).toBe(1);
    expect(beyond.isWithinOverhead).toBe(false);
    expect(beyond.reason).toMatch(/^No scheme keeps within .* nearest with 1\.6 %\.$/);
    expect(beyond.stderr).toMatch(/^sdr: UNSUPPORTED: No scheme keeps within/);
  });

  test("prints a table and the reason for people", async () => {
    const { status, stdout, stderr } = await run("plan", ...LINK, "--objective", "p99");
    expect(status).toBe(0);
    expect(stderr).toMatch(/128 MiB in chunks of .* over 400 Gbit\/s/);
    expect(stderr).toMatch(/lossless 27\.68 ms, bound/);
    expect(stdout).toMatch(/scheme +completion/);
    expect(stdout.split("\n").filter((line) => /^(hybrid|ec-|sr-)/.test(line)).length).toBe(6);
    expect(stdout).toMatch(/has the least p99, /);
  });

  test.each([
    [["--link", "rate 0 delay 1ms"], /has no rate/],
    [["--link", "delay 1ms"], /has no rate/],
    [["--link", "rate 1gbit delay 1ms loss 100%"], /loses every packet/],
    [["--objective", "p50"], /objective "p50" is not known/],
    [["--overhead-max", "much"], /overhead-max "much"/],
    [["--overhead-max", "-5%"], /overhead-max "-5%"/],
    [["--size", "0"], /size "0"/],
    [["--chunk", "1000"], /chunkBytes 1000/],
    [["--frobnicate"], /unknown option/],
  ])("refuses %j", async (args, message) => {
    const { status, stdout, stderr } = await run("plan", ...args);
    expect(status).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^sdr: INVALID_ARGUMENT: .*\n$/);
    expect(stderr).toMatch(message);
  });
});
