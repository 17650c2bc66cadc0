import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nextWord, Random } from "../../../src/base/random.ts";
import { expectRefusal } from "./refusal.ts";

const draw = (random: Random, count: number) =>
  Array.from({ length: count }, () => random.uint32());

describe("streams", () => {
  test("the same seed and name give the same numbers, on every machine", () => {
    expect(draw(new Random(7, "loss"), 64)).toEqual(draw(new Random(7, "loss"), 64));
    // Fixed values: recorded runs name seeds, so a seed's stream may never change.
    expect(draw(new Random(7, "loss"), 4)).toEqual([1632625066, 1148043333, 980608559, 3215348177]);
  });

  test("another seed or name gives other numbers", () => {
    const first = (seed: number, name: string) => draw(new Random(seed, name), 4).join();
    const all = new Set<string>();
    for (let seed = 0; seed < 2000; seed++) {
      for (const name of ["", "a", "b", "ab", "ba"]) all.add(first(seed, name));
    }
    for (const seed of [2 ** 32, 2 ** 32 + 7, 2 ** 53 - 1, -1, 0.5]) all.add(first(seed, ""));
    expect(all.size).toBe(2000 * 5 + 5);
    expect(first(-0, "")).toBe(first(0, ""));
  });

  test("a sub-stream does not depend on what its parent drew", () => {
    const parent = new Random(1, "run");
    const before = draw(parent.stream("loss"), 8);
    draw(parent, 100);
    expect(draw(parent.stream("loss"), 8)).toEqual(before);
    expect(draw(parent.stream("delay"), 8)).not.toEqual(before);
  });

  test("a seed that is not a number is refused", () => {
    expectRefusal(() => new Random(Number.NaN), "INVALID_ARGUMENT", ["NaN"]);
  });
});

describe("the generator", () => {
  test("is xoshiro128**: its recurrence, in exact integers", () => {
    const words = Uint32Array.of(1, 2, 3, 4);
    const state = [1n, 2n, 3n, 4n];
    const mask = 0xffff_ffffn;
    const rotate = (x: bigint, k: bigint) => ((x << k) | (x >> (32n - k))) & mask;
    for (let i = 0; i < 1000; i++) {
      const [s0, s1, s2, s3] = state as [bigint, bigint, bigint, bigint];
      expect(nextWord(words)).toBe(Number((rotate((s1 * 5n) & mask, 7n) * 9n) & mask));
      const a2 = s2 ^ s0;
      const a3 = s3 ^ s1;
      state[0] = s0 ^ a3;
      state[1] = s1 ^ a2;
      state[2] = a2 ^ ((s1 << 9n) & mask);
      state[3] = rotate(a3, 11n);
    }
  });

  test("every bit of a word is set half of the time", () => {
    const random = new Random(3);
    const counts = new Array<number>(32).fill(0);
    const words = 40_000;
    for (let i = 0; i < words; i++) {
      const word = random.uint32();
      for (let bit = 0; bit < 32; bit++) counts[bit]! += (word >>> bit) & 1;
    }
    // Six standard deviations of a fair coin; the seed is fixed, so this cannot flicker.
    for (const count of counts) expect(Math.abs(count - words / 2)).toBeLessThan(3 * words ** 0.5);
  });

  test("float lies in [0, 1) with mean 1/2 and variance 1/12", () => {
    const random = new Random(4);
    const values = Array.from({ length: 50_000 }, () => random.float());
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
    const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.008);
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(0.003);
  });

  test("normal has mean 0, variance 1 and the right share beyond two deviations", () => {
    const random = new Random(5);
    const values = Array.from({ length: 50_000 }, () => random.normal());
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
    const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
    const beyond = values.filter((v) => Math.abs(v) > 2).length / values.length;
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(variance - 1)).toBeLessThan(0.04);
    expect(Math.abs(beyond - 0.0455)).toBeLessThan(0.006);
  });
});

describe("choices", () => {
  test("int stays in its range, ends included, also in ranges wider than 32 bits", () => {
    const bound = fc.integer({ min: -(2 ** 51), max: 2 ** 51 });
    fc.assert(
      fc.property(fc.integer(), bound, fc.nat(2 ** 40), (seed, first, span) => {
        const value = new Random(seed).int(first, first + span);
        return Number.isInteger(value) && value >= first && value <= first + span;
      }),
    );
    const seen = new Set(Array.from({ length: 200 }, (_, i) => new Random(i).int(-1, 1)));
    expect([...seen].sort((a, b) => a - b)).toEqual([-1, 0, 1]);
  });

  test("int is even over a range that does not divide 2^32", () => {
    const random = new Random(6);
    const counts = [0, 0, 0];
    for (let i = 0; i < 30_000; i++) counts[random.int(0, 2)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });

  test("int refuses empty and fractional ranges", () => {
    const random = new Random(0);
    expectRefusal(() => random.int(2, 1), "INVALID_ARGUMENT", ["2 to 1"]);
    expectRefusal(() => random.int(0.5, 1), "INVALID_ARGUMENT");
    expectRefusal(() => random.pick([]), "INVALID_ARGUMENT");
  });

  test("shuffle gives every order equally often", () => {
    const random = new Random(8);
    const counts = new Map<string, number>();
    for (let i = 0; i < 12_000; i++) {
      const order = random.shuffle(["a", "b", "c"]).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    for (const count of counts.values()) expect(Math.abs(count - 2000)).toBeLessThan(250);
  });

  test("pick, chance and fill use every value they may", () => {
    const random = new Random(9);
    const picked = new Set(Array.from({ length: 100 }, () => random.pick([1, 2, 3])));
    expect(picked).toEqual(new Set([1, 2, 3]));
    const hits = Array.from({ length: 10_000 }, () => random.chance(0.3)).filter((hit) => hit);
    expect(Math.abs(hits.length - 3000)).toBeLessThan(280);
    expect(random.chance(0)).toBe(false);
    expect(random.chance(1)).toBe(true);
    expect(new Set(random.fill(new Uint8Array(8191))).size).toBe(256);
  });
});
