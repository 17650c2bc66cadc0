/** Fits give back what records were made from. Seeds are fixed. */
import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { type Chain, logLikelihood, runsOf, runTail } from "../../../src/link/chain.ts";
import { FIT_LIMITS, fitLoss, fitLossBySize } from "../../../src/link/fit.ts";
import { formatLink, meanBurstPackets, meanLoss, parseLink } from "../../../src/link/profile.ts";
import { expectRefusal } from "../base/refusal.ts";

/** A record drawn from a chain, as the link draws it: the loss by the state before the step. */
function draw({ p, r, lossBad, lossGood }: Chain, packets: number, seed: number): Uint8Array {
  const random = new Random(seed, "record");
  let bad = random.chance(p / (p + r));
  return Uint8Array.from({ length: packets }, () => {
    const lost = random.chance(bad ? lossBad : lossGood);
    bad = bad ? !random.chance(r) : random.chance(p);
    return lost ? 1 : 0;
  });
}

function independent(loss: number, packets: number, seed: number): Uint8Array {
  return draw({ p: 0.5, r: 0.5, lossBad: loss, lossGood: loss }, packets, seed);
}

const GILBERT: Chain = { p: 0.001, r: 0.125, lossBad: 1, lossGood: 0 };
const ELLIOTT: Chain = { p: 0.002, r: 0.02, lossBad: 0.3, lossGood: 0 };
const BACKGROUND: Chain = { p: 0.0005, r: 0.05, lossBad: 0.9, lossGood: 0.005 };

describe("the chain", () => {
  /** Sums over all paths of states: nothing in common with powers of matrices. */
  function bruteForce(chain: Chain, trace: readonly number[]): number {
    const share = chain.p / (chain.p + chain.r);
    let total = 0;
    for (let states = 0; states < 2 ** (trace.length + 1); states++) {
      let weight = states % 2 === 1 ? share : 1 - share;
      for (const [i, lost] of trace.entries()) {
        const bad = ((states >> i) & 1) === 1;
        const then = ((states >> (i + 1)) & 1) === 1;
        const loss = bad ? chain.lossBad : chain.lossGood;
        const toBad = bad ? 1 - chain.r : chain.p;
        weight *= (lost === 1 ? loss : 1 - loss) * (then ? toBad : 1 - toBad);
      }
      total += weight;
    }
    return total;
  }

  const chains: Chain[] = [
    ...[GILBERT, ELLIOTT, BACKGROUND],
    { p: 1, r: 1, lossBad: 1, lossGood: 0 },
    { p: 0.3, r: 0.7, lossBad: 0.4, lossGood: 0.4 },
    { p: 0.9, r: 0.8, lossBad: 0.6, lossGood: 0.1 },
  ];

  test("likelihoods are the sum over all paths", () => {
    for (const chain of chains) {
      for (let bits = 0; bits < 2 ** 7; bits++) {
        const trace = Array.from({ length: 7 }, (_, i) => (bits >> i) & 1);
        const expected = bruteForce(chain, trace);
        const found = Math.exp(logLikelihood(chain, runsOf(Uint8Array.from(trace))));
        expect(Math.abs(found - expected)).toBeLessThan(1e-12);
      }
    }
  });

  test("a run of millions neither underflows nor costs", () => {
    const runs = { firstLost: false, lengths: Uint32Array.of(10_000_000, 1, 5_000_000) };
    const likelihood = logLikelihood(GILBERT, runs);
    const { p, r } = GILBERT;
    const expected = Math.log(r / (p + r)) + 14_999_998 * Math.log(1 - p) + Math.log(p * r);
    expect(likelihood).toBeCloseTo(expected, 4);
  });

  test("run lengths of Gilbert's chain are geometric; their mean is the link's mean burst", () => {
    const tail = runTail(GILBERT);
    for (const n of [1, 2, 10, 50]) expect(tail(n)).toBeCloseTo(0.875 ** (n - 1), 12);
    for (const chain of [GILBERT, ELLIOTT, BACKGROUND]) {
      const { p: geP, r: geR, lossBad: geLossBad, lossGood: geLossGood } = chain;
      const link = { loss: "gilbert_elliott", geP, geR, geLossBad, geLossGood } as const;
      const of = runTail(chain);
      let mean = 0;
      for (let n = 1; n < 1000; n++) mean += of(n);
      expect(meanBurstPackets(link, 1)).toBeCloseTo(mean, 9);
    }
  });
});

