import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import {
  BLOCK_CHUNKS_MAX,
  blockFailure,
  blockFailures,
  hybridParityChunks,
  hybridShape,
  INTERLEAVE_MAX,
  type PathView,
  repairRows,
  tailChunks,
} from "../../../src/model/parity.ts";
import { PARITY_CHUNKS_MIN, resolveAttributes } from "../../../src/sdk/attributes.ts";
import type { Capabilities } from "../../../src/transport/transport.ts";

/** 400 Gbit/s over 25 ms, chunks of 64 KiB. */
const RTT_NS = 25e6;
const CHUNK_NS = 1310.72;

function view(probability: number, change: Partial<PathView> = {}): PathView {
  const burstChunks = 1 / (1 - probability);
  const known = { probability, upper: probability, burstChunks, rttNs: RTT_NS, chunkNs: CHUNK_NS };
  return { ...known, ...change };
}

/** More than `most` of `n`, by the definition, in exact integers where it matters. */
function binomialTail(n: number, most: number, p: number): number {
  let below = 0;
  let ways = 1;
  for (let i = 0; i <= most; i++) {
    below += ways * p ** i * (1 - p) ** (n - i);
    ways = (ways * (n - i)) / (i + 1);
  }
  return 1 - below;
}

/**
 * Share of blocks that lose more than `parity`, by the chain of two states itself: the distribution of how many of n
 * steps, `interleave` apart, are lost, one step after another.
 */
function chainTail(n: number, parity: number, loss: PathView, interleave: number): number {
  const { probability, burstChunks } = loss;
  const stay = (1 - 1 / (burstChunks * (1 - probability))) ** interleave;
  const toLost = [probability * (1 - stay), probability + (1 - probability) * stay];
  let good = new Float64Array(n + 2);
  let lost = new Float64Array(n + 2);
  good[0] = 1 - probability;
  lost[1] = probability;
  for (let step = 1; step < n; step++) {
    const nextGood = new Float64Array(n + 2);
    const nextLost = new Float64Array(n + 2);
    for (let count = 0; count <= step; count++) {
      nextGood[count] = good[count]! * (1 - toLost[0]!) + lost[count]! * (1 - toLost[1]!);
      nextLost[count + 1] = good[count]! * toLost[0]! + lost[count]! * toLost[1]!;
    }
    good = nextGood;
    lost = nextLost;
  }
  let sum = 0;
  for (let count = parity + 1; count <= n; count++) sum += good[count]! + lost[count]!;
  return sum;
}

describe("a block's failure", () => {
  test("is the binomial tail of independent losses", () => {
    for (const [k, parity, p] of [
      [32, 8, 0.1],
      [2, 1, 0.01],
      [200, 20, 0.1],
      [1, 0, 0.3],
      [240, 5, 0.95],
    ] as const) {
      expect(blockFailure(k, parity, view(p)) / binomialTail(k + parity, parity, p)).toBeCloseTo(
        1,
        9,
      );
    }
  });

  test("keeps its digits where it is smaller than what 1 can lose", () => {
    // The first term is all of it: C(248, 9) 1e-54.
    let ways = 1;
    for (let i = 0; i < 9; i++) ways = (ways * (248 - i)) / (i + 1);
    expect(blockFailure(240, 8, view(1e-6)) / (ways * 1e-54)).toBeCloseTo(1, 3);
  });

  test("is 0 without loss or data, 1 when all is lost", () => {
    expect(blockFailure(10, 0, view(0))).toBe(0);
    expect(blockFailure(0, 3, view(0.5))).toBe(0);
    expect(blockFailure(10, 5, { probability: 1, burstChunks: 1 })).toBe(1);
    expect(() => blockFailure(1000, 200, view(0.1))).toThrow(RangeError);
  });

  test("of bursts is near that of the chain of two states, and rarely below it", () => {
    const random = new Random(11, "bursts");
    for (let i = 0; i < 60; i++) {
      const burstChunks = 1.5 + 10 * random.float();
      const loss = view(10 ** (-1 - 3 * random.float()), { burstChunks });
      const k = random.int(2, 200);
      const parity = random.int(0, 40);
      const interleave = random.pick([1, 2, 4, 16]);
      const exact = chainTail(k + parity, parity, loss, interleave);
      if (exact < 1e-12) continue;
      const ratio = blockFailure(k, parity, loss, interleave) / exact;
      expect(ratio, JSON.stringify({ loss, k, parity, interleave })).toBeGreaterThan(0.9);
      // Runs that end beyond the block are counted in full: dear only where it is one run that matters.
      expect(ratio, JSON.stringify({ loss, k, parity, interleave })).toBeLessThan(12);
    }
  });

  test("is told for all numbers of parity chunks at once as for each", () => {
    for (const loss of [
      view(1e-3),
      view(0.3),
      view(0.95),
      view(0.01, { burstChunks: 4 }),
      view(0),
    ]) {
      for (const k of [1, 20, 200]) {
        const failures = blockFailures(k, 40, loss, 2);
        for (const [parity, failure] of failures.entries()) {
          const alone = blockFailure(k, parity, loss, 2);
          expect(Math.abs(failure - alone)).toBeLessThanOrEqual(1e-9 * alone);
        }
      }
    }
  });

  test("falls with parity, and with interleave when losses come in bursts", () => {
    const loss = view(0.01, { burstChunks: 5 });
    for (let parity = 1; parity < 50; parity++) {
      expect(blockFailure(150, parity, loss)).toBeLessThan(blockFailure(150, parity - 1, loss));
    }
    for (const interleave of [2, 4, 8, 16]) {
      expect(blockFailure(150, 10, loss, interleave)).toBeLessThan(
        blockFailure(150, 10, loss, interleave / 2),
      );
    }
  });
});

