import { expect, test } from "vitest";
import { RTT_MAX_NS, RttEstimator } from "../../../src/reliability/rtt.ts";

test("says the configured guess until measured, then RFC 6298", () => {
  const rtt = new RttEstimator({ initialRttNs: 50e6 });
  expect([rtt.rttNs, rtt.rttMinNs, rtt.rateBps, rtt.sampleCount]).toEqual([
    50e6,
    50e6,
    Infinity,
    0,
  ]);
  rtt.sampleRtt(80e6);
  expect([rtt.rttNs, rtt.rttVarNs, rtt.rttMinNs]).toEqual([80e6, 40e6, 80e6]);
  rtt.sampleRtt(160e6);
  expect([rtt.rttNs, rtt.rttVarNs, rtt.rttMinNs]).toEqual([90e6, 50e6, 80e6]);
  rtt.sampleRtt(40e6);
  expect(rtt.rttMinNs).toBe(40e6);
  expect(rtt.sampleCount).toBe(3);
});

test("a constant path is estimated exactly", () => {
  const rtt = new RttEstimator({ initialRttNs: 1e6 });
  for (let i = 0; i < 200; i++) rtt.sampleRtt(25e6);
  expect(rtt.rttNs).toBe(25e6);
  expect(rtt.rttVarNs).toBeLessThan(1);
});

test("estimates are whole nanoseconds, of at least one", () => {
  const rtt = new RttEstimator({ initialRttNs: 0.25 });
  for (const sample of [0.3, 7, 1e3 + 1 / 3, 12_345.678, 1]) {
    rtt.sampleRtt(sample);
    expect([rtt.rttNs, rtt.rttVarNs, rtt.rttMinNs].every(Number.isSafeInteger)).toBe(true);
    expect(Math.min(rtt.rttNs, rtt.rttMinNs)).toBeGreaterThanOrEqual(1);
  }
});

test("nonsense samples change nothing", () => {
  const rtt = new RttEstimator({ initialRttNs: 1e6 });
  for (const sample of [0, -1, Number.NaN, Infinity, -Infinity, RTT_MAX_NS + 1])
    rtt.sampleRtt(sample);
  expect([rtt.rttNs, rtt.sampleCount]).toEqual([1e6, 0]);
});

test.each([
  [{ initialRttNs: 0 }, "0 ns"],
  [{ initialRttNs: Number.NaN }, "NaN ns"],
  [{ initialRttNs: 1, rateBps: 0 }, "0 bit/s"],
])("options %j are refused by value", (options, shown) => {
  expect(() => new RttEstimator(options)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(shown) }),
  );
});
