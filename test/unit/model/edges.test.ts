/** Settings at the edges: unlimited rates, no delay, loss near 1, answers that hardly come. */
import { describe, expect, test } from "vitest";
import { boundNs } from "../../../src/model/bounds.ts";
import { PLAN_SCHEMES, plan } from "../../../src/model/planner.ts";
import { predict } from "../../../src/model/predict.ts";
import { parseScheme, SCHEME_NAMES } from "../../../src/model/scheme.ts";
import type { Setting } from "../../../src/model/types.ts";

const USUAL: Setting = {
  bytes: 2 ** 27,
  packetBytes: 4096,
  chunkBytes: 65_536,
  rateBps: 400e9,
  packetOverheadBytes: 0,
  rttNs: 25e6,
  loss: { probability: 1e-4 },
  controlLoss: 0,
};

const EDGES: Readonly<Record<string, Partial<Setting>>> = {
  "one byte": { bytes: 1 },
  "2^31 chunks": { bytes: 2 ** 43, packetBytes: 4096, chunkBytes: 4096 },
  "no limit of rate": { rateBps: Infinity },
  "a rate beyond sense": { rateBps: 1e300 },
  "a bit a second": { rateBps: 1 },
  "no delay": { rttNs: 0 },
  "no delay at a low rate": { rttNs: 0, rateBps: 1e6 },
  "neither delay nor limit": { rttNs: 0, rateBps: Infinity },
  "next to no loss": { loss: { probability: 1e-300 } },
  "half of all packets": { bytes: 2 ** 20, chunkBytes: 4096, loss: { probability: 0.5 } },
  "bursts of a second": { loss: { probability: 0.01, burstPackets: 1e7 } },
  "a spell that never ends": {
    chunkBytes: 4096,
    loss: { probability: 0.5, spells: { enter: 0.001, leave: 0, lossBad: 0.5, lossGood: 0.01 } },
  },
  "packets that take turns": {
    bytes: 2 ** 20,
    chunkBytes: 4096,
    loss: { probability: 0.5, spells: { enter: 1, leave: 1, lossBad: 1, lossGood: 0 } },
  },
  "half of all answers": { controlLoss: 0.5 },
};

const POLICIES = [...SCHEME_NAMES, "ec-mds(255,1)", "ec-mds(1,1)", "ec-xor(3,3)"];
const SHARES = [1e-6, 0.01, 0.5, 0.99, 0.999, 1 - 1e-6];

describe.each(Object.entries(EDGES))("%s", (_, edge) => {
  const setting: Setting = { ...USUAL, ...edge };

  test.each(POLICIES)("%s: all figures are numbers, in order", (policy) => {
    const prediction = predict(parseScheme(policy, setting), setting);
    const quantiles = SHARES.map((q) => prediction.quantileNs(q));
    for (const ns of [...quantiles, prediction.meanNs]) expect(ns).toSatisfy(Number.isFinite);
    expect(quantiles).toEqual([...quantiles].sort((a, b) => a - b));
    for (const [i, q] of SHARES.entries())
      expect(prediction.cdf(quantiles[i] as number)).toBeGreaterThan(q - 1e-6);
    expect(prediction.meanNs).toBeGreaterThan((quantiles[0] as number) * (1 - 1e-9) - 1);
    expect(prediction.wireOverhead).toBeGreaterThanOrEqual(0);
    expect(prediction.fallbackProbability).toBeGreaterThanOrEqual(0);
    expect(prediction.fallbackProbability).toBeLessThanOrEqual(1);
  });

  test("is planned for with numbers", () => {
    const { best, runnersUp } = plan({ setting, objective: 0.999 });
    expect([best, ...runnersUp]).toHaveLength(PLAN_SCHEMES.length);
    for (const { estimate, overBound, valueNs } of [best, ...runnersUp])
      for (const value of [estimate.meanNs, estimate.wireOverhead, overBound, valueNs])
        expect(value).toSatisfy(Number.isFinite);
  });
});

test("parity is in at once where injection takes no time", () => {
  const setting = { ...USUAL, rateBps: Infinity, loss: { probability: 1e-3 } };
  const { fallbackProbability, meanNs } = predict(parseScheme("ec-mds(32,8)"), setting);
  const waits = (1 + 1 / 4) * USUAL.rttNs;
  expect(meanNs).toBeCloseTo(USUAL.rttNs + fallbackProbability * waits, -3);
});

test("repairs that are hardly ever asked for take as much longer", () => {
  const lossy = { ...USUAL, bytes: 4096, loss: { probability: 0.5 } };
  const [some, most] = [0.9, 0.95].map((controlLoss) =>
    predict(parseScheme("sr-nack"), { ...lossy, controlLoss }).quantileNs(0.999),
  );
  // Rounds that all of a thousandth of messages need: of those asked for, each fails with a half.
  const rounds = (lost: number) => Math.log(1e-3 / 0.5) / Math.log(lost + (1 - lost) / 2);
  expect((most as number) / (some as number)).toBeGreaterThan((rounds(0.95) / rounds(0.9)) * 0.9);
});

test("a chunk of a message's only packets is as likely as those are to be lost", () => {
  const loss = { probability: 0.2 };
  const setting = { ...USUAL, bytes: 4096, rttNs: 0, loss };
  expect(boundNs(setting)).toBeCloseTo((4096 * 8) / 400 / 0.8, 6);
});

test("repairs that share the wire do not put off those that are not needed", () => {
  const few = { bytes: 139_263, chunkBytes: 69_632, rateBps: 1e9, rttNs: 1000 };
  const setting = { ...USUAL, ...few, loss: { probability: 1e-9 } };
  const idealNs = (few.bytes * 8e9) / few.rateBps + few.rttNs;
  for (const policy of ["sr-rto", "sr-nack"])
    expect(predict(parseScheme(policy), setting).meanNs / idealNs).toBeCloseTo(1, 4);
});

test("a short message is as likely as its few packets to need a repair", () => {
  const setting = { ...USUAL, bytes: 1, loss: { probability: 0.1 } };
  const { fallbackProbability } = predict(parseScheme("ec-xor(1,1)"), setting);
  expect(fallbackProbability).toBeCloseTo(0.1 ** 2, 6);
});

test.each(POLICIES)("%s: an empty message takes a round trip", (policy) => {
  const setting = { ...USUAL, bytes: 0 };
  expect(predict(parseScheme(policy, setting), setting).meanNs).toBe(setting.rttNs);
});

describe("loss as good as 1 is refused, not predicted", () => {
  const setting = { ...USUAL, loss: { probability: 0.9 } };

  test.each(["bound", "gbn", "hybrid"])("%s", (policy) => {
    expect(() => predict(parseScheme(policy, setting), setting)).toThrow(/too near to 1/);
  });

  test.each(["ec-mds(32,8)", "ec-xor(32,8)"])("%s", (policy) => {
    const chunks = { ...setting, chunkBytes: 4096, loss: { probability: 0.99 } };
    expect(() => predict(parseScheme(policy, chunks), chunks)).toThrow(/too near to 1/);
  });

  test("the planner", () => {
    expect(() => plan({ setting, objective: "mean" })).toThrow(/too near to 1/);
  });
});