describe("rows for a repair", () => {
  test("are the fewest of which enough arrive", () => {
    for (const p of [1e-4, 1e-2, 0.1, 0.3]) {
      for (const missing of [1, 2, 7, 40, 200]) {
        const rows = repairRows(missing, view(p), 1.1e-4);
        const tooFew = (n: number) => binomialTail(n, n - missing, p);
        expect(tooFew(rows)).toBeLessThanOrEqual(1.1e-4);
        if (rows > missing) expect(tooFew(rows - 1)).toBeGreaterThan(1.1e-4);
      }
    }
  });

  test("are none when nothing is missing, and bounded when everything is lost", () => {
    expect(repairRows(0, view(0.1), 1e-4)).toBe(0);
    expect(repairRows(100, view(0.95), 1e-12)).toBe(1024);
  });
});

describe("room for parity", () => {
  test("never shrinks, and is within what queue pairs set aside by default", () => {
    const capabilities = {
      packetBytesDefault: 4096,
      packetBytesMin: 1,
      packetBytesMax: 65_536,
      virtualTime: true,
    } as Capabilities;
    let before = 0;
    for (const chunks of [0, 1, 2, 63, 64, 127, 128, 129, 130, 1001, 16384, 131_071]) {
      const room = hybridParityChunks(chunks);
      expect(room).toBeGreaterThanOrEqual(before);
      before = room;
      const maxMessageBytes = Math.max(0, chunks * 65_536 - 65_535);
      const { maxParityBytes } = resolveAttributes({ maxMessageBytes }, capabilities);
      expect(room * 65_536).toBeLessThanOrEqual(maxParityBytes);
    }
    expect(hybridParityChunks(1)).toBe(PARITY_CHUNKS_MIN);
    expect(hybridParityChunks(0)).toBe(0);
  });
});

describe("the tail", () => {
  test("is one RTT's worth of chunks, all of them when injection takes no time", () => {
    expect(tailChunks(131_072, view(0.01))).toBe(Math.ceil(RTT_NS / CHUNK_NS));
    expect(tailChunks(100, view(0.01))).toBe(100);
    expect(tailChunks(100, view(0.01, { chunkNs: 0 }))).toBe(100);
    expect(tailChunks(100, view(0.01, { rttNs: 0 }))).toBe(0);
  });
});

/** Share of messages whose tail parity does not save. */
function tailFailure(chunks: number, path: PathView, target = 5e-4): number {
  const { k, parity, interleave } = hybridShape(chunks, path, target);
  const blocks = Math.ceil(tailChunks(chunks, path) / k);
  return blocks * blockFailure(k, parity, path, interleave);
}

