import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { pathViewOf, predictHybrid } from "../../../src/model/hybrid.ts";
import { hybridShape, REPAIR_RTTS, tailChunks } from "../../../src/model/parity.ts";
import type { HybridShape, PacketLoss, Setting } from "../../../src/model/types.ts";

const CHUNK_BYTES = 65_536;
const CHUNK_NS = 1310.72;
const RTT_NS = 25e6;

function setting(chunks: number, loss: PacketLoss, change: Partial<Setting> = {}): Setting {
  const path = { rateBps: 400e9, packetOverheadBytes: 0, rttNs: RTT_NS, controlLoss: 0 };
  const sizes = { bytes: chunks * CHUNK_BYTES, packetBytes: 4096, chunkBytes: CHUNK_BYTES };
  return { ...sizes, ...path, loss, ...change };
}

/** Packets of which 16 make a chunk that is lost with this probability. */
function chunkLoss(probability: number): PacketLoss {
  return { probability: -Math.expm1(Math.log1p(-probability) / 16) };
}

/** Mean and a quantile of the scheme acted out chunk by chunk, repairs certain. */
function sampled(chunks: number, probability: number, { k, parity }: HybridShape, seed: number) {
  const random = new Random(seed, "hybrid");
  const path = {
    probability,
    upper: probability,
    burstChunks: 1,
    rttNs: RTT_NS,
    chunkNs: CHUNK_NS,
  };
  const blocks = Math.ceil(tailChunks(chunks, path) / k);
  const early = Math.floor(k * probability);
  const headNs = (chunks - blocks * k) * (CHUNK_NS / (1 - probability));
  const inStreamNs = headNs + blocks * (k + early) * CHUNK_NS;
  const times: number[] = [];
  for (let trial = 0; trial < 3000; trial++) {
    let doneNs = inStreamNs;
    for (let block = 0; block < blocks; block++) {
      let needed = 0;
      for (let arrived = 0; arrived < k; ) {
        if (random.chance(probability)) needed++;
        else arrived++;
      }
      const isSaved = needed <= parity;
      const rows = Math.min(needed, parity) - early;
      if (rows > 0) doneNs = Math.max(doneNs, inStreamNs + rows * blocks * CHUNK_NS);
      if (!isSaved) {
        const rowsNs = (parity - early) * blocks * CHUNK_NS;
        doneNs = Math.max(doneNs, inStreamNs + rowsNs + REPAIR_RTTS * RTT_NS);
      }
    }
    times.push(doneNs + RTT_NS);
  }
  times.sort((a, b) => a - b);
  const meanNs = times.reduce((sum, ns) => sum + ns, 0) / times.length;
  return { meanNs, p99Ns: times[Math.ceil(0.99 * times.length) - 1]! };
}

