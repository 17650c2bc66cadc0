/** Delays drawn as a link draws them give back its delay, jitter and distribution. */
import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { delayQuantile, fitDelay } from "../../../src/link/fit-delay.ts";
import { parseRecord, RECORD_LIMITS } from "../../../src/link/record.ts";
import { expectRefusal } from "../base/refusal.ts";

describe("delays", () => {
  test.each(["uniform", "normal", "pareto", "paretonormal"] as const)("%s is found", (kind) => {
    const random = new Random(1, kind);
    const samples = Float64Array.from({ length: 20_000 }, () =>
      Math.round(25e6 + 2e6 * delayQuantile(kind, random.float())),
    );
    const { link, candidates } = fitDelay(samples);
    expect(link.distribution).toBe(kind);
    expect(Math.abs(link.delayNs! / 25e6 - 1)).toBeLessThan(0.005);
    expect(Math.abs(link.jitterNs! / 2e6 - 1)).toBeLessThan(0.05);
    expect(candidates).toHaveLength(4);
    expect(candidates[0]!.errorNs).toBeLessThan(candidates[1]!.errorNs);
  });

  test("quantiles are those of the tables of the normal law, clipped", () => {
    expect(delayQuantile("normal", 0.5)).toBeCloseTo(0, 12);
    expect(delayQuantile("normal", 0.975)).toBeCloseTo(1.959964, 6);
    expect(delayQuantile("normal", 0.001)).toBeCloseTo(-3.090232, 6);
    expect(delayQuantile("normal", 1 - 1e-9)).toBeCloseTo(4, 9);
    expect(delayQuantile("pareto", 0)).toBeCloseTo(-2 / 3, 12);
  });

  test("delays alike have no jitter; neither has the grain of a clock", () => {
    expect(fitDelay(new Float64Array(100).fill(5e6)).link).toEqual({ delayNs: 5e6 });
    const grain = Float64Array.from({ length: 100 }, (_, i) => 5e6 + (i % 2));
    expect(Object.keys(fitDelay(grain).link)).toEqual(["delayNs"]);
  });

  test("no delay and a negative one are refused", () => {
    expectRefusal(() => fitDelay(new Float64Array()), "INVALID_ARGUMENT", ["no packet arrived"]);
    expectRefusal(() => fitDelay(Float64Array.of(5, -3)), "INVALID_ARGUMENT", ["3 ns before"]);
  });
});

describe("records", () => {
  test("0 and 1, blanks and line ends between, or bytes", () => {
    expect([...parseRecord(" 01\n1 0\r\n\t1").lost]).toEqual([0, 1, 1, 0, 1]);
    expect([...parseRecord("\0\x01\x01").lost]).toEqual([0, 1, 1]);
    expect(parseRecord("01").delaysNs).toBeUndefined();
  });

  test("lines with and without a heading; times since 1970 keep their nanoseconds", () => {
    const sent = 1_790_000_000_000_000_001n;
    const lines = `7,${sent},${sent + 25_000_003n}\n8,${sent + 10n},\r\n9,${sent},${sent}\n`;
    for (const text of [lines, `sequence, sent_ns, received_ns\n${lines}`]) {
      const { lost, delaysNs } = parseRecord(text);
      expect([...lost]).toEqual([0, 1, 0]);
      expect([...delaysNs!]).toEqual([25_000_003, 0]);
    }
  });

  test.each([
    ["", "empty"],
    [" \n", "empty"],
    ["0102", 'character 4 is "2"'],
    ["1,5,6\n2,6", "no end"],
    ["1,5,6\n2,6\n", "line 2"],
    ["1,5,6\n2,6,7,8\n", "line 2"],
    ["1,5,6\n2,x,8\n", "line 2"],
    ["1,5,6\n3,6,8\n", "sequence 3 where 2 follows"],
    ["1,5,6\n1,6,8\n", "sequence 1 where 2 follows"],
    ["1,5,4\n", "1 ns before it was sent"],
    ["1,-5,4\n", "line 1"],
    ["sequence,sent_ns,received_ns\n", "no packets"],
  ])("%j is refused: %s", (text, what) => {
    expectRefusal(() => parseRecord(text), "INVALID_ARGUMENT", [what]);
  });

  test("too many packets are refused, as many as allowed are not", () => {
    const most = "01".repeat(RECORD_LIMITS.packetsMax / 2);
    expect(parseRecord(most).lost).toHaveLength(RECORD_LIMITS.packetsMax);
    expectRefusal(() => parseRecord(`${most}0`), "INVALID_ARGUMENT", ["more than"]);
  });
});
