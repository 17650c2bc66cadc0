/** sdr model as a command: its fields, its table, and what it refuses. */
import { describe, expect, test } from "vitest";
import { run } from "./sdr.ts";

const LINK = ["--link", "rate 100gbit delay 1ms loss 0.1%", "--size", "4MiB"];

describe("sdr model", () => {
  test("prints the fields of sdr emulate, and how it knows", async () => {
    const policies = ["--policy", "sr-rto(1)", "--policy", "ideal", "--policy", "ec-xor"];
    const { status, stdout, stderr } = await run("model", ...LINK, ...policies, "--json");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const { results, ...rest } = JSON.parse(stdout);
    const idealNs = (4 * 2 ** 20 * 8) / 100 + 2e6;
    expect(rest).toEqual({
      link: "rate 100gbit delay 1ms loss 0.1%",
      reverseLink: "rate 100gbit delay 1ms loss 0.1%",
      message: { bytes: 4 * 2 ** 20, chunks: 64, packets: 1024 },
      idealNs,
      boundNs: expect.closeTo((idealNs - 2e6) / 0.999 ** 16 + 2e6, 3),
    });
    expect(results.map(({ policy }: { policy: string }) => policy)).toEqual([
      "sr-rto(alpha=1)",
      "ideal",
      "ec-xor(32,8)",
    ]);
    for (const { completionNs, slowdown, caveat, exact, method, ...counts } of results) {
      expect(method).toBe("analytic");
      expect(caveat === null).toBe(exact);
      const { min, p50, p99, p999, max, mean } = completionNs;
      expect([min, p50, p99, p999, max]).toEqual([min, p50, p99, p999, max].sort((a, b) => a - b));
      expect(mean).toBeGreaterThanOrEqual(idealNs * (1 - 1e-12));
      expect(slowdown.mean).toBeCloseTo(mean / idealNs, 9);
      expect(counts.wireBytes).toBeCloseTo(4 * 2 ** 20 * (1 + counts.overhead), 3);
    }
    expect(results[1].slowdown).toEqual({ mean: 1, p50: 1, p99: 1, p999: 1 });
  });

  test("shows every policy, and why some rows are not exact", async () => {
    const { status, stdout, stderr } = await run("model", ...LINK);
    expect(status).toBe(0);
    for (const policy of [
      "ideal",
      "bound",
      "gbn",
      "sr-rto",
      "sr-nack",
      "ec-mds",
      "ec-xor",
      "hybrid",
    ])
      expect(stdout).toMatch(new RegExp(`^${policy}\\b.*(yes|no)$`, "m"));
    expect(stdout).toContain("gbn: Go-Back-N is approximated");
    expect(stderr).toContain("64 chunks of 1024 packets");
  });

  test("draws messages and collective operations, the same for any number of jobs", async () => {
    const drawn = async (...more: string[]) => {
      const policies = ["--policy", "sr-nack", "--policy", "ec-xor"];
      const { status, stdout } = await run("model", ...LINK, ...policies, "--json", ...more);
      expect(status).toBe(0);
      return JSON.parse(stdout);
    };
    const one = await drawn("--samples", "600", "--seed", "4", "--jobs", "1");
    expect(await drawn("--samples", "600", "--seed", "4", "--jobs", "2")).toEqual(one);
    expect(await drawn("--samples", "600", "--seed", "5")).not.toEqual(one);
    expect(one.seed).toBe(4);
    for (const { caveat, exact, method, trials, completionNs } of one.results) {
      expect({ caveat, exact, method, trials }).toEqual({
        caveat: "600 samples",
        exact: false,
        method: "sampled",
        trials: 600,
      });
      expect(completionNs.ci95).toBeGreaterThan(0);
    }
    const ring = await drawn("--collective", "ring", "--datacenters", "3");
    expect(ring.collective).toEqual({ kind: "ring", datacenters: 3 });
    const stepNs = (Math.ceil((4 * 2 ** 20) / 3) * 8) / 100 + 2e6;
    expect(ring.idealNs).toBeCloseTo(4 * stepNs, 3);
    for (const { completionNs, trials } of ring.results) {
      expect(trials).toBe(1000);
      expect(completionNs.min).toBeGreaterThanOrEqual(ring.idealNs * (1 - 1e-9));
    }
  });

  test.each([
    ["a policy that is none", ["--policy", "tcp"], "tcp"],
    ["a policy twice", ["--policy", "gbn", "--policy", "gbn"], "twice"],
    ["a link that loses everything", ["--link", "rate 1gbit loss 100%"], "every packet"],
    ["no samples", ["--samples", "0"], "samples"],
    ["a collective that is none", ["--collective", "star"], "recursive-doubling"],
    [
      "doubling over no power of two",
      ["--collective", "recursive-doubling", "--datacenters", "6"],
      "power of two",
    ],
    ["chunks of no whole packets", ["--chunk", "5000"], "chunkBytes 5000"],
    ["a size that is none", ["--size", "-1"], "size"],
  ])("refuses %s", async (_what, args, shown) => {
    const { status, stdout, stderr } = await run("model", ...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain(shown);
  });
});