describe("fitLoss", () => {
  test("independent losses are told as such, within the interval", () => {
    const fit = fitLoss(independent(0.01, 50_000, 1));
    expect(fit.link.loss).toBe("bernoulli");
    expect(fit.candidates.map(({ model }) => model)).toContain("gilbert-elliott-4");
    expect(fit.lossLow).toBeLessThan(0.01);
    expect(fit.lossHigh).toBeGreaterThan(0.01);
    expect(fit.loss).toBe(fit.lost / 50_000);
    expect(fit.distance).toBeLessThan(fit.distanceMax);
    expect(parseLink(formatLink(fit.link))).toEqual(fit.link);
  });

  test("intervals of 95 % hold the truth about that often, of bursts too", () => {
    for (const chain of [GILBERT, { p: 0.5, r: 0.5, lossBad: 0.01, lossGood: 0.01 }]) {
      const truth = (chain.p * chain.lossBad + chain.r * chain.lossGood) / (chain.p + chain.r);
      const held = Array.from({ length: 40 }, (_, seed) => {
        const { lossLow, lossHigh } = fitLoss(draw(chain, 10_000, seed));
        return lossLow <= truth && truth <= lossHigh;
      }).filter((holds) => holds).length;
      expect(held).toBeGreaterThanOrEqual(35);
    }
  });

  test("bursts of 8 are found", () => {
    const fit = fitLoss(draw(GILBERT, 200_000, 2));
    expect(fit.link).toMatchObject({ loss: "gilbert_elliott", geLossBad: 1, geLossGood: 0 });
    expect(Math.abs(fit.link.geP! / GILBERT.p - 1)).toBeLessThan(0.2);
    expect(Math.abs(fit.link.geR! / GILBERT.r - 1)).toBeLessThan(0.2);
    expect(Math.abs(fit.meanBurst - 8)).toBeLessThan(1.5);
    expect(Math.abs(fit.fittedBurst - 8)).toBeLessThan(1.5);
    expect(fit.distance).toBeLessThan(fit.distanceMax);
    const [first, second] = fit.candidates;
    expect(first!.bic).toBeLessThanOrEqual(second!.bic);
  });

  test("spells in which only some are lost take three parameters", () => {
    const fit = fitLoss(draw(ELLIOTT, 400_000, 3));
    expect(fit.candidates[0]!.model).toBe("gilbert-elliott-3");
    expect(Math.abs(fit.link.geLossBad! / ELLIOTT.lossBad - 1)).toBeLessThan(0.2);
    expect(Math.abs(fit.link.geR! / ELLIOTT.r - 1)).toBeLessThan(0.3);
    expect(fit.distance).toBeLessThan(fit.distanceMax);
    // The two-parameter chain does not fit these spells.
    const gilbert = fit.candidates.find(({ model }) => model === "gilbert")!;
    expect(gilbert.bic).toBeGreaterThan(fit.candidates[0]!.bic + 100);
  });

  test("single losses beside bursts take four", () => {
    const fit = fitLoss(draw(BACKGROUND, 400_000, 4));
    expect(fit.candidates[0]!.model).toBe("gilbert-elliott-4");
    expect(Math.abs(fit.link.geLossGood! / BACKGROUND.lossGood - 1)).toBeLessThan(0.2);
    expect(Math.abs(fit.link.geLossBad! / BACKGROUND.lossBad - 1)).toBeLessThan(0.1);
    expect(Math.abs(fit.link.geR! / BACKGROUND.r - 1)).toBeLessThan(0.3);
  });

  test("a fit is never less likely than the chain that made the record", () => {
    for (const [seed, chain] of [ELLIOTT, BACKGROUND].entries()) {
      const trace = draw(chain, 100_000, 10 + seed);
      const best = Math.max(...fitLoss(trace).candidates.map((one) => one.logLikelihood));
      expect(best).toBeGreaterThan(logLikelihood(chain, runsOf(trace)) - 0.01);
    }
  });

  test("the run-length table counts every run once, and what is expected adds up", () => {
    const fit = fitLoss(draw(GILBERT, 100_000, 5));
    const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
    expect(sum(fit.runLengths.map(({ observed }) => observed))).toBe(fit.bursts);
    const expected = sum(fit.runLengths.map((bin) => bin.expected));
    expect(expected).toBeCloseTo(fit.bursts, 9);
    expect(fit.runLengths[fit.runLengths.length - 1]!.to).toBeGreaterThanOrEqual(fit.longestBurst);
  });

  test("none lost: at most 3 in n; all lost: at least all but 3 in n", () => {
    const none = fitLoss(new Uint8Array(3000));
    expect(none).toMatchObject({ lost: 0, loss: 0, lossLow: 0, lossHigh: 0.001, candidates: [] });
    expect(formatLink(none.link)).toBe("none");
    const all = fitLoss(new Uint8Array(3000).fill(1));
    expect(all).toMatchObject({ lost: 3000, loss: 1, lossLow: 0.999, lossHigh: 1 });
    expect(formatLink(all.link)).toBe("loss 100%");
  });

  test.each([
    ["one packet, lost", [1]],
    ["one of two", [1, 0]],
    ["the last", [0, 0, 0, 1]],
    ["every second", Array.from({ length: 100 }, (_, i) => i % 2)],
    ["one long burst", Array.from({ length: 100 }, (_, i) => (i > 40 && i < 90 ? 1 : 0))],
  ])("extreme records give links that parse: %s", (_, bits) => {
    const fit = fitLoss(Uint8Array.from(bits));
    expect(parseLink(formatLink(fit.link))).toEqual(fit.link);
    const lost = bits.filter((bit) => bit === 1).length;
    expect(fit.lost).toBe(lost);
    expect(fit.lossLow).toBeLessThanOrEqual(lost / bits.length);
    expect(fit.lossHigh).toBeGreaterThanOrEqual(lost / bits.length);
  });

  test("empty and too long records are refused", () => {
    expectRefusal(() => fitLoss(new Uint8Array()), "INVALID_ARGUMENT", ["0 packets"]);
    const long = new Uint8Array(FIT_LIMITS.packetsMax + 1);
    expectRefusal(() => fitLoss(long), "INVALID_ARGUMENT", [`${FIT_LIMITS.packetsMax}`]);
  });
});

