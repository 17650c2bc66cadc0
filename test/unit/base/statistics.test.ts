import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import {
  ci95,
  max,
  mean,
  min,
  percentile,
  percentileSorted,
  standardDeviation,
  summarize,
} from "../../../src/base/statistics.ts";
import { expectRefusal } from "./refusal.ts";

const finite = fc.double({ min: -1e12, max: 1e12, noNaN: true });
const samples = fc.array(finite, { minLength: 1, maxLength: 200 });

describe("percentiles are nearest-rank", () => {
  test("of 1 to 1000, p99.9 is 999 and p50 is 500", () => {
    const values = Float64Array.from({ length: 1000 }, (_, i) => 1000 - i);
    expect(percentile(values, 50)).toBe(500);
    expect(percentile(values, 99)).toBe(990);
    expect(percentile(values, 99.9)).toBe(999);
    expect(percentile(values, 100)).toBe(1000);
    expect(percentile(values, 0)).toBe(1);
    expect(values[0], "the input is not sorted in place").toBe(1000);
  });

  test("the least sample with at least p percent at or below it", () => {
    fc.assert(
      fc.property(samples, fc.integer({ min: 1, max: 100 }), (values, percent) => {
        const found = percentile(values, percent);
        const share = (limit: number) =>
          (100 * values.filter((v) => v <= limit).length) / values.length;
        const below = values.filter((v) => v < found);
        expect(values).toContain(found);
        expect(share(found)).toBeGreaterThanOrEqual(percent - 1e-6);
        if (below.length > 0) expect(share(Math.max(...below))).toBeLessThan(percent);
      }),
    );
  });

  test("percentiles outside 0 to 100 and no samples are refused", () => {
    expectRefusal(() => percentileSorted([1], 101), "INVALID_ARGUMENT", ["101"]);
    expectRefusal(() => percentileSorted([1], Number.NaN), "INVALID_ARGUMENT", ["NaN"]);
    for (const summary of [mean, min, max, ci95, standardDeviation, summarize]) {
      expectRefusal(() => summary([]), "INVALID_ARGUMENT", ["no samples"]);
    }
  });
});

describe("mean, spread and confidence", () => {
  test("the mean keeps small terms beside large ones", () => {
    expect(mean([1e100, 1, -1e100])).toBe(1 / 3);
    expect(mean([2, 4, 9])).toBe(5);
  });

  test("standard deviation and interval of a worked example", () => {
    // 2, 4, 4, 4, 5, 5, 7, 9: sum of squares 32, n - 1 = 7; t(7) = 2.365.
    const values = [2, 4, 4, 4, 5, 5, 7, 9];
    expect(standardDeviation(values)).toBeCloseTo(Math.sqrt(32 / 7), 12);
    expect(ci95(values)).toBeCloseTo((2.365 * Math.sqrt(32 / 7)) / Math.sqrt(8), 12);
    expect(ci95([3])).toBe(0);
    expect(standardDeviation([3])).toBe(0);
  });

  test("the interval holds the true mean in about 95 of 100 repetitions, few samples and many", () => {
    const random = new Random(11, "coverage");
    for (const count of [5, 31, 200]) {
      let held = 0;
      const repetitions = 2000;
      for (let i = 0; i < repetitions; i++) {
        const values = Float64Array.from({ length: count }, () => random.normal());
        if (Math.abs(mean(values)) <= ci95(values)) held++;
      }
      // Five standard deviations of a binomial with p = 0.95; the seed is fixed.
      expect(Math.abs(held / repetitions - 0.95)).toBeLessThan(5 * Math.sqrt(0.0475 / repetitions));
    }
  });

  test("a summary agrees with its parts", () => {
    fc.assert(
      fc.property(samples, (values) => {
        const all = summarize(Float64Array.from(values));
        expect(all.count).toBe(values.length);
        expect(all.min).toBe(min(values));
        expect(all.max).toBe(max(values));
        expect(all.p50).toBe(percentile(values, 50));
        expect(all.p99).toBe(percentile(values, 99));
        expect(all.p999).toBe(percentile(values, 99.9));
        expect(all.min <= all.p50 && all.p50 <= all.p99 && all.p99 <= all.p999).toBe(true);
        expect(all.ci95).toBeCloseTo(ci95(values), 3);
      }),
    );
  });
});