describe("the hybrid scheme's completion time", () => {
  test("is injection and a round trip when nothing is lost", () => {
    const shape = { k: 240, rows: 16, parity: 0, interleave: 1 };
    const prediction = predictHybrid(setting(1000, { probability: 0 }), shape);
    expect(prediction.meanNs).toBeCloseTo(1000 * CHUNK_NS + RTT_NS, 3);
    expect(prediction.quantileNs(0.999)).toBeCloseTo(1000 * CHUNK_NS + RTT_NS, 3);
    expect(prediction.wireOverhead).toBe(0);
    expect(prediction.fallbackProbability).toBe(0);
  });

  test.each([
    [16, 0.1, 3],
    [128, 0.01, 2],
    [2048, 0.01, 6],
    [2048, 0.1, 30],
    [16_384, 1e-3, 2],
    [16_384, 0.01, 8],
  ])("is that of the scheme acted out: %d chunks, loss %d, parity %d", (chunks, p, parity) => {
    const { k, rows } = hybridShape(chunks, pathViewOf(setting(chunks, chunkLoss(p))), 5e-4);
    const shape = { k, rows: Math.max(rows, parity), parity, interleave: 1 };
    const prediction = predictHybrid(setting(chunks, chunkLoss(p)), shape);
    const { meanNs, p99Ns } = sampled(chunks, p, shape, 1);
    expect(prediction.meanNs / meanNs).toBeGreaterThan(0.99);
    expect(prediction.meanNs / meanNs).toBeLessThan(1.01);
    expect(prediction.quantileNs(0.99) / p99Ns).toBeGreaterThan(0.98);
    expect(prediction.quantileNs(0.99) / p99Ns).toBeLessThan(1.02);
  });

  test("has a mean, a distribution and quantiles that belong together", () => {
    const random = new Random(7, "hybrid");
    for (let i = 0; i < 40; i++) {
      const chunks = random.int(1, 30_000);
      const loss = {
        probability: 10 ** (-2 - 4 * random.float()),
        burstPackets: 1 + 20 * random.float(),
      };
      const message = setting(chunks, loss);
      const least = hybridShape(chunks, pathViewOf(message), 5e-4);
      const shape = { ...least, parity: random.int(0, least.parity) };
      const prediction = predictHybrid(message, shape);
      let before = 0;
      for (const q of [1e-6, 0.01, 0.3, 0.5, 0.9, 0.99, 0.999, 0.9999]) {
        const ns = prediction.quantileNs(q);
        expect(ns).toBeGreaterThanOrEqual(before);
        expect(prediction.cdf(ns)).toBeGreaterThanOrEqual(q);
        expect(q === 1e-6 || ns === before || prediction.cdf(ns - 1) < q).toBe(true);
        before = ns;
      }
      const leastNs = prediction.quantileNs(1e-9);
      const endNs = prediction.quantileNs(1 - 1e-9) + RTT_NS;
      let sum = 0;
      const steps = 20_000;
      for (let step = 0; step < steps; step++) {
        sum += 1 - prediction.cdf(leastNs + ((step + 0.5) * (endNs - leastNs)) / steps);
      }
      const integral = leastNs + (sum * (endNs - leastNs)) / steps;
      expect(prediction.meanNs / integral).toBeGreaterThan(0.99);
      expect(prediction.meanNs / integral).toBeLessThan(1.01);
    }
  });

  test("is little more than the bound, at its best shape", () => {
    for (const p of [1e-6, 1e-4, 1e-2]) {
      for (const chunks of [2, 128, 2048, 16_384, 131_072]) {
        const message = setting(chunks, chunkLoss(p));
        const shape = hybridShape(chunks, pathViewOf(message), 5e-4);
        const prediction = predictHybrid(message, shape);
        const boundNs = (chunks * CHUNK_NS) / (1 - p) + RTT_NS;
        expect(prediction.meanNs / boundNs).toBeLessThan(1.03);
        expect(prediction.quantileNs(0.999) / boundNs).toBeLessThan(1.1);
      }
    }
  });

  test("has no mean of a rateless or instant path that is not a number", () => {
    const shape = { k: 100, rows: 16, parity: 3, interleave: 1 };
    for (const change of [{ rateBps: Infinity }, { rttNs: 0 }, { bytes: 1 }, { bytes: 0 }]) {
      const prediction = predictHybrid(setting(1000, chunkLoss(0.01), change), shape);
      expect(prediction.meanNs).toBeGreaterThanOrEqual(0);
      expect(prediction.meanNs).toBeLessThan(1e9);
      expect(prediction.quantileNs(0.999)).toBeLessThan(1e9);
      expect(prediction.wireOverhead).toBeGreaterThanOrEqual(0);
    }
  });
});

describe("what a setting says of its chunks", () => {
  test("is loss and runs of chunks from those of packets", () => {
    const alone = pathViewOf(setting(1000, chunkLoss(0.1)));
    expect(alone.probability).toBeCloseTo(0.1, 9);
    expect(alone.burstChunks).toBeCloseTo(1 / 0.9, 9);
    expect(alone.chunkNs).toBeCloseTo(CHUNK_NS, 9);
    const bursty = pathViewOf(setting(1000, { probability: 1e-3, burstPackets: 64 }));
    // A run of 64 packets begins anywhere in a chunk of 16.
    expect(bursty.burstChunks).toBeGreaterThan(4.5);
    expect(bursty.burstChunks).toBeLessThan(5.2);
    expect(bursty.probability).toBeGreaterThan(1e-3);
    expect(bursty.probability).toBeLessThan(1.3e-3);
    expect(pathViewOf(setting(1000, { probability: 0 })).probability).toBe(0);
  });
});
