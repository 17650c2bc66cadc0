import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  checkLink,
  describeLink,
  formatLink,
  LINK_LIMITS,
  type LinkProfile,
  meanLoss,
  normalizeLink,
  PACKET_KINDS,
  parseLink,
  rttNs,
  toLink,
} from "../../../src/link/profile.ts";
import type { NativeLink } from "../../../src/transport/native.ts";
import { expectRefusal } from "../base/refusal.ts";

const refused = (text: string, parts: string[]) =>
  expectRefusal(() => parseLink(text), "INVALID_ARGUMENT", parts);

describe("the vocabulary of tc-netem", () => {
  test.each<[string, LinkProfile]>([
    ["rate 10gbit", { rateBps: 1e10 }],
    ["rate 1gbps -20", { rateBps: 8e9, packetOverheadBytes: -20 }],
    ["rate 0", {}],
    ["delay 25ms", { delayNs: 25e6 }],
    ["delay 25ms 1ms 30%", { delayNs: 25e6, jitterNs: 1e6, delayCorrelation: 0.3 }],
    ["delay 1ms 10us distribution pareto", { delayNs: 1e6, jitterNs: 1e4, distribution: "pareto" }],
    ["delay 1ms 10us distribution uniform", { delayNs: 1e6, jitterNs: 1e4 }],
    ["loss 0.1%", { loss: "bernoulli", lossProbability: 0.001 }],
    ["loss 1e-3", { loss: "bernoulli", lossProbability: 0.001 }],
    ["loss random 1% 25%", { loss: "bernoulli", lossProbability: 0.01, lossCorrelation: 0.25 }],
    ["loss 0", {}],
    [
      "loss gemodel 1% 10% 70% 0.1%",
      { loss: "gilbert_elliott", geP: 0.01, geR: 0.1, geLossBad: 0.7, geLossGood: 0.001 },
    ],
    [
      "loss gemodel 25%",
      { loss: "gilbert_elliott", geP: 0.25, geR: 0.75, geLossBad: 1, geLossGood: 0 },
    ],
    [
      "loss size 1KiB:0.1%,8192:1e-2",
      {
        loss: "by_size",
        lossBySize: [
          [1024, 0.001],
          [8192, 0.01],
        ],
      },
    ],
    ["loss trace 0010", { loss: "trace", lossTrace: Uint8Array.of(0, 0, 1, 0) }],
    ["duplicate 0.01% 5%", { duplicateProbability: 0.0001, duplicateCorrelation: 0.05 }],
    ["corrupt 2%", { corruptProbability: 0.02 }],
    [
      "delay 1ms reorder 0.5% 50% gap 5",
      { delayNs: 1e6, reorderProbability: 0.005, reorderCorrelation: 0.5, reorderGap: 5 },
    ],
    ["delay 1ms reorder 25% gap 1", { delayNs: 1e6, reorderProbability: 0.25 }],
    ["limit 1000", { limitPackets: 1000 }],
    [
      "drop ack 1 drop data 3-5",
      {
        drops: [
          { kind: 3, first: 1, last: 1 },
          { kind: 0, first: 3, last: 5 },
        ],
      },
    ],
    ["  RATE 1Gbit \n delay 1MS ", { rateBps: 1e9, delayNs: 1e6 }],
  ])("%s", (text, link) => {
    expect(parseLink(text)).toEqual(link);
  });

  test("a whole line of it", () => {
    const text =
      "rate 10gbit delay 12.5ms 0.5ms distribution normal loss 0.1% reorder 0.5% 50% duplicate 0.01%";
    expect(parseLink(text)).toEqual({
      rateBps: 1e10,
      delayNs: 12.5e6,
      jitterNs: 0.5e6,
      distribution: "normal",
      loss: "bernoulli",
      lossProbability: 0.001,
      reorderProbability: 0.005,
      reorderCorrelation: 0.5,
      duplicateProbability: 0.0001,
    });
  });

  test("a trace may come from a file where the caller reads files", () => {
    const readTrace = (path: string) => (path === "loss.txt" ? "0 1\n1\n" : "");
    expect(parseLink("loss trace @loss.txt", { readTrace }).lossTrace).toEqual(
      Uint8Array.of(0, 1, 1),
    );
    expectRefusal(() => parseLink("loss trace @empty", { readTrace }), "INVALID_ARGUMENT", [
      "0 packets",
    ]);
    refused("loss trace @loss.txt", ["@loss.txt"]);
  });
});

