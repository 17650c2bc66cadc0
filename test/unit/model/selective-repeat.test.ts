/** Selective Repeat from formulas against the same sums term by term, its limits, and the paper's figures. */
import { describe, expect, test } from "vitest";
import { idealNs } from "../../../src/model/bounds.ts";
import { predict } from "../../../src/model/predict.ts";
import type { Prediction, Scheme, Setting } from "../../../src/model/types.ts";
import { bruteCdf, bruteMean } from "./brute.ts";

const RTT = 25e6;
const RTO: Scheme = { kind: "sr-rto", alpha: 2 };
const NACK: Scheme = { kind: "sr-nack", alpha: 2, reorder: 1 / 64 };
const QUANTILES = [1e-6, 0.01, 0.5, 0.9, 0.99, 0.999, 1 - 1e-9];

function setting(chunks: number, loss: number, more: Partial<Setting> = {}): Setting {
  const chunkBytes = more.chunkBytes ?? 65536;
  return {
    bytes: Math.round(chunks * chunkBytes),
    packetBytes: chunkBytes,
    chunkBytes,
    rateBps: 400e9,
    packetOverheadBytes: 0,
    rttNs: RTT,
    loss: { probability: loss },
    controlLoss: 0,
    ...more,
  };
}

/** Distances between which F is compared: relative to 1 - F where that is small. */
function expectCdf(model: number, brute: number): void {
  expect(Math.abs(model - brute)).toBeLessThan(
    1e-9 * Math.max(1e-3, Math.min(brute, 1 - brute)) + 1e-14,
  );
}

describe.each([
  ["one chunk", 1, 0.3, 1, {}],
  ["a short chunk", 0.3, 0.2, 4, {}],
  ["two chunks", 2, 0.01, 1, {}],
  ["a short last chunk", 40.4, 0.05, 4, {}],
  ["many losses", 60, 0.5, 1, {}],
  ["many packets a chunk", 50, 0.02, 16, {}],
  ["few losses", 200, 1e-5, 1, {}],
  ["overhead and a slow wire", 60, 0.1, 8, { rateBps: 10e9, packetOverheadBytes: 66 }],
  ["an RTT of little more than a chunk", 30, 0.2, 1, { rttNs: 2e5, rateBps: 100e9 }],
])("%s", (_name, chunks, loss, packets, more) => {
  const path = setting(chunks, loss, { packetBytes: 65536 / packets, ...more });
  const { bytes, packetBytes, packetOverheadBytes, rateBps, rttNs } = path;
  const count = Math.ceil(chunks);
  const wireNs = (upTo: number) =>
    ((upTo + Math.ceil(upTo / packetBytes) * packetOverheadBytes) * 8e9) / rateBps;
  const firstNs = Array.from({ length: count }, (_, i) => wireNs(Math.min(bytes, (i + 1) * 65536)));
  const periodNs = 3 * rttNs + wireNs(65536);
  const delaysNs = Array.from({ length: 400 }, (_, y) => y * periodNs).slice(
    0,
    loss > 0.3 ? 60 : 30,
  );
  const lastPackets = Math.ceil((bytes - (count - 1) * 65536) / packetBytes);
  const incomplete = (sends: number, chunk: number) =>
    -Math.expm1((chunk === count - 1 ? lastPackets : packets) * Math.log1p(-(loss ** sends)));
  const prediction = predict(RTO, path, { paper: true });

  test("the mean is the sum of 1 - F", () => {
    const meanNs = bruteMean(firstNs, delaysNs, incomplete) + rttNs;
    expect(Math.abs(prediction.meanNs / meanNs - 1)).toBeLessThan(1e-9);
  });

  test("F is the product over chunks", () => {
    for (let step = 0; step < 60; step++) {
      const ns = wireNs(bytes) + (step / 12) * periodNs + 0.123;
      expectCdf(prediction.cdf(ns + rttNs), bruteCdf(firstNs, delaysNs, incomplete, ns));
    }
  });

  test("a quantile is the least time within which so many complete", () => {
    for (const q of QUANTILES) {
      const ns = prediction.quantileNs(q);
      expect(prediction.cdf(ns)).toBeGreaterThanOrEqual(q);
      if (ns > wireNs(bytes) + rttNs + 1) expect(prediction.cdf(ns * (1 - 1e-10))).toBeLessThan(q);
    }
  });
});

