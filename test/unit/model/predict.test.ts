/** What predictions have in common: bad input, loss by packets and in bursts, links and schemes from text. */
import { describe, expect, test } from "vitest";
import { findProfile } from "../../../src/link/profiles.ts";
import { boundNs, idealNs } from "../../../src/model/bounds.ts";
import { chunkLoss, incompleteAfter, logComplete } from "../../../src/model/loss.ts";
import { predict } from "../../../src/model/predict.ts";
import { formatScheme, parseScheme, SCHEME_DEFAULTS } from "../../../src/model/scheme.ts";
import { settingOfText } from "../../../src/model/setting.ts";
import type { Setting } from "../../../src/model/types.ts";
import { POLICIES, parsePolicy } from "../../../src/reliability/registry.ts";

const SIZES = { bytes: 2 ** 27, packetBytes: 4096, chunkBytes: 65536 };
const setting = settingOfText("wan-3750km", SIZES);
const SCHEMES = ["gbn", "sr-rto", "sr-nack", "ec-mds", "ec-xor", "hybrid", "ideal", "bound"];

describe("bad input is refused, naming it", () => {
  const refused = (change: Partial<Setting>, shown: string) => {
    for (const text of SCHEMES) {
      const scheme = parseScheme(text, setting);
      expect(() => predict(scheme, { ...setting, ...change })).toThrow(
        expect.objectContaining({
          code: "INVALID_ARGUMENT",
          message: expect.stringContaining(shown),
        }),
      );
    }
  };

  test.each([
    [{ rateBps: 0 }, "rate 0"],
    [{ rateBps: Number.NaN }, "rate NaN"],
    [{ rateBps: -1 }, "rate -1"],
    [{ bytes: -1 }, "bytes -1"],
    [{ bytes: 1.5 }, "bytes 1.5"],
    [{ bytes: Number.NaN }, "bytes NaN"],
    [{ packetBytes: 0 }, "packetBytes 0"],
    [{ chunkBytes: 5000 }, "chunkBytes 5000"],
    [{ bytes: 2 ** 50 }, "too many chunks"],
    [{ rttNs: Number.NaN }, "RTT NaN"],
    [{ rttNs: Infinity }, "RTT Infinity"],
    [{ packetOverheadBytes: -4096 }, "overhead -4096"],
    [{ loss: { probability: 1 } }, "loss 1"],
    [{ loss: { probability: Number.NaN } }, "loss NaN"],
    [{ loss: { probability: -0.1 } }, "loss -0.1"],
    [{ loss: { probability: 0.1, burstPackets: 0.5 } }, "bursts of 0.5"],
    [{ controlLoss: 1 }, "control frames 1"],
    [{ controlLoss: Number.NaN }, "control frames NaN"],
  ] as [Partial<Setting>, string][])("%j", (change, shown) => refused(change, shown));

  test.each([
    ["sr-rto", { kind: "sr-rto", alpha: 0 }],
    ["sr-nack", { kind: "sr-nack", alpha: 2, reorder: Number.NaN }],
    ["ec-mds", { kind: "ec-mds", k: 250, m: 8, beta: 1 }],
    ["ec-xor", { kind: "ec-xor", k: 4, m: 8, beta: 1 }],
    ["ec-mds", { kind: "ec-mds", k: 32, m: 8, beta: 0 }],
    ["hybrid", { kind: "hybrid", shape: { k: 0, rows: 1, parity: 1, interleave: 1 } }],
  ] as const)("a scheme of %s that cannot be", (kind, scheme) => {
    expect(() => predict(scheme, setting)).toThrow(kind);
  });

  test("a share of messages that is none", () => {
    for (const q of [0, 1, -1, Number.NaN])
      expect(() => predict({ kind: "gbn" }, setting).quantileNs(q)).toThrow("out of range");
  });

  test("links that deliver nothing", () => {
    expect(() => settingOfText("rate 1gbit loss 100%", SIZES)).toThrow("every packet");
    expect(() => settingOfText("rate 1gbit corrupt 100%", SIZES)).toThrow("every packet");
  });

  test("chunk loss too near to 1 to wait for", () => {
    const path = { ...setting, loss: { probability: 0.999 } };
    expect(() => predict(parseScheme("sr-rto"), path)).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED" }),
    );
  });
});

