import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { mean } from "../../../src/base/statistics.ts";
import {
  COLLECTIVES,
  type CollectiveKind,
  type CollectiveOptions,
  makespanNs,
  sampleCollective,
} from "../../../src/model/collectives.ts";
import { predict } from "../../../src/model/predict.ts";
import { parseScheme } from "../../../src/model/scheme.ts";
import type { Setting } from "../../../src/model/types.ts";

const MIB = 2 ** 20;

/** The paper's path with this chunk loss. */
function path(chunkLost: number, rttNs = 25e6): Setting {
  const probability = -Math.expm1(Math.log1p(-chunkLost) / 16);
  const sizes = { bytes: 0, packetBytes: 4096, chunkBytes: 65_536 };
  return {
    ...sizes,
    rateBps: 400e9,
    packetOverheadBytes: 0,
    rttNs,
    loss: { probability },
    controlLoss: 0,
  };
}

function options(
  kind: CollectiveKind,
  datacenters: number,
  chunkLost: number,
  more: Partial<CollectiveOptions> = {},
): CollectiveOptions {
  return { kind, datacenters, bytes: 128 * MIB, link: () => path(chunkLost), ...more };
}

describe("rounds of equal times", () => {
  const run = (kind: CollectiveKind, n: number, x: number, c = 0) =>
    makespanNs(options(kind, n, 0, { computeNs: c }), () => x);

  test.each([2, 3, 4, 7, 8])("ring of %d: 2N - 2 rounds of message and computing", (n) => {
    expect(run("ring", n, 10, 3)).toBe((2 * n - 2) * 13);
  });

  test.each([2, 4, 8, 16])("recursive doubling over %d: log2 N rounds", (n) => {
    expect(run("recursive-doubling", n, 10, 3)).toBe(Math.log2(n) * 13);
  });

  test.each([2, 3, 4, 5, 8, 13])("tree of %d: up and down, ceil(log2 N) rounds each", (n) => {
    const rounds = Math.ceil(Math.log2(n));
    expect(run("tree", n, 10, 3)).toBe(rounds * 13 + rounds * 10);
  });
});

describe("rounds of any times", () => {
  test("a ring waits for the longest path through it", () => {
    const n = 4;
    const rounds = 2 * n - 2;
    const random = new Random(3, "steps");
    const drawn: number[] = [];
    const makespan = makespanNs(options("ring", n, 0), () => {
      drawn.push(random.int(1, 100));
      return drawn[drawn.length - 1]!;
    });
    // Every path ends somewhere, and comes in each round from itself or from the one before it.
    let longest = 0;
    for (let ends = 0; ends < n; ends++)
      for (let turns = 0; turns < 2 ** rounds; turns++) {
        let at = ends;
        let sum = 0;
        for (let round = rounds - 1; round >= 0; round--) {
          sum += drawn[round * n + at]!;
          if ((turns >> round) & 1) at = (at + n - 1) % n;
        }
        longest = Math.max(longest, sum);
      }
    expect(makespan).toBe(longest);
  });

  test("messages go over the pairs' own links, in steps of their size", () => {
    const seen = (kind: CollectiveKind, n: number) => {
      const steps: string[] = [];
      makespanNs(options(kind, n, 0, { bytes: 1200 }), (from, to, bytes) => {
        steps.push(`${from}>${to}:${bytes}`);
        return 1;
      });
      return steps;
    };
    expect(new Set(seen("ring", 3))).toEqual(new Set(["0>1:400", "1>2:400", "2>0:400"]));
    expect(seen("tree", 4)).toEqual(
      ["1>0", "3>2", "2>0", "0>2", "0>1", "2>3"].map((pair) => `${pair}:1200`),
    );
    expect(seen("recursive-doubling", 4).slice(0, 4)).toEqual(
      ["1>0", "0>1", "3>2", "2>3"].map((pair) => `${pair}:1200`),
    );
  });

  test("the slowest link of a ring sets its pace", () => {
    const link = (from: number) => path(0, from === 1 ? 100e6 : 1e6);
    const all = options("ring", 4, 0, { link });
    const result = sampleCollective({ kind: "ideal" }, all, new Random(1), 3);
    expect(result.slowdown).toBe(1);
    const slowNs = 100e6 + (32 * MIB * 8e9) / 400e9;
    expect(result.idealNs).toBeGreaterThan(slowNs);
    expect(result.idealNs).toBeLessThanOrEqual(6 * slowNs);
  });
});

describe("sampled", () => {
  test("two datacenters: two rounds of two messages, the longer of which counts", () => {
    const scheme = parseScheme("sr-rto");
    const result = sampleCollective(scheme, options("ring", 2, 1e-3), new Random(5), 4000);
    const message = predict(scheme, { ...path(1e-3), bytes: 64 * MIB });
    // E max of two is the integral of 1 - F^2; both rounds are T(i, r) of the same maximum at least.
    let longerNs = 0;
    const stepNs = 10_000;
    for (let ns = 0; ns < 400e6; ns += stepNs) longerNs += (1 - message.cdf(ns) ** 2) * stepNs;
    expect(mean(result.makespanNs) / (2 * longerNs)).toBeGreaterThan(0.98);
    expect(mean(result.makespanNs) / (2 * longerNs)).toBeLessThan(1.02);
    expect(mean(result.makespanNs)).toBeGreaterThan(2 * message.meanNs);
  });

  test.each(COLLECTIVES)("%s takes as long as without loss where nothing is lost", (kind) => {
    const result = sampleCollective(parseScheme("sr-nack"), options(kind, 4, 0), new Random(1), 5);
    expect(new Set(result.makespanNs)).toEqual(new Set([result.idealNs]));
  });

  test("the same seed gives the same times", () => {
    const run = (seed: number) =>
      sampleCollective(parseScheme("ec-mds"), options("tree", 5, 0.1), new Random(seed), 20);
    expect(run(2).makespanNs).toEqual(run(2).makespanNs);
    expect(run(2).makespanNs).not.toEqual(run(3).makespanNs);
  });

  test("a ring's p99.9 with erasure coding is 3 to more than 6 times better than with timeouts", () => {
    const gain = (n: number, loss: number) => {
      const tail = (text: string) =>
        sampleCollective(parseScheme(text), options("ring", n, loss), new Random(9), 2000).summary
          .p999;
      return tail("sr-rto") / tail("ec-mds");
    };
    for (const loss of [1e-3, 1e-2, 3e-2])
      for (const n of [2, 4, 8]) {
        expect(gain(n, loss), `${n} ${loss}`).toBeGreaterThan(3);
        expect(gain(n, loss), `${n} ${loss}`).toBeLessThan(8);
      }
    expect(gain(2, 3e-2)).toBeGreaterThan(6);
  });
});

test("what cannot be is refused", () => {
  const one = () => 1;
  expect(() => makespanNs(options("ring", 1, 0), one)).toThrow(/1 datacenters/);
  expect(() => makespanNs(options("recursive-doubling", 6, 0), one)).toThrow(/power of two/);
  expect(() => makespanNs(options("tree", 4, 0, { bytes: -1 }), one)).toThrow(/-1 B/);
  expect(() => makespanNs(options("tree", 4, 0, { computeNs: NaN }), one)).toThrow(/compute/);
});