describe("properties", () => {
  const values = (path: Setting, scheme: Scheme) => {
    const { meanNs, quantileNs } = predict(scheme, path);
    return [meanNs, quantileNs(0.5), quantileNs(0.99), quantileNs(0.999)];
  };
  const expectAscending = (rows: number[][]) => {
    for (let i = 1; i < rows.length; i++)
      for (const [j, value] of rows[i]!.entries())
        expect(value).toBeGreaterThanOrEqual(rows[i - 1]![j]! * (1 - 1e-6));
  };

  test.each([RTO, NACK])("$kind takes no less time for more loss or more chunks", (scheme) => {
    const losses = [0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3];
    for (const chunks of [1, 128, 16384, 2 ** 20])
      expectAscending(losses.map((loss) => values(setting(chunks, loss), scheme)));
    for (const loss of losses)
      expectAscending([1, 2, 10, 1e3, 1e5, 1e6].map((m) => values(setting(m, loss), scheme)));
  });

  test.each([RTO, NACK])("$kind without loss takes the lossless time, exactly", (scheme) => {
    for (const chunks of [1, 7.3, 2048, 2 ** 31]) {
      const path = setting(chunks, 0, { chunkBytes: 1024, packetBytes: 1024 });
      const prediction = predict(scheme, path);
      expect(prediction).toMatchObject({ exact: true, wireOverhead: 0, fallbackProbability: 0 });
      expect(Math.abs(prediction.meanNs / idealNs(path) - 1)).toBeLessThan(1e-12);
      expect(prediction.cdf(idealNs(path) * (1 - 1e-9))).toBe(0);
      expect(prediction.cdf(idealNs(path) * (1 + 1e-9))).toBe(1);
    }
  });

  test("one chunk: RTT + T + O P / (1 - P)", () => {
    for (const loss of [1e-12, 1e-3, 0.5]) {
      const { meanNs, wireOverhead } = predict(RTO, setting(1, loss));
      const chunkNs = 65536 * 0.02;
      const exactNs = RTT + chunkNs + ((3 * RTT + chunkNs) * loss) / (1 - loss);
      expect(Math.abs(meanNs / exactNs - 1)).toBeLessThan(1e-10);
      expect(wireOverhead).toBeCloseTo(loss / (1 - loss), 12);
    }
  });

  test("a loss of 1e-12 keeps its digits: M P O in the mean", () => {
    const path = setting(1000, 1e-12);
    const excessNs = predict(RTO, path).meanNs - idealNs(path);
    // Chunk i adds P (O - (M - i) T).
    const chunkNs = 65536 * 0.02;
    const exactNs = 1e-9 * (3 * RTT + chunkNs - (999 / 2) * chunkNs);
    expect(Math.abs(excessNs / exactNs - 1)).toBeLessThan(1e-3);
  });

  test("2^31 chunks are as quick as one", () => {
    const path = setting(2 ** 31, 1e-3, { chunkBytes: 1024, packetBytes: 1024 });
    const { meanNs, quantileNs } = predict(RTO, path);
    expect(meanNs).toBeGreaterThan(idealNs(path));
    expect(quantileNs(0.999)).toBeGreaterThan(meanNs);
  });
});

describe("messages longer than the RTO", () => {
  const path = setting(131072, 0.1);

  test("the paper's form is a bound, and says so", () => {
    const bound = predict(RTO, path, { paper: true });
    const better = predict(RTO, path);
    expect(bound.exact).toBe(false);
    expect(bound.caveat).toContain("bound");
    expect(better.exact).toBe(false);
    expect(better.caveat).toContain("compete");
    expect(better.meanNs).toBeGreaterThan(bound.meanNs);
    for (const q of QUANTILES) expect(better.quantileNs(q)).toBeGreaterThan(bound.quantileNs(q));
  });

  test("the wire stays full: no message is faster than its expected sends allow but for those after its end", () => {
    const { meanNs } = predict(NACK, path);
    const chunkNs = 65536 * 0.02;
    expect(meanNs).toBeGreaterThan((131072 * chunkNs) / 0.9);
  });

  test("the two forms meet where the message is as long as the RTO", () => {
    const chunkNs = 65536 * 0.02;
    const at = Math.floor((3 * RTT) / chunkNs);
    const [below, above] = [at, at + 3].map((m) => predict(RTO, setting(m, 1e-3)));
    expect(below!.exact).toBe(true);
    expect(above!.exact).toBe(false);
    expect(above!.meanNs / below!.meanNs).toBeCloseTo(1, 3);
  });
});

describe("paper, figures 3a, 9 and 10a: 400 Gbit/s, 25 ms, 64 KiB chunks", () => {
  const slowdowns = (pick: (prediction: Prediction) => number, scheme: Scheme = RTO) => {
    let worst = { slowdown: 0, chunks: 0, loss: 0 };
    for (const loss of [1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
      for (let chunks = 2; chunks <= 2 ** 17; chunks *= 2) {
        const path = setting(chunks, loss);
        const slowdown = pick(predict(scheme, path)) / idealNs(path);
        if (slowdown > worst.slowdown) worst = { slowdown, chunks, loss };
      }
    return worst;
  };

  test("SR RTO slows down most between 1/P chunks and the RTT's worth", () => {
    const { slowdown, chunks, loss } = slowdowns(({ meanNs }) => meanNs);
    console.log(`SR RTO, mean: ${slowdown.toFixed(2)} at ${chunks} chunks, P = ${loss}`);
    expect(slowdown).toBeGreaterThan(3.5);
    expect(chunks * loss).toBeGreaterThanOrEqual(1);
  });

  test("its tail is worse than its mean, and NACK about a third of both", () => {
    const tail = slowdowns(({ quantileNs }) => quantileNs(0.999));
    const mean = slowdowns(({ meanNs }) => meanNs);
    const nack = slowdowns(({ quantileNs }) => quantileNs(0.999), NACK);
    console.log(`SR RTO, p99.9: ${tail.slowdown.toFixed(2)}; SR NACK: ${nack.slowdown.toFixed(2)}`);
    expect(tail.slowdown).toBeGreaterThan(mean.slowdown);
    expect(nack.slowdown).toBeLessThan(tail.slowdown / 2);
  });
});