describe("every scheme", () => {
  test.each(SCHEMES)("%s: an empty message takes a round trip or less", (text) => {
    const empty = { ...setting, bytes: 0 };
    const { meanNs } = predict(parseScheme(text, empty), empty);
    expect(meanNs).toBeLessThanOrEqual(setting.rttNs + 10);
  });

  test.each(SCHEMES)("%s: no rate limit is no injection time", (text) => {
    const path = { ...setting, rateBps: Infinity, loss: { probability: 0 }, controlLoss: 0 };
    expect(predict(parseScheme(text, path), path).meanNs).toBeCloseTo(setting.rttNs, 3);
  });

  test.each(SCHEMES)("%s: what is lost of control frames costs time, and is said", (text) => {
    const whole = { ...setting, loss: { probability: 1e-4 }, controlLoss: 0 };
    const lossy = { ...whole, controlLoss: 0.05 };
    const [without, with_] = [whole, lossy].map((path) => predict(parseScheme(text, path), path));
    expect(with_!.meanNs).toBeGreaterThanOrEqual(without!.meanNs);
    if (["ideal", "bound", "hybrid"].includes(text)) return;
    expect(with_!.meanNs).toBeGreaterThan(without!.meanNs);
    expect(with_).toMatchObject({ exact: false, caveat: expect.stringContaining("control") });
    expect(with_!.quantileNs(0.999)).toBeGreaterThan(without!.quantileNs(0.5));
  });

  test("ideal and bound are M T + RTT and M T / (1 - P) + RTT", () => {
    const path = settingOfText("rate 8gbit 66 delay 5ms loss 1%", SIZES);
    const injectionNs = 2 ** 27 + 32768 * 66;
    expect(idealNs(path)).toBeCloseTo(injectionNs + 10e6, 3);
    expect(boundNs(path)).toBeCloseTo(injectionNs / 0.99 ** 16 + 10e6, 0);
  });
});

describe("loss of chunks", () => {
  test("independent packets: 1 - (1 - p^y)^N, to the last digit however small", () => {
    for (const p of [1e-14, 1e-6, 0.3])
      for (const sends of [1, 2, 5]) {
        const missing = incompleteAfter({ probability: p }, 16, sends);
        const exact = -Math.expm1(16 * Math.log1p(-(p ** sends)));
        expect(Math.abs(missing / exact - 1)).toBeLessThan(1e-13);
      }
    expect(incompleteAfter({ probability: 1e-14 }, 16, 1) / 1.6e-13).toBeCloseTo(1, 10);
  });

  test("bursts of the length of chance are chance", () => {
    for (const p of [1e-6, 0.01, 0.3]) {
      const burst = { probability: p, burstPackets: 1 / (1 - p) };
      for (const sends of [1, 2, 3])
        expect(
          logComplete(burst, 20, sends) / logComplete({ probability: p }, 20, sends),
        ).toBeCloseTo(1, 9);
    }
  });

  test("a burst hides in a chunk: P is about p (B + N - 1) / B", () => {
    const p = 1e-6;
    for (const [burstPackets, packets] of [
      [4, 16],
      [64, 16],
      [16, 1],
    ] as const) {
      const chunk = incompleteAfter({ probability: p, burstPackets }, packets, 1);
      expect(chunk / ((p * (burstPackets + packets - 1)) / burstPackets)).toBeCloseTo(1, 3);
    }
  });

  test("of long rows of packets each adds the same", () => {
    const loss = { probability: 1e-4, burstPackets: 8 };
    const [one, two] = [2000, 4000].map((packets) => logComplete(loss, packets, 1));
    expect(two! / one!).toBeCloseTo(2, 2);
    const three = incompleteAfter({ probability: 0.2, burstPackets: 4 }, 8, 40);
    expect(three).toBeGreaterThan(0);
    expect(three).toBeLessThan(1e-12);
  });

  test("the profile of Uno: shares of ten-packet blocks with 1, 2 and 3 losses", () => {
    const { loss } = settingOfText(findProfile("uno-d1")!.text, SIZES);
    const any = incompleteAfter(loss, 10, 1);
    expect(any / (3.0e-4 + 7.5e-5 + 1.6e-5)).toBeCloseTo(1, 1);
    expect(loss.spells).toBeDefined();
    const alone = incompleteAfter({ probability: loss.probability }, 10, 1);
    expect(any).toBeLessThan(alone * 0.85);
  });

  test("runs of losses count about once in a message, not once a chunk they reach", () => {
    const base = { ...setting, loss: { probability: 1e-5 }, controlLoss: 0 };
    const burst = { ...base, loss: { probability: 1e-5, burstPackets: 64 } };
    const rto = parseScheme("sr-rto");
    const touched = (path: Setting) => 1 - predict(rto, path).cdf(idealNs(path) + 1e6);
    // 32768 packets lose 0.33 on average: alone, or 64 at a time.
    expect(touched(base)).toBeCloseTo(1 - Math.exp(-0.328), 2);
    expect(touched(burst)).toBeCloseTo(0.328 / 64, 3);
    expect(chunkLoss(burst)).toBeLessThan(chunkLoss(base));
  });
});

