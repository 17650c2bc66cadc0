import { describe, expect, test } from "vitest";
import { SdrError } from "../../../src/base/errors.ts";
import { EstimateBasis, estimate } from "../../../src/model/estimate.ts";
import { objectiveText, reasonFor } from "../../../src/model/plan-text.ts";
import { PLAN_SCHEMES, plan, planShape, type Question } from "../../../src/model/planner.ts";
import { predict } from "../../../src/model/predict.ts";
import type { Scheme, Setting } from "../../../src/model/types.ts";

const CHUNK_BYTES = 65_536;
/** 128 KiB to 8 GiB. */
const SIZES = [2, 16, 128, 2048, 16_384, 131_072];
const LOSSES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];

/** 400 Gbit/s over 25 ms; `loss` is that of chunks. */
function setting(chunks: number, loss: number, burstPackets?: number): Setting {
  const probability = -Math.expm1(Math.log1p(-loss) / 16);
  return {
    bytes: chunks * CHUNK_BYTES,
    packetBytes: 4096,
    chunkBytes: CHUNK_BYTES,
    rateBps: 400e9,
    packetOverheadBytes: 0,
    rttNs: 25e6,
    loss: burstPackets === undefined ? { probability } : { probability, burstPackets },
    controlLoss: 0,
  };
}

const SCHEMES: Scheme[] = [
  { kind: "sr-rto", alpha: 2 },
  { kind: "sr-rto", alpha: 0.5 },
  { kind: "sr-nack", alpha: 2, reorder: 1 / 64 },
  { kind: "ec-mds", k: 32, m: 8, beta: 1 / 4 },
  { kind: "ec-mds", k: 240, m: 12, beta: 1 / 4 },
  { kind: "ec-mds", k: 128, m: 4, beta: 1 / 4 },
  { kind: "ec-xor", k: 32, m: 8, beta: 1 / 4 },
];

describe("estimates", () => {
  test.each(SCHEMES)("of $kind are near the predictions without bursts", (scheme) => {
    for (const chunks of SIZES) {
      for (const loss of LOSSES) {
        const where = `${chunks} chunks, loss ${loss}`;
        const quick = estimate(scheme, new EstimateBasis(setting(chunks, loss)));
        const exact = predict(scheme, setting(chunks, loss));
        expect(quick.meanNs / exact.meanNs, where).toBeGreaterThan(0.97);
        expect(quick.meanNs / exact.meanNs, where).toBeLessThan(1.03);
        expect(Math.abs(quick.wireOverhead - exact.wireOverhead), where).toBeLessThan(0.04);
        for (const q of [0.99, 0.999]) {
          const ratio = quick.quantileNs(q) / exact.quantileNs(q);
          expect(ratio, `${where}, ${q}`).toBeGreaterThan(0.93);
          expect(ratio, `${where}, ${q}`).toBeLessThan(1.07);
        }
      }
    }
  });

  test.each(SCHEMES)("of $kind are rough and never rosy with bursts", (scheme) => {
    for (const chunks of SIZES) {
      for (const loss of LOSSES.slice(0, 5)) {
        const where = `${chunks} chunks, loss ${loss}`;
        const quick = estimate(scheme, new EstimateBasis(setting(chunks, loss, 16)));
        const exact = predict(scheme, setting(chunks, loss, 16));
        expect(quick.meanNs / exact.meanNs, where).toBeGreaterThan(0.97);
        expect(quick.meanNs / exact.meanNs, where).toBeLessThan(1.15);
      }
    }
  });
});

