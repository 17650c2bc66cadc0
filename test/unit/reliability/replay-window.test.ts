import { expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { REPLAY_WINDOW_ENTRIES, ReplayWindow } from "../../../src/reliability/replay-window.ts";

test("each sequence number is accepted once", () => {
  const window = new ReplayWindow();
  for (const sequence of [5, 6, 9, 7, 8]) expect(window.accept(sequence)).toBe(true);
  for (const sequence of [5, 6, 7, 8, 9]) expect(window.accept(sequence)).toBe(false);
});

test("what is 64 or more behind is refused, 63 behind is not", () => {
  const window = new ReplayWindow();
  expect(window.accept(1000)).toBe(true);
  expect(window.accept(1000 - REPLAY_WINDOW_ENTRIES)).toBe(false);
  expect(window.accept(1000 - REPLAY_WINDOW_ENTRIES + 1)).toBe(true);
  expect(window.accept(1000 - REPLAY_WINDOW_ENTRIES + 1)).toBe(false);
});

test.each([1, 31, 32, 33, 63, 64, 65, 1000])("a step of %i keeps what it must", (step) => {
  const window = new ReplayWindow();
  for (const sequence of [100, 99, 69, 68, 67, 37]) expect(window.accept(sequence)).toBe(true);
  expect(window.accept(100 + step)).toBe(true);
  const seen = new Set([100, 99, 69, 68, 67, 37, 100 + step]);
  for (let behind = 0; behind < 100; behind++) {
    const sequence = 100 + step - behind;
    const expected = behind < REPLAY_WINDOW_ENTRIES && !seen.has(sequence);
    expect(window.accept(sequence), `behind ${behind}`).toBe(expected);
  }
});

test("numbers wrap", () => {
  const window = new ReplayWindow();
  expect(window.accept(0xfffffffe)).toBe(true);
  expect(window.accept(1)).toBe(true);
  expect(window.accept(0xffffffff)).toBe(true);
  expect(window.accept(0)).toBe(true);
  for (const sequence of [0xfffffffe, 0xffffffff, 0, 1])
    expect(window.accept(sequence)).toBe(false);
});

test("agrees with a plain set over random walks across the wrap", () => {
  const seed = 7;
  console.log(`replay window: seed ${seed}`);
  const random = new Random(seed);
  const window = new ReplayWindow();
  const seen = new Set<number>();
  let highest = 0xffff_f000;
  expect(window.accept(highest)).toBe(true);
  seen.add(highest);
  for (let i = 0; i < 20_000; i++) {
    const at = highest + random.int(-80, random.chance(0.02) ? 90 : 3);
    const fresh = at > highest || (highest - at < REPLAY_WINDOW_ENTRIES && !seen.has(at));
    expect(window.accept(at >>> 0), `step ${i}`).toBe(fresh);
    seen.add(at);
    highest = Math.max(highest, at);
  }
  expect(highest).toBeGreaterThan(2 ** 32);
});