describe("names and overrides", () => {
  test("a term after a name replaces the profile's own, the name is then no longer its name", () => {
    expect(parseLink("wan-3750km")).toMatchObject({ name: "wan-3750km", lossProbability: 1e-5 });
    expect(parseLink("wan-3750km loss 1e-4 limit 9")).toEqual({
      rateBps: 4e11,
      delayNs: 12.5e6,
      loss: "bernoulli",
      lossProbability: 1e-4,
      limitPackets: 9,
    });
  });

  test("a replaced term leaves nothing of the old one behind", () => {
    expect(parseLink("starlink-idle loss 1%")).toEqual({
      rateBps: 150e6,
      delayNs: 25e6,
      loss: "bernoulli",
      lossProbability: 0.01,
    });
    expect(parseLink("starlink-idle loss none rate 0")).toEqual({ delayNs: 25e6 });
    expect(parseLink("demo-wan reorder 0 duplicate 0 loss 0")).toEqual({
      rateBps: 1e9,
      delayNs: 12.5e6,
    });
  });

  test("an unknown name is refused with the names there are", () => {
    refused("wan-3750", ['"wan-3750"', "wan-3750km", "starlink-loaded"]);
    refused("wan-3750km fast", ['"wan-3750km fast"']);
    refused("__proto__", ['"__proto__"']);
    refused("constructor", ['"constructor"']);
  });
});

