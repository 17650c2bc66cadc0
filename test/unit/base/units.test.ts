import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatProbability,
  formatRate,
  formatSize,
  formatTime,
  parseProbability,
  parseRate,
  parseSize,
  parseTime,
  probabilityText,
  rateText,
  sizeText,
  timeText,
} from "../../../src/base/units.ts";
import { expectRefusal } from "./refusal.ts";

describe("sizes", () => {
  test.each([
    ["0", 0],
    ["1500", 1500],
    ["1500B", 1500],
    ["64KiB", 65536],
    ["64 kib", 65536],
    ["128MiB", 134217728],
    ["1GB", 1e9],
    ["0.1GB", 1e8],
    ["1.5KiB", 1536],
    ["8GiB", 8589934592],
    ["1e3", 1000],
  ])("%s is %d bytes", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(["", "x", "-1", "1.5", "0.3KiB", "1XB", "1 2", "0x10", "9000TiB", "Infinity", "1e"])(
    "%j is refused, naming it and what is accepted",
    (text) => {
      expectRefusal(() => parseSize(text, "message size"), "INVALID_ARGUMENT", [
        "message size",
        JSON.stringify(text),
        "64KiB",
      ]);
    },
  );
});

describe("rates follow tc(8)", () => {
  test.each([
    ["0", 0],
    ["1000", 1000],
    ["10mbit", 1e7],
    ["400gbit", 4e11],
    ["400Gbit/s", 4e11],
    ["1gbps", 8e9],
    ["1kibit", 1024],
    ["2mibps", 2 * 8 * 1048576],
    ["2.5gbit", 2.5e9],
  ])("%s is %d bit/s", (text, rate) => {
    expect(parseRate(text)).toBe(rate);
  });

  test.each(["fast", "-1gbit", "10mb", "1e30tbit", "gbit"])("%j is refused", (text) => {
    expectRefusal(() => parseRate(text), "INVALID_ARGUMENT", [text, "400gbit"]);
  });
});

describe("times", () => {
  test.each([
    ["25ms", 25e6],
    ["12.5us", 12500],
    ["12.5µs", 12500],
    ["1s", 1e9],
    ["3ns", 3],
    ["0", 0],
    ["0.4ns", 0],
    ["1.5msec", 1.5e6],
  ])("%s is %d ns", (text, ns) => {
    expect(parseTime(text)).toBe(ns);
  });

  test.each(["25", "ms", "1h", "-1ms", "1e20s"])("%j is refused: a unit is required", (text) => {
    expectRefusal(() => parseTime(text), "INVALID_ARGUMENT", [text, "25ms"]);
  });
});

describe("probabilities", () => {
  test.each([
    ["0.1%", 0.001],
    ["1e-3", 0.001],
    ["100%", 1],
    ["1", 1],
    ["0", 0],
    ["1e-5%", 1e-7],
  ])("%s is %d", (text, probability) => {
    expect(parseProbability(text)).toBe(probability);
  });

  test.each(["101%", "1.1", "-1%", "half", "%"])("%j is refused", (text) => {
    expectRefusal(() => parseProbability(text), "INVALID_ARGUMENT", [text, "0.1%"]);
  });
});

describe("text for the parsers reads back as the same number", () => {
  const whole = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  test("sizes", () => {
    fc.assert(fc.property(whole, (bytes) => parseSize(sizeText(bytes)) === bytes));
    expect([65536, 1e9, 1500, 134217728].map(sizeText)).toEqual([
      "64KiB",
      "1GB",
      "1500B",
      "128MiB",
    ]);
  });
  test("rates, also fractional ones", () => {
    const rate = fc.double({ min: 1e-3, max: 1e15, noNaN: true });
    fc.assert(fc.property(rate, (value) => parseRate(rateText(value)) === value));
    expect([4e11, 1e7, 2.5e9].map(rateText)).toEqual(["400gbit", "10mbit", "2.5gbit"]);
  });
  test("times", () => {
    fc.assert(fc.property(whole, (ns) => parseTime(timeText(ns)) === ns));
    expect([25e6, 12.5e6, 1e9, 7].map(timeText)).toEqual(["25ms", "12.5ms", "1s", "7ns"]);
  });
  test("probabilities", () => {
    const probability = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(fc.property(probability, (p) => parseProbability(probabilityText(p)) === p));
    expect([0.001, 1e-5, 1e-8, 1, 0.7].map(probabilityText)).toEqual([
      "0.1%",
      "0.001%",
      "1e-8",
      "100%",
      "70%",
    ]);
  });
});

describe("text for people", () => {
  test("takes the largest unit that keeps the number at 1 or above", () => {
    expect([0, 1, 1023, 1536, 134217728].map((v) => formatSize(v))).toEqual([
      "0 B",
      "1 B",
      "1023 B",
      "1.5 KiB",
      "128 MiB",
    ]);
    expect([1e3, 4e11, 12345678].map((v) => formatRate(v))).toEqual([
      "1 kbit/s",
      "400 Gbit/s",
      "12.35 Mbit/s",
    ]);
    expect([0, 3, 12500, 25e6, 1.5e9].map((v) => formatTime(v))).toEqual([
      "0 ns",
      "3 ns",
      "12.5 µs",
      "25 ms",
      "1.5 s",
    ]);
  });
  test("rounds before it chooses the unit", () => {
    expect(formatTime(999_960_000)).toBe("1 s");
    expect(formatTime(-1500)).toBe("-1.5 µs");
  });
  test("names no limit, and small probabilities by powers of ten", () => {
    expect(formatRate(0)).toBe("unlimited");
    expect(formatRate(Number.POSITIVE_INFINITY)).toBe("unlimited");
    expect([0, 1e-5, 1e-4, 0.001, 1].map((p) => formatProbability(p))).toEqual([
      "0",
      "1e-5",
      "0.01 %",
      "0.1 %",
      "100 %",
    ]);
  });
});