describe("fitLossBySize", () => {
  test("loss that grows with the payload is told by size, ascending", () => {
    const { link, bySize } = fitLossBySize([
      { payloadBytes: 8192, trace: independent(0.05, 20_000, 1) },
      { payloadBytes: 1024, trace: independent(0.005, 20_000, 2) },
    ]);
    expect(bySize).toBe(true);
    expect(link.lossBySize!.map(([bytes]) => bytes)).toEqual([1024, 8192]);
    expect(Math.abs(meanLoss(link, 8192) - 0.05)).toBeLessThan(0.007);
    expect(parseLink(formatLink(link))).toEqual(link);
  });

  test("equal loss is not, nor are bursts", () => {
    const same = fitLossBySize([
      { payloadBytes: 1024, trace: independent(0.01, 20_000, 3) },
      { payloadBytes: 8192, trace: independent(0.01, 20_000, 4) },
    ]);
    expect(same).toMatchObject({ bySize: false, link: { loss: "bernoulli" } });
    const bursts = fitLossBySize([
      { payloadBytes: 1024, trace: draw(GILBERT, 20_000, 5) },
      { payloadBytes: 8192, trace: draw(GILBERT, 20_000, 6) },
    ]);
    expect(bursts).toMatchObject({ bySize: false, link: { loss: "gilbert_elliott" } });
  });

  test("a size without losses among others", () => {
    const { link, bySize } = fitLossBySize([
      { payloadBytes: 512, trace: new Uint8Array(10_000) },
      { payloadBytes: 1024, trace: independent(0.05, 10_000, 7) },
    ]);
    expect(bySize).toBe(true);
    expect(meanLoss(link, 512)).toBe(0);
    expect(fitLossBySize([{ payloadBytes: 512, trace: new Uint8Array(10) }])).toEqual({
      link: {},
      bySize: false,
    });
  });
});