describe("refusals name the term, the value and the form", () => {
  test.each([
    ["", ["empty", "none"]],
    ["rate", ['"rate"', "missing", "rate R"]],
    ["rate quick", ['"rate"', '"quick"', "400gbit"]],
    ["rate 2000tbit", ['"rate"', "2000000000000000"]],
    ["rate 0.5bit", ['"rate"', "0.5"]],
    ["rate 1gbit 1.5", ['"rate"', '"1.5"']],
    ["rate 1gbit 100000", ['"rate PACKETOVERHEAD"', "100000"]],
    ["delay 25", ['"delay"', '"25"', "25ms"]],
    ["delay 2h", ['"delay"', '"2h"']],
    ["delay 4000s", ['"delay"', "4000000000000"]],
    ["delay 5ms 1ms 120%", ['"delay"', '"120%"']],
    ["delay 5ms distribution normal", ['"delay"', "needs a jitter"]],
    ["delay 5ms 1ms distribution flat", ['"flat"', "paretonormal"]],
    ["delay 5ms 1ms 1% extra", ['"delay"', '"extra"']],
    ["loss", ['"loss"', "missing"]],
    ["loss 1", ['"loss"', '"1"', "1% or 100%"]],
    ["loss 2", ['"loss"', '"2"']],
    ["loss -1%", ['"loss"', '"-1%"']],
    ["loss 1% 2% 3%", ['"loss"', '"3%"']],
    ["loss gemodel 0 0", ['"loss gemodel"', "no state is ever left"]],
    ["loss size 1024", ['"loss"', "missing"]],
    ["loss size 8192:1%,1024:1%", ['"loss size"', "1024 follows 8192"]],
    ["loss size 70000:1%", ['"loss size BYTES"', "70000"]],
    ["loss size 1:1%:2%", ['"loss"', '"2%"']],
    ["loss trace", ['"loss"', "trace is missing"]],
    ["loss trace 01x", ['"loss"', "character 3"]],
    ["loss 1% loss 2%", ['"loss"', "twice"]],
    ["reorder 1%", ['"reorder"', "delay"]],
    ["delay 1ms reorder 1% gap", ['"reorder"', "gap is missing"]],
    ["delay 1ms reorder 1% gap 2000000", ['"reorder GAP"', "2000000"]],
    ["limit -3", ['"limit"', "-3"]],
    ["limit 1.5", ['"limit"', '"1.5"']],
    ["drop", ['"drop"', "kind is missing"]],
    ["drop acks 1", ['"drop"', '"acks"', "ack"]],
    ["drop ack", ['"drop"', "number is missing"]],
    ["drop ack 0", ['"drop N"', "0"]],
    ["drop ack 3-1", ['"drop"', "3-1"]],
    ["drop ack x", ['"drop"', '"x"']],
  ])("%j", (text, parts) => {
    refused(text, parts);
  });

  test("tables have limits", () => {
    const rules = Array.from({ length: LINK_LIMITS.dropRulesMax + 1 }, () => "drop data 1");
    refused(rules.join(" "), ["drop", `${LINK_LIMITS.dropRulesMax}`]);
    expect(parseLink(rules.slice(1).join(" ")).drops).toHaveLength(LINK_LIMITS.dropRulesMax);
    const sizes = Array.from({ length: LINK_LIMITS.lossSizesMax + 1 }, (_, i) => `${i + 1}:1%`);
    refused(`loss size ${sizes.join(",")}`, [`${LINK_LIMITS.lossSizesMax}`]);
  });

  test("a profile made by a program is checked as one from text", () => {
    const wrong: [LinkProfile, string][] = [
      [{ lossProbability: 1.5 }, "1.5"],
      [{ delayNs: 0.5 }, "0.5"],
      [{ delayNs: Number.NaN }, "NaN"],
      [{ rateBps: Number.POSITIVE_INFINITY }, "Infinity"],
      [{ loss: "sometimes" as "none" }, "sometimes"],
      [{ loss: "by_size" }, "no sizes"],
      [{ loss: "trace", lossTrace: new Uint8Array() }, "0 packets"],
      [{ drops: [{ kind: PACKET_KINDS.length, first: 1, last: 1 }] }, `${PACKET_KINDS.length}`],
      [{ rateBps: "1gbit" as unknown as number }, "1gbit"],
    ];
    for (const [link, part] of wrong) {
      expectRefusal(() => toLink(link), "INVALID_ARGUMENT", [part]);
    }
  });

  test("any text either parses or is refused as INVALID_ARGUMENT", () => {
    const word = fc.constantFrom(
      ...["rate", "delay", "loss", "drop", "reorder", "gap", "gemodel", "size", "trace", "limit"],
      ...[
        "distribution",
        "normal",
        "ack",
        "1%",
        "5ms",
        "1gbit",
        "0",
        "7",
        "1-2",
        "1:1%,2:2%",
        "01",
      ],
      ...["wan-3750km", "none", "x", "-", ":", ",", "@", "1e999", "%"],
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(word, fc.string()), { maxLength: 8 }), (words) => {
        try {
          checkLink(parseLink(words.join(" ")));
        } catch (error) {
          expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
        }
      }),
      { numRuns: 2000 },
    );
  });
});

const share = fc.oneof(
  fc.constantFrom(0, 1, 0.001, 1e-7),
  fc.double({ min: 0, max: 1, noNaN: true }),
);
const loss = fc.oneof(
  fc.record({
    loss: fc.constant("bernoulli" as const),
    lossProbability: share,
    lossCorrelation: share,
  }),
  fc
    .record({
      loss: fc.constant("gilbert_elliott" as const),
      geP: share,
      geR: share,
      geLossBad: share,
      geLossGood: share,
    })
    .filter(({ geP, geR }) => geP + geR > 0),
  fc.record({
    loss: fc.constant("by_size" as const),
    lossBySize: fc
      .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 65_535 }), share), {
        minLength: 1,
        maxLength: 8,
        selector: ([bytes]) => bytes,
      })
      .map((points) => points.sort(([a], [b]) => a - b)),
  }),
  fc.record({
    loss: fc.constant("trace" as const),
    lossTrace: fc
      .array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 40 })
      .map((bits) => Uint8Array.from(bits)),
  }),
  fc.constant({}),
);
const others = fc.record(
  {
    rateBps: fc.double({ min: 1, max: 1e15, noNaN: true }),
    packetOverheadBytes: fc.integer({ min: -65_535, max: 65_535 }),
    jitterNs: fc.nat(1e9),
    delayCorrelation: share,
    distribution: fc.constantFrom("uniform", "normal", "pareto", "paretonormal"),
    duplicateProbability: share,
    duplicateCorrelation: share,
    corruptProbability: share,
    corruptCorrelation: share,
    reorderProbability: share,
    reorderCorrelation: share,
    reorderGap: fc.nat(1_000_000),
    limitPackets: fc.nat(0xffff_ffff),
    drops: fc.array(
      fc
        .tuple(fc.nat(PACKET_KINDS.length - 1), fc.nat(1e9), fc.nat(1e9))
        .map(([kind, first, more]) => ({ kind, first: first + 1, last: first + 1 + more })),
      { maxLength: 4 },
    ),
  },
  { requiredKeys: [] },
);
/** The delay is above 0, since a reordering link needs one. */
const anyLink: fc.Arbitrary<LinkProfile> = fc
  .tuple(fc.integer({ min: 1, max: LINK_LIMITS.delayNsMax }), others, loss)
  .map(([delayNs, rest, lossFields]) => ({ delayNs, ...rest, ...lossFields }));

