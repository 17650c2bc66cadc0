/** Erasure codes from formulas: blocks against counting every pattern of losses, messages against sums over blocks. */
import { describe, expect, test } from "vitest";
import { BlockLoss } from "../../../src/model/block-loss.ts";
import { idealNs } from "../../../src/model/bounds.ts";
import { predict } from "../../../src/model/predict.ts";
import type { Scheme, Setting } from "../../../src/model/types.ts";

const RTT = 25e6;
const CHUNK_NS = 65536 * 0.02;

function setting(chunks: number, loss: number, more: Partial<Setting> = {}): Setting {
  return {
    bytes: chunks * 65536,
    packetBytes: 65536,
    chunkBytes: 65536,
    rateBps: 400e9,
    packetOverheadBytes: 0,
    rttNs: RTT,
    loss: { probability: loss },
    controlLoss: 0,
    ...more,
  };
}

const coding = (kind: "ec-mds" | "ec-xor", k = 32, m = 8, beta = 1 / 4): Scheme => ({
  kind,
  k,
  m,
  beta,
});

/** Whether a block can be made, from the bits of what is lost: data first, then parity. */
function isWhole(kind: "ec-mds" | "ec-xor", data: number, m: number, lost: number): boolean {
  const bit = (i: number) => (lost >>> i) & 1;
  const count = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => bit(from + i)).reduce((a, b) => a + b, 0);
  if (kind === "ec-mds") return count(0, data) <= m - count(data, data + m);
  for (let group = 0; group < Math.min(m, data); group++) {
    let missing = bit(data + group);
    for (let i = group; i < data; i += m) missing += bit(i);
    const dataMissing = missing - bit(data + group);
    if (dataMissing > 1 || (dataMissing === 1 && bit(data + group) === 1)) return false;
  }
  return true;
}

describe.each([
  ["ec-mds", 6, 3],
  ["ec-mds", 1, 4],
  ["ec-mds", 9, 1],
  ["ec-xor", 6, 3],
  ["ec-xor", 7, 3],
  ["ec-xor", 2, 4],
] as const)("a block of %s, %i data and %i parity chunks", (kind, data, m) => {
  test.each([1e-3, 0.1, 0.6])("at a loss of %d: its failure is that of all patterns", (loss) => {
    const parity = kind === "ec-mds" ? m : Math.min(m, data);
    let fails = 0;
    for (let lost = 0; lost < 2 ** (data + parity); lost++) {
      if (isWhole(kind, data, kind === "ec-mds" ? m : parity, lost)) continue;
      let chance = 1;
      for (let i = 0; i < data + parity; i++) chance *= (lost >>> i) & 1 ? loss : 1 - loss;
      fails += chance;
    }
    const { logSuccess, missing } = new BlockLoss(setting(data, loss)).failure(
      { kind, m, data },
      1,
      parity,
    );
    expect(Math.abs(-Math.expm1(logSuccess) / fails - 1)).toBeLessThan(1e-9);
    expect(missing).toBeGreaterThanOrEqual(1);
    expect(missing).toBeLessThanOrEqual(data);
  });
});

describe("paper section 5", () => {
  test("P_ok of (32,8) and the fallback's probability of L blocks", () => {
    for (const [kind, blockOk] of [
      ["ec-xor", (p: number) => ((1 - p) ** 5 + 5 * p * (1 - p) ** 4) ** 8],
      [
        "ec-mds",
        (p: number) => {
          let sum = 0;
          let ways = 1;
          for (let i = 0; i <= 8; i++) {
            sum += ways * p ** i * (1 - p) ** (40 - i);
            ways *= (40 - i) / (i + 1);
          }
          return sum;
        },
      ],
    ] as const)
      for (const loss of [0.02, 0.1, 0.2]) {
        const { fallbackProbability } = predict(coding(kind), setting(320, loss));
        expect(fallbackProbability).toBeCloseTo(1 - blockOk(loss) ** 10, 9);
      }
  });

  test("XOR falls back from about 1e-3, MDS holds beyond 1e-2", () => {
    const fallback = (kind: "ec-mds" | "ec-xor", loss: number) =>
      predict(coding(kind), setting(2048, loss)).fallbackProbability;
    expect(fallback("ec-xor", 1e-4)).toBeLessThan(1e-3);
    expect(fallback("ec-xor", 1e-3)).toBeGreaterThan(1e-3);
    expect(fallback("ec-xor", 1e-2)).toBeGreaterThan(0.3);
    expect(fallback("ec-mds", 1e-2)).toBeLessThan(1e-6);
  });

  test("tiny chances keep their digits: C(40,9) P^9 a block", () => {
    const { fallbackProbability } = predict(coding("ec-mds"), setting(32, 1e-12));
    expect(Math.abs(fallbackProbability / (273438880 * 1e-108) - 1)).toBeLessThan(1e-9);
  });

  test("its bound is available, and is one", () => {
    for (const loss of [1e-3, 1e-2, 0.1]) {
      const path = setting(2048, loss);
      const bound = predict(coding("ec-xor"), path, { paper: true });
      expect(bound.caveat).toContain("paper");
      expect(bound.quantileNs(0.01)).toBeGreaterThan(idealNs(path));
    }
  });
});

