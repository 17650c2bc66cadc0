/** Samples are compared with the schemes simulated packet by packet, and with the formulas. */
import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { mean } from "../../../src/base/statistics.ts";
import { chunkLoss } from "../../../src/model/loss.ts";
import { predict } from "../../../src/model/predict.ts";
import {
  createSampler,
  predictionOfSamples,
  sampleTrials,
  TRIALS_PER_STREAM,
} from "../../../src/model/sample.ts";
import { lossWalk } from "../../../src/model/sample-loss.ts";
import { expectedSends, GoBackSampler, RepeatSampler } from "../../../src/model/sample-repeat.ts";
import { parseScheme } from "../../../src/model/scheme.ts";
import { fallbackNs, messageShape } from "../../../src/model/timing.ts";
import type { PacketLoss, Setting } from "../../../src/model/types.ts";
import { codingNs, goBackNs, repeatNs } from "./sample-reference.ts";

const SEED = 20_250_505;

/** 4 packets a chunk, a chunk a microsecond. */
function small(chunks: number, rttNs: number, loss: PacketLoss): Setting {
  const sizes = { bytes: chunks * 4000, packetBytes: 1000, chunkBytes: 4000 };
  return { ...sizes, rateBps: 32e9, packetOverheadBytes: 0, rttNs, loss, controlLoss: 0 };
}

/** The paper's setting with this chunk loss. */
function standard(bytes: number, chunkLost: number): Setting {
  const probability = -Math.expm1(Math.log1p(-chunkLost) / 16);
  const sizes = { bytes, packetBytes: 4096, chunkBytes: 65_536 };
  const path = { rateBps: 400e9, packetOverheadBytes: 0, rttNs: 25e6, controlLoss: 0 };
  return { ...sizes, ...path, loss: { probability } };
}

/** Greatest distance between the distribution functions of two sets of samples (Kolmogorov, Smirnov). */
function distance(a: Float64Array, b: Float64Array): number {
  const [x, y] = [Float64Array.from(a).sort(), Float64Array.from(b).sort()];
  let most = 0;
  for (let i = 0, j = 0; i < x.length && j < y.length; ) {
    const at = Math.min(x[i]!, y[j]!) + 1e-3;
    while (i < x.length && x[i]! <= at) i++;
    while (j < y.length && y[j]! <= at) j++;
    most = Math.max(most, Math.abs(i / x.length - j / y.length));
  }
  return most;
}

/** Two sets of n samples of one distribution are further apart once in 10^5. */
const apart = (n: number) => 2.47 * Math.sqrt(2 / n);

function drawn(n: number, one: (random: Random) => number): Float64Array {
  const random = new Random(SEED, "reference");
  return Float64Array.from({ length: n }, () => one(random));
}

const BURSTS: readonly PacketLoss[] = [
  { probability: 0.02, burstPackets: 3 },
  { probability: 0.1, burstPackets: 20 },
  { probability: 0.05, spells: { enter: 0.1, leave: 0.1, lossBad: 0.09, lossGood: 0.01 } },
];
const LOSSES: readonly PacketLoss[] = [
  ...[0.001, 0.05, 0.5].map((probability) => ({ probability })),
  ...BURSTS,
];

describe("losses", () => {
  test.each(LOSSES)("as many chunks are lost as the formula says: %j", (loss) => {
    const setting = small(1, 0, loss);
    const walk = lossWalk(setting);
    const random = new Random(SEED, "losses");
    const chunks = 400_000;
    let lost = 0;
    walk.begin(random);
    for (let at = 0; at < chunks; ) {
      const passed = walk.clean(chunks - at);
      at += passed;
      if (at === chunks) break;
      lost++;
      at++;
      expect(walk.lose()).toBeGreaterThan(0);
    }
    const share = chunkLoss(setting);
    // Runs make neighbours alike: their length is allowed for.
    const sigma = Math.sqrt((share * (1 - share) * 50) / chunks);
    expect(Math.abs(lost / chunks - share)).toBeLessThan(5 * sigma);
  });

  test.each([1e-12, 1e-3, 0.3, 0.9])("what a lost chunk needs, packet loss %d", (probability) => {
    const setting = small(1, 0, { probability });
    const walk = lossWalk(setting);
    walk.begin(new Random(SEED, "fates"));
    const repeats = Float64Array.from({ length: 20_000 }, () => walk.lose());
    const expected = (expectedSends(setting) - 1) / chunkLoss(setting);
    expect(mean(repeats) / expected).toBeGreaterThan(0.97);
    expect(mean(repeats) / expected).toBeLessThan(1.03);
  });
});