describe("a plan", () => {
  test("is within a few per cent of the bound, from 128 KiB to 8 GiB", () => {
    for (const chunks of SIZES) {
      for (const loss of LOSSES) {
        const at = { setting: setting(chunks, loss) };
        const mean = plan({ ...at, objective: "mean" });
        const tail = plan({ ...at, objective: 0.999 });
        const isHeavy = loss > 0.05;
        expect(mean.best.overBound).toBeLessThan(isHeavy ? 0.06 : 0.03);
        expect(tail.best.overBound).toBeLessThan(isHeavy ? 0.15 : 0.1);
      }
    }
  });

  test("names what predict() finds best among its candidates, or as good", () => {
    for (const chunks of SIZES) {
      for (const loss of LOSSES) {
        const message = setting(chunks, loss);
        const { best, runnersUp } = plan({ setting: message, objective: 0.999 });
        const exactNs = (scheme: Scheme) => predict(scheme, message).quantileNs(0.999);
        const others = runnersUp.map(({ scheme }) => exactNs(scheme));
        expect(exactNs(best.scheme) / Math.min(...others)).toBeLessThan(1.02);
      }
    }
  });

  test("lists every scheme asked for once, best first, and no other", () => {
    const question = { setting: setting(2048, 1e-2), objective: 0.999 } as const;
    const { best, runnersUp } = plan(question);
    const entries = [best, ...runnersUp];
    expect(entries.map(({ scheme }) => scheme.kind).sort()).toEqual([...PLAN_SCHEMES].sort());
    for (const [index, entry] of entries.slice(1).entries()) {
      expect(entry.valueNs).toBeGreaterThan(entries[index]!.valueNs * 0.998);
    }
    const two = plan({ ...question, schemes: ["ec-xor", "sr-nack"] });
    expect(two.runnersUp.length).toBe(1);
    expect(two.best.scheme.kind).toMatch(/ec-xor|sr-nack/);
    expect(() => plan({ ...question, schemes: [] })).toThrow(SdrError);
  });

  test("prefers the least overhead among what is as fast: no parity where hardly anything is lost", () => {
    for (const chunks of [2, 128]) {
      const { best } = plan({ setting: setting(chunks, 1e-7), objective: 0.999 });
      expect(best.estimate.wireOverhead).toBeLessThan(1e-6);
    }
    const { best } = plan({ setting: setting(2048, 0), objective: "mean" });
    expect(best.estimate.wireOverhead).toBe(0);
    expect(best.overBound).toBeCloseTo(0, 9);
  });

  test("keeps to an overhead, with the parity that it allows", () => {
    for (const overheadMax of [0.03, 0.05, 0.15]) {
      const question: Question = { setting: setting(2048, 1e-2), objective: "mean", overheadMax };
      const made = plan(question);
      expect(made.isWithinOverhead).toBe(true);
      expect(made.best.estimate.wireOverhead).toBeLessThanOrEqual(overheadMax);
      for (const entry of made.runnersUp) {
        expect(entry.isWithinOverhead).toBe(entry.estimate.wireOverhead <= overheadMax);
      }
    }
    const tight = plan({ setting: setting(2048, 1e-2), objective: "mean", overheadMax: 0.02 });
    const loose = plan({ setting: setting(2048, 1e-2), objective: "mean", overheadMax: 0.5 });
    expect(tight.best.valueNs).toBeGreaterThan(loose.best.valueNs);
    const { shape: tightShape } = tight.best.scheme as Extract<Scheme, { kind: "hybrid" }>;
    expect(tightShape.parity).toBeGreaterThan(0);
  });

  test("says when no scheme keeps to the overhead, and which is nearest", () => {
    const question: Question = {
      setting: setting(2048, 0.1),
      objective: 0.999,
      overheadMax: 0.05,
    };
    const made = plan(question);
    expect(made.isWithinOverhead).toBe(false);
    // What is lost must be sent again, whatever the scheme.
    expect(made.best.estimate.wireOverhead).toBeGreaterThan(0.05);
    expect(made.best.estimate.wireOverhead).toBeLessThan(0.13);
    expect(reasonFor(made, question)).toMatch(
      /^No scheme keeps within an overhead of 5 %.*nearest with 1\d %\.$/,
    );
  });

  test("refuses what cannot be", () => {
    const fine = { setting: setting(10, 0.01), objective: "mean" } as const;
    for (const wrong of [
      { ...fine, objective: 1 },
      { ...fine, objective: 0 },
      { ...fine, objective: Number.NaN },
      { ...fine, overheadMax: -0.1 },
      { ...fine, setting: { ...fine.setting, rateBps: 0 } },
      { ...fine, setting: { ...fine.setting, loss: { probability: 1 } } },
    ]) {
      expect(() => plan(wrong)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
  });

  test("looks at a fixed number of candidates, however long the message", () => {
    const count = (chunks: number) => {
      const { best, runnersUp } = plan({ setting: setting(chunks, 0.01), objective: "mean" });
      return [best, ...runnersUp].length;
    };
    expect(count(2 ** 30)).toBe(count(1000));
  });

  test("has its reason in one sentence that names figures", () => {
    for (const [chunks, loss, objective] of [
      [2, 1e-5, 0.999],
      [2048, 1e-2, 0.999],
      [131_072, 1e-3, "mean"],
      [2048, 1e-7, 0.99],
    ] as const) {
      const question = { setting: setting(chunks, loss), objective };
      const reason = reasonFor(plan(question), question);
      expect(reason).toMatch(/^[a-z-]+(\(.*?\))? has the least (mean|p99|p99\.9), [\d.]+ (ms|s): /);
      expect(reason).toMatch(/\.$/);
      expect(reason).not.toMatch(/NaN|undefined|Infinity|\n/);
    }
    expect(objectiveText(0.999)).toBe("p99.9");
    expect(objectiveText(0.99)).toBe("p99");
  });
});

describe("a shape for a message", () => {
  const view = { probability: 0.01, upper: 0.01, burstChunks: 1, rttNs: 25e6, chunkNs: 1310.72 };

  test("has less parity the less overhead is allowed, none at last", () => {
    let before = Infinity;
    for (const overheadMax of [Infinity, 0.045, 0.03, 0.02, 0.01, 0]) {
      const { parity } = planShape(2048, view, 0.999, overheadMax);
      expect(parity).toBeLessThanOrEqual(before);
      before = parity;
    }
    expect(before).toBe(0);
  });

  test("is for the upper bound of the loss", () => {
    const sure = planShape(2048, view, 0.999);
    const unsure = planShape(2048, { ...view, upper: 0.03 }, 0.999);
    expect(unsure.parity).toBeGreaterThan(sure.parity + 5);
  });
});
