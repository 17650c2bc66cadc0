import { describe, expect, test } from "vitest";
import { delayQuantile } from "../../../src/link/fit-delay.ts";
import {
  findProfile,
  meanBurstPackets,
  meanLoss,
  PROFILES,
  parseLink,
  rttNs,
} from "../../../src/link/profile.ts";

/** P(exactly n of `packets` consecutive packets lost), n = 0 .., for a chain in its steady state. */
function lossesInBlock(p: number, r: number, lossBad: number, packets: number): number[] {
  const bad = p / (p + r);
  // [state][losses] -> probability; the loss of a packet is decided by the state before the step.
  let states = [[1 - bad], [bad]];
  for (let i = 0; i < packets; i++) {
    const next = [new Array<number>(i + 2).fill(0), new Array<number>(i + 2).fill(0)];
    for (const [state, losses] of states.entries()) {
      const lost = state === 1 ? lossBad : 0;
      const toBad = state === 1 ? 1 - r : p;
      for (const [count, weight] of losses.entries()) {
        for (const [after, move] of [1 - toBad, toBad].entries()) {
          next[after]![count]! += weight * move * (1 - lost);
          next[after]![count + 1]! += weight * move * lost;
        }
      }
    }
    states = next;
  }
  return states[0]!.map((weight, count) => weight + states[1]![count]!);
}

describe("the shipped profiles", () => {
  test("names are unique and cannot be mistaken for terms or options", () => {
    const names = PROFILES.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[a-z][a-z0-9-]*$/);
  });

  test.each(PROFILES.map((profile) => [profile.name, profile] as const))(
    "%s parses, keeps its name and tells its source",
    (name, profile) => {
      expect(parseLink(name).name).toBe(name);
      expect(findProfile(name.toUpperCase())).toBe(profile);
      expect(profile.source.length).toBeGreaterThan(10);
      expect(profile.about).not.toBe("");
    },
  );

  test("round trips are the published ones", () => {
    const rttMs = (name: string) => rttNs(parseLink(name), parseLink(name)) / 1e6;
    expect(rttMs("wan-3750km")).toBe(25);
    expect(rttMs("transatlantic")).toBe(58.95);
    expect(rttMs("starlink-idle")).toBe(50);
    expect(rttMs("starlink-loaded")).toBe(95);
    expect(rttMs("uno-d1")).toBe(2);
    expect(rttMs("azure-eastus-japaneast")).toBe(165);
  });

  test("losses are the published ones", () => {
    const loss = (name: string, bytes = 1024) => meanLoss(parseLink(name), bytes);
    expect(loss("wan-3750km")).toBe(1e-5);
    expect(loss("private-optical")).toBe(1e-8);
    expect(loss("cscs-350km", 1024)).toBe(loss("cscs-350km-1k"));
    expect(loss("cscs-350km", 8192)).toBe(loss("cscs-350km-8k"));
    expect(loss("starlink-idle")).toBeCloseTo(0.004, 5);
    expect(loss("starlink-idle-up")).toBeCloseTo(0.0045, 5);
    expect(loss("starlink-loaded")).toBeCloseTo(0.0156, 5);
    expect(loss("starlink-loaded-up")).toBeCloseTo(0.0196, 5);
  });

  test("bursts are as long as published", () => {
    const burst = (text: string) => meanBurstPackets(parseLink(text), 1024);
    expect(burst("starlink-idle")).toBeCloseTo(20, 9);
    expect(burst("starlink-loaded")).toBeCloseTo(4, 9);
    // Three of four loss events have several packets: P(length > 1) = 1 - r.
    expect(1 - parseLink("starlink-loaded").geR!).toBe(0.75);
    expect(burst("wan-3750km")).toBeCloseTo(1, 4);
    expect(burst("transatlantic")).toBe(0);
    expect(burst("loss trace 0110100")).toBe(1.5);
    expect(burst("loss trace 1011")).toBe(3);
    expect(burst("loss gemodel 1% 100% 100% 0%")).toBe(1);
    expect(burst("loss gemodel 5% 5% 50% 50%")).toBeCloseTo(2, 9);
  });

  test("a satellite's delays have the published quantiles", () => {
    const { delayNs, jitterNs } = parseLink("starlink-loaded-jitter");
    for (const [share, rttMs] of [
      [0.5, 95],
      [0.95, 175],
      [0.99, 210],
    ] as const) {
      const oneWay = delayNs! + jitterNs! * delayQuantile("normal", share);
      expect(Math.abs((2 * oneWay) / 1e6 - rttMs)).toBeLessThan(2);
    }
  });

  test("uno-d1 loses one, two and three of ten packets as often as measured, within 0.01 %", () => {
    const { geP, geR, geLossBad } = parseLink("uno-d1");
    const block = lossesInBlock(geP!, geR!, geLossBad!, 10);
    expect(block.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 12);
    for (const [lost, measured] of [3.0e-4, 7.5e-5, 1.6e-5].entries()) {
      expect(Math.abs(block[lost + 1]! / measured - 1)).toBeLessThan(1e-4);
    }
  });
});