describe("against the schemes packet by packet", () => {
  const n = 2500;

  test.each(LOSSES)("Selective Repeat, repairs after the message: %j", (loss) => {
    const setting = small(30, 20_000, loss);
    const repair = { first: 61_000, later: 61_000, askLoss: 0 };
    const sampler = new RepeatSampler(setting, repair);
    const sampled = drawn(n, (random) => sampler.draw(random).completionNs);
    const reference = drawn(n, (random) =>
      repeatNs(setting, 60_000, random.stream(`${random.float()}`)),
    );
    expect(distance(sampled, reference)).toBeLessThan(apart(n));
  });

  test.each(LOSSES)("Selective Repeat, repairs among new chunks: %j", (loss) => {
    const setting = small(120, 10_000, loss);
    const repair = { first: 31_000, later: 31_000, askLoss: 0 };
    const sampler = new RepeatSampler(setting, repair);
    const sampled = drawn(n, (random) => sampler.draw(random).completionNs);
    const reference = drawn(n, (random) =>
      repeatNs(setting, 30_000, random.stream(`${random.float()}`)),
    );
    expect(distance(sampled, reference)).toBeLessThan(apart(n));
  });

  test.each([0.001, 0.02, 0.2])("Go-Back-N, packet loss %d", (probability) => {
    const setting = small(60, 20_000, { probability });
    const sampler = new GoBackSampler(setting, 60_000);
    const sampled = drawn(n, (random) => sampler.draw(random).completionNs);
    const reference = drawn(n, (random) => goBackNs(setting, 60_000, random));
    expect(distance(sampled, reference)).toBeLessThan(apart(n));
  });

  const codes = ["ec-mds(4,2)", "ec-xor(4,2)", "ec-xor(7,3)", "ec-mds(8,1)"];
  const cases = codes.flatMap((text) =>
    [3, 8, 29].flatMap((chunks) => [0.01, 0.1].map((loss) => [text, chunks, loss] as const)),
  );
  test.each(cases)("%s, %d chunks, packet loss %d", (text, chunks, probability) => {
    const scheme = parseScheme(text);
    if (scheme.kind !== "ec-mds" && scheme.kind !== "ec-xor") throw new Error(text);
    const setting = small(chunks, 200_000, { probability });
    const sampler = createSampler(scheme, setting);
    const random = new Random(SEED, "ec");
    const sampled = Float64Array.from({ length: n }, () => sampler.draw(random).completionNs);
    const roundNs = fallbackNs(scheme.beta, setting.rttNs);
    const reference = drawn(n, (random) => codingNs(scheme, setting, roundNs, random));
    expect(distance(sampled, reference)).toBeLessThan(apart(n));
  });

  test.each(BURSTS)("erasure coding in bursts: %j", (loss) => {
    const scheme = parseScheme("ec-xor(6,3)");
    if (scheme.kind !== "ec-xor") throw new Error("not the scheme");
    const setting = small(40, 200_000, loss);
    const sampler = createSampler(scheme, setting);
    const random = new Random(SEED, "ec");
    const sampled = Float64Array.from({ length: n }, () => sampler.draw(random).completionNs);
    const roundNs = fallbackNs(scheme.beta, setting.rttNs);
    const reference = drawn(n, (random) => codingNs(scheme, setting, roundNs, random));
    expect(distance(sampled, reference)).toBeLessThan(apart(n));
  });
});

describe("against the formulas", () => {
  const n = 4000;

  test.each([1e-6, 1e-4, 1e-3, 1e-2, 1e-1])("the paper's message, chunk loss %d", (loss) => {
    for (const text of ["sr-rto", "sr-nack", "ec-mds", "ec-xor"]) {
      const scheme = parseScheme(text);
      const setting = standard(2 ** 27, loss);
      const predicted = predict(scheme, setting);
      const samples = sampleTrials(scheme, setting, { seed: SEED, first: 0, count: n });
      const sampled = predictionOfSamples(samples);
      expect(sampled.method).toBe("sampled");
      expect(sampled.exact).toBe(false);
      expect(sampled.meanNs / predicted.meanNs, text).toBeGreaterThan(0.98);
      expect(sampled.meanNs / predicted.meanNs, text).toBeLessThan(1.02);
      if (!predicted.exact) continue;
      for (const q of [0.1, 0.5, 0.9, 0.99, 0.999]) {
        // Where F jumps, the share just before the quantile may be lower, and that at it higher.
        const ns = predicted.quantileNs(q);
        const room = (share: number) => 5 * Math.sqrt((share * (1 - share)) / n) + 1 / n;
        const [before, at] = [predicted.cdf(ns - 1), predicted.cdf(ns)];
        expect(sampled.cdf(ns + 1), text).toBeGreaterThan(at - room(at));
        expect(sampled.cdf(ns - 1), text).toBeLessThan(before + room(before));
      }
    }
  });

  test("a long message, whose repairs meet new chunks on the wire", () => {
    for (const text of ["sr-rto(0.5)", "sr-nack", "ec-mds", "ec-xor"])
      for (const loss of [1e-3, 1e-1]) {
        const setting = standard(2 ** 32, loss);
        const scheme = parseScheme(text);
        const samples = sampleTrials(scheme, setting, { seed: SEED, first: 0, count: 256 });
        const ratio = mean(samples.completionNs) / predict(scheme, setting).meanNs;
        expect(Math.abs(ratio - 1), `${text} ${loss}`).toBeLessThan(0.02);
      }
  });

  test("the hybrid scheme, all tail and with a head", () => {
    for (const bytes of [2 ** 23, 2 ** 30, 2 ** 32])
      for (const loss of [1e-3, 1e-2, 1e-1]) {
        const setting = standard(bytes, loss);
        const scheme = parseScheme("hybrid", setting);
        const samples = sampleTrials(scheme, setting, { seed: SEED, first: 0, count: 256 });
        const predicted = predict(scheme, setting);
        const ratio = mean(samples.completionNs) / predicted.meanNs;
        expect(Math.abs(ratio - 1), `${bytes} ${loss}`).toBeLessThan(0.01);
        expect(Math.abs(samples.wireOverhead - predicted.wireOverhead)).toBeLessThan(0.01);
      }
  });

  test("a block of the hybrid scheme that its rows do not save waits for a repair", () => {
    const setting = standard(2 ** 22, 0.1);
    const scheme = parseScheme("hybrid(k=32,rows=32,parity=5,interleave=2)");
    const samples = sampleTrials(scheme, setting, { seed: SEED, first: 0, count: 4000 });
    const { fallbackProbability, meanNs } = predict(scheme, setting);
    expect(fallbackProbability).toBeGreaterThan(0.1);
    expect(Math.abs(samples.fallbackProbability - fallbackProbability)).toBeLessThan(0.03);
    expect(Math.abs(mean(samples.completionNs) / meanNs - 1)).toBeLessThan(0.03);
  });

  test("wire overhead and fallbacks", () => {
    for (const text of ["sr-rto", "sr-nack", "ec-mds", "ec-xor"]) {
      const setting = standard(2 ** 26, 0.05);
      const scheme = parseScheme(text);
      const samples = sampleTrials(scheme, setting, { seed: SEED, first: 0, count: 2000 });
      const predicted = predict(scheme, setting);
      expect(Math.abs(samples.wireOverhead - predicted.wireOverhead), text).toBeLessThan(0.01);
      const room = Math.abs(samples.fallbackProbability - predicted.fallbackProbability);
      expect(room, text).toBeLessThan(0.05);
    }
  });
});