describe("text and profile", () => {
  test("parseLink reads back exactly what formatLink wrote", () => {
    fc.assert(
      fc.property(anyLink, (link) => {
        expect(parseLink(formatLink(link))).toEqual(normalizeLink(link));
      }),
      { numRuns: 1000 },
    );
    expect(formatLink({})).toBe("none");
    expect(parseLink("none")).toEqual({ name: "none" });
  });

  test("a normal profile is its own normal form", () => {
    fc.assert(
      fc.property(anyLink, (link) => {
        const normal = normalizeLink(link);
        expect(normalizeLink(normal)).toEqual(normal);
        expect(() => checkLink(normal)).not.toThrow();
      }),
    );
  });

  test("the native transports take a profile as it is", () => {
    const link: NativeLink = parseLink("cscs-350km drop ack 1");
    expect(link.lossBySize).toHaveLength(2);
  });

  test("a description for people leaves nothing out", () => {
    expect(describeLink(parseLink("wan-3750km"))).toBe("400 Gbit/s, 12.5 ms one way, 1e-5 loss");
    expect(describeLink({})).toBe("no impairment");
    expect(
      describeLink(
        parseLink(
          "delay 1ms 0.1ms distribution normal loss gemodel 1% 25% duplicate 1% corrupt 2% " +
            "reorder 3% limit 10 drop ack 1",
        ),
      ),
    ).toBe(
      "1 ms ± 100 µs (normal) one way, 3.85 % loss on average, bad spells of 4 packets, " +
        "1 % duplicated, 2 % corrupted, 3 % reordered, queue of 10 packets, 1 drop rule",
    );
  });
});

describe("what follows from a link", () => {
  test("a round trip is there and back", () => {
    expect(rttNs(parseLink("delay 12.5ms"), parseLink("delay 20ms 5ms"))).toBe(32.5e6);
    expect(rttNs({}, {})).toBe(0);
  });

  test("mean loss of every model", () => {
    const at = (text: string, bytes = 4096) => meanLoss(parseLink(text), bytes);
    expect(at("none")).toBe(0);
    expect(at("loss 1% 25%")).toBe(0.01);
    expect(at("loss gemodel 1% 9%")).toBeCloseTo(0.1, 12);
    expect(at("loss gemodel 1% 9% 50% 1%")).toBeCloseTo(0.1 * 0.5 + 0.9 * 0.01, 12);
    expect(at("loss trace 0110")).toBe(0.5);
  });

  test("loss by size: the points themselves, the nearest outside, log-linear between", () => {
    const link = parseLink("loss size 1000:0.1%,3000:10%,5000:0%");
    const at = (bytes: number) => meanLoss(link, bytes);
    expect([1, 1000, 3000, 5000, 9000].map(at)).toEqual([0.001, 0.001, 0.1, 0, 0]);
    expect(at(2000)).toBeCloseTo(0.01, 12);
    expect(at(4000)).toBeCloseTo(0.05, 12);
  });
});