describe("a hybrid message's shape", () => {
  test("fits its block, its room and its message, whatever the path", () => {
    const random = new Random(4, "shapes");
    for (let i = 0; i < 2000; i++) {
      const probability = random.chance(0.1) ? 0.95 : 10 ** -(8 * random.float());
      const path: PathView = {
        probability,
        upper: Math.min(0.95, probability * (1 + random.float())),
        burstChunks: random.chance(0.5) ? 1 : 1 + 100 * random.float(),
        rttNs: random.chance(0.1) ? 0 : 10 ** (9 * random.float()),
        chunkNs: random.chance(0.1) ? 0 : 10 ** (7 * random.float()),
      };
      const chunks = random.chance(0.5) ? random.int(1, 600) : random.int(1, 2 ** 20);
      const shape = hybridShape(chunks, path, 10 ** -(6 * random.float()));
      const said = JSON.stringify({ chunks, path, shape });
      const { k, rows, parity, interleave } = shape;
      for (const value of [k, rows, parity, interleave]) {
        expect(Number.isInteger(value), said).toBe(true);
      }
      expect(k, said).toBeGreaterThanOrEqual(1);
      expect(k, said).toBeLessThanOrEqual(chunks);
      expect(k + rows, said).toBeLessThanOrEqual(BLOCK_CHUNKS_MAX);
      expect(parity, said).toBeGreaterThanOrEqual(0);
      expect(rows, said).toBeGreaterThanOrEqual(Math.max(1, parity));
      expect(Math.ceil(chunks / k) * rows, said).toBeLessThanOrEqual(hybridParityChunks(chunks));
      expect(interleave, said).toBeGreaterThanOrEqual(1);
      expect(interleave, said).toBeLessThanOrEqual(Math.min(INTERLEAVE_MAX, Math.ceil(chunks / k)));
    }
  });

  test("reaches its target at the upper bound of the loss, from 128 KiB to 8 GiB", () => {
    for (const probability of [1e-6, 1e-4, 1e-3, 1e-2, 0.05, 0.1]) {
      for (let chunks = 2; chunks <= 131_072; chunks *= 2) {
        const path = view(probability * 0.9, { upper: probability });
        const worst = { ...path, probability };
        const { k, parity, interleave } = hybridShape(chunks, path, 5e-4);
        const blocks = Math.ceil(tailChunks(chunks, path) / k);
        expect(blocks * blockFailure(k, parity, worst, interleave)).toBeLessThanOrEqual(5e-4);
      }
    }
  });

  test("costs at most 3 % over the bound in mean up to a loss of 1e-2, 6 % at 1e-1", () => {
    for (const probability of [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]) {
      for (let chunks = 2; chunks <= 131_072; chunks *= 2) {
        const path = view(probability);
        const { k, parity } = hybridShape(chunks, path, 5e-4);
        const tail = tailChunks(chunks, path);
        const headNs = ((chunks - tail) * CHUNK_NS) / (1 - probability);
        const tailNs = (tail + Math.ceil(tail / k) * parity) * CHUNK_NS;
        const meanNs = headNs + tailNs + RTT_NS * (1 + 1.25 * tailFailure(chunks, path));
        const boundNs = (chunks * CHUNK_NS) / (1 - probability) + RTT_NS;
        expect(meanNs / boundNs - 1).toBeLessThan(probability <= 1e-2 ? 0.03 : 0.06);
      }
    }
  });

  test("has one parity chunk fewer only at the price of the target or of time", () => {
    for (const probability of [1e-3, 1e-2, 1e-1]) {
      for (const chunks of [1000, 16_384, 100_000]) {
        const path = view(probability);
        const { k, parity } = hybridShape(chunks, path, 5e-4);
        const blocks = Math.ceil(tailChunks(chunks, path) / k);
        expect(blocks * blockFailure(k, parity - 1, path)).toBeGreaterThan(5e-4);
      }
    }
  });

  test("without a target has the parity that pays: none for a rare loss, some for a usual one", () => {
    expect(hybridShape(100, view(1e-7), 1).parity).toBe(0);
    expect(hybridShape(16_384, view(1e-3), 1).parity).toBeGreaterThan(0);
    expect(tailFailure(16_384, view(1e-3), 1)).toBeLessThan(0.05);
  });

  test("answers what blocks without parity lose by its rows", () => {
    for (const probability of [1e-4, 1e-2, 0.1]) {
      const { k, rows } = hybridShape(131_072, view(probability), 5e-4);
      expect(blockFailure(k, rows, view(probability))).toBeLessThan(1e-7);
    }
    expect(hybridShape(131_072, view(1e-3), 5e-4).k).toBe(240);
  });

  test("lets blocks take turns when losses come in bursts, and where the tail has many blocks anyway", () => {
    expect(hybridShape(16_384, view(1e-3), 5e-4).interleave).toBe(8);
    // A tail within one block stays within one.
    expect(hybridShape(16_384, view(1e-3, { rttNs: 100_000 }), 5e-4).interleave).toBe(1);
    expect(hybridShape(200, view(1e-3), 5e-4).interleave).toBe(1);
    const bursty = view(1e-3, { burstChunks: 4 });
    const shape = hybridShape(16_384, bursty, 5e-4);
    expect(shape.interleave).toBe(INTERLEAVE_MAX);
    expect(blockFailure(shape.k, shape.parity, bursty)).toBeGreaterThan(
      100 * blockFailure(shape.k, shape.parity, bursty, shape.interleave),
    );
  });
});