describe("streams", () => {
  const schemes = [
    "gbn",
    "sr-rto",
    "sr-nack",
    "ec-mds",
    "ec-xor(32,8)",
    "hybrid(k=100,rows=20,parity=4,interleave=2)",
  ];
  test.each(schemes)("a trial of %s does not depend on how trials are parted", (text) => {
    const scheme = parseScheme(text);
    const setting = standard(2 ** 25, 0.02);
    const count = 3 * TRIALS_PER_STREAM + 17;
    const whole = sampleTrials(scheme, setting, { seed: 7, first: 0, count }).completionNs;
    const parts: number[] = [];
    for (const size of [1, 63, 64, 2, 40, 39]) {
      const range = { seed: 7, first: parts.length, count: size };
      parts.push(...sampleTrials(scheme, setting, range).completionNs);
    }
    expect(parts).toEqual([...whole]);
    const other = sampleTrials(scheme, setting, { seed: 8, first: 0, count }).completionNs;
    expect([...other]).not.toEqual([...whole]);
  });
});

describe("extremes", () => {
  const all = [
    "ideal",
    "bound",
    ...["gbn", "sr-rto", "sr-nack", "ec-mds", "ec-xor"],
    "hybrid(k=8,rows=8,parity=4,interleave=1)",
  ];

  test.each(all)("%s: nothing to send, nothing lost, one short chunk", (text) => {
    const scheme = parseScheme(text);
    const range = { seed: 1, first: 0, count: 10 };
    const times = (setting: Setting) => new Set(sampleTrials(scheme, setting, range).completionNs);
    expect(times(standard(0, 0.1))).toEqual(new Set([25e6]));
    const { injectionNs } = messageShape(standard(1000, 0));
    expect(times(standard(1000, 0))).toEqual(new Set([25e6 + injectionNs]));
    for (const ns of times(standard(2 ** 22, 1e-12)))
      expect(ns).toBeLessThan(25e6 + 1.6 * messageShape(standard(2 ** 22, 0)).injectionNs);
  });

  test.each(all)("%s: most chunks are lost, and yet all arrive", (text) => {
    const samples = sampleTrials(parseScheme(text), standard(2 ** 20, 0.9), {
      seed: 1,
      first: 0,
      count: 50,
    });
    for (const ns of samples.completionNs) expect(Number.isFinite(ns) && ns >= 25e6).toBe(true);
  });

  test("no rate limit: everything is injected at once", () => {
    for (const text of all) {
      const setting = { ...standard(2 ** 20, 0.1), rateBps: Infinity };
      const samples = sampleTrials(parseScheme(text), setting, { seed: 1, first: 0, count: 50 });
      for (const ns of samples.completionNs) expect(Number.isFinite(ns) && ns >= 25e6).toBe(true);
    }
  });

  test("what cannot be is refused", () => {
    const range = { seed: 1, first: 0, count: 1 };
    expect(() => sampleTrials(parseScheme("gbn"), standard(-1, 0), range)).toThrow(/bytes -1/);
    expect(() =>
      predictionOfSamples(sampleTrials(parseScheme("gbn"), standard(1, 0), { ...range, count: 0 })),
    ).toThrow(/no samples/);
  });
});