describe("messages", () => {
  test.each(["ec-mds", "ec-xor"] as const)("%s without loss waits for no parity", (kind) => {
    for (const [chunks, parityBefore] of [
      [1, 0],
      [32, 0],
      [64, 0],
      [100, 16],
      [3200, 8 * 98],
    ] as const) {
      const prediction = predict(coding(kind), setting(chunks, 0));
      const ns = (chunks + parityBefore) * CHUNK_NS + RTT;
      expect(Math.abs(prediction.meanNs / ns - 1)).toBeLessThan(1e-12);
      expect(prediction.exact).toBe(true);
      expect(prediction.quantileNs(0.999)).toBeCloseTo(ns, 3);
    }
  });

  test("one loss of one block costs as many parity chunks as it takes", () => {
    const prediction = predict(coding("ec-mds"), setting(32, 1e-4));
    const wholeNs = 32 * CHUNK_NS + RTT;
    expect(prediction.cdf(wholeNs)).toBeCloseTo((1 - 1e-4) ** 32, 12);
    const one = (1 - 1e-4) ** 33 + 33 * 1e-4 * (1 - 1e-4) ** 32;
    expect(prediction.cdf(wholeNs + CHUNK_NS)).toBeCloseTo(one, 12);
  });

  test("a fallback costs an RTT and beta more, and the repairs' injection", () => {
    const path = setting(32, 0.05);
    const prediction = predict(coding("ec-xor", 32, 8, 1), path);
    const cleanNs = 40 * CHUNK_NS + RTT;
    const { fallbackProbability, quantileNs, cdf } = prediction;
    expect(cdf(cleanNs + 1)).toBeCloseTo(1 - fallbackProbability, 9);
    const repairedNs = quantileNs(1 - fallbackProbability * 0.9);
    expect(repairedNs).toBeGreaterThan(cleanNs + 2 * RTT);
    expect(repairedNs).toBeLessThan(cleanNs + 2 * RTT + 8 * CHUNK_NS);
  });

  test.each(["ec-mds", "ec-xor"] as const)(
    "%s: F rises from 0 to 1, quantiles invert it",
    (kind) => {
      for (const chunks of [1, 3, 33, 128, 2048, 131072])
        for (const loss of [1e-12, 1e-4, 1e-2, 0.1, 0.3]) {
          const path = setting(chunks, loss);
          const { cdf, quantileNs, meanNs } = predict(coding(kind), path);
          expect(cdf(idealNs(path) * (1 - 1e-9))).toBe(0);
          expect(cdf(1e13)).toBeGreaterThan(1 - 1e-9);
          let before = 0;
          for (let step = 0; step < 200; step++) {
            const now = cdf(idealNs(path) + (step / 20) * RTT);
            expect(now).toBeGreaterThanOrEqual(before);
            before = now;
          }
          for (const q of [0.001, 0.5, 0.99, 0.9999]) {
            const ns = quantileNs(q);
            expect(cdf(ns)).toBeGreaterThanOrEqual(q * (1 - 1e-12));
            expect(cdf(ns * (1 - 1e-9))).toBeLessThan(q + 1e-12);
          }
          expect(meanNs).toBeGreaterThanOrEqual(idealNs(path) * (1 - 1e-12));
        }
    },
  );

  test("more loss takes no less time, and sends no less", () => {
    const losses = [0, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.05, 0.1];
    for (const kind of ["ec-mds", "ec-xor"] as const)
      for (const chunks of [1, 100, 2048]) {
        const rows = losses.map((loss) => predict(coding(kind), setting(chunks, loss)));
        for (let i = 1; i < rows.length; i++) {
          const [less, more] = [rows[i - 1]!, rows[i]!];
          expect(more.meanNs).toBeGreaterThanOrEqual(less.meanNs * (1 - 1e-9));
          expect(more.wireOverhead).toBeGreaterThanOrEqual(less.wireOverhead);
          expect(more.fallbackProbability).toBeGreaterThanOrEqual(less.fallbackProbability);
        }
      }
  });

  test("2 TiB is as quick as one block, and an RTT next to nothing does not make it longer", () => {
    const path = setting(2 ** 25, 1e-2);
    expect(predict(coding("ec-mds"), path).meanNs).toBeGreaterThan(idealNs(path) * 1.24);
    const near = { ...path, rttNs: 1000 };
    expect(predict(coding("ec-xor"), near).meanNs).toBeGreaterThan(idealNs(near) * 1.24);
  });

  test("losses in runs spare a wide code less than as many alone", () => {
    const alone = setting(2048, 5e-3, { packetBytes: 4096 });
    const runs = { ...alone, loss: { probability: 5e-3, burstPackets: 64 } };
    const [few, many] = [alone, runs].map((path) => predict(coding("ec-mds"), path));
    expect(many!.caveat).toContain("runs");
    expect(few!.fallbackProbability).not.toBeCloseTo(many!.fallbackProbability, 3);
  });
});