describe("settings from links", () => {
  test("rates, delays, overhead and loss of both ways", () => {
    const path = settingOfText("rate 10gbit 66 delay 5ms loss 1%", SIZES, "delay 2ms loss 3%");
    expect(path).toMatchObject({
      rateBps: 10e9,
      packetOverheadBytes: 66,
      rttNs: 7e6,
      loss: { probability: 0.01 },
    });
    expect(path.controlLoss).toBeCloseTo(0.02, 12);
    expect(settingOfText("delay 1ms", SIZES).rateBps).toBe(Infinity);
  });

  test("loss by payload, corruption and bursts", () => {
    const bySize = settingOfText("cscs-350km", { ...SIZES, packetBytes: 8192 });
    expect(bySize.loss.probability).toBeCloseTo(0.01, 12);
    expect(bySize.controlLoss).toBeCloseTo(1e-3, 12);
    const corrupt = settingOfText("delay 1ms loss 1% corrupt 1%", SIZES);
    expect(corrupt.loss.probability).toBeCloseTo(1 - 0.99 ** 2, 12);
    const { loss } = settingOfText("starlink-loaded", SIZES);
    expect(loss.burstPackets).toBeCloseTo(4, 9);
    expect(loss.probability).toBeCloseTo(0.0156, 4);
  });
});

describe("schemes from text", () => {
  test("every policy that is no mixture of others has a scheme, by its own canonical text", () => {
    for (const { name } of POLICIES.filter(({ name: policy }) => policy !== "auto")) {
      const canonical = parsePolicy(name).name;
      const scheme = parseScheme(canonical, setting);
      expect(scheme.kind).toBe(name);
      if (scheme.kind !== "hybrid") expect(formatScheme(scheme)).toBe(canonical);
    }
  });

  test.each([
    "sr-rto(alpha=1)",
    "sr-nack(alpha=4,reorder=0.25)",
    "sr-nack(reorder=0.001)",
    "ec-mds(20,5)",
    "ec-xor(4,2,beta=0.5)",
    "ideal",
    "bound",
    "hybrid(k=32,rows=8,parity=4,interleave=2)",
  ])("%s says the same again", (text) => {
    expect(formatScheme(parseScheme(text))).toBe(text);
  });

  test("defaults are the policies' own: leaving them out is giving them", () => {
    const { alpha, reorder, k, m, beta, target } = SCHEME_DEFAULTS;
    expect(parsePolicy(`sr-nack(${alpha},${reorder})`).name).toBe("sr-nack");
    expect(parsePolicy(`ec-mds(${k},${m},${beta})`).name).toBe(parsePolicy("ec-mds").name);
    expect(parsePolicy(`hybrid(${target})`).name).toBe("hybrid");
  });

  test.each([
    ["tcp", "known schemes"],
    ["sr-rto(0)", "alpha 0"],
    ["ec-mds(0,1)", "k + m"],
    ["ec-xor(4,8)", "at most k"],
    ["hybrid", "each message"],
    ["hybrid(k=3)", "not complete"],
    ["hybrid(target=2)", "out of range"],
    ["bound(1)", "takes no options"],
  ])("%s is refused", (text, shown) => {
    expect(() => parseScheme(text)).toThrow(shown);
  });
});
