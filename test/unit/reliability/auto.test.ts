import { describe, expect, test } from "vitest";
import { hybridParityChunks } from "../../../src/model/parity.ts";
import { auto } from "../../../src/reliability/auto.ts";
import { erasureCodingMds } from "../../../src/reliability/erasure-coding.ts";
import { hybrid } from "../../../src/reliability/hybrid.ts";
import type { Policy } from "../../../src/reliability/policy.ts";
import { parsePolicy } from "../../../src/reliability/registry.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";
import {
  selectiveRepeatNack,
  selectiveRepeatRto,
} from "../../../src/reliability/selective-repeat.ts";
import { CHUNK_BYTES, simulate } from "./harness.ts";

/** 400 Gbit/s over 25 ms. */
const RTT_NS = 25e6;
const CHUNK_NS = 1311;
const CHUNKS = 2048;

/** Messages one after another over one path, whose loss may change between them. */
class Connection {
  readonly path = new RttEstimator({
    initialRttNs: RTT_NS,
    rateBps: (CHUNK_BYTES * 8e9) / CHUNK_NS,
  });
  private readonly policy: Policy;
  private seed: number;

  constructor(policy: Policy, seed: number) {
    this.policy = policy;
    this.seed = seed * 1000;
  }

  send(loss: number, chunkCount = CHUNKS) {
    const { path, policy } = this;
    const scenario = { policy, chunkCount, seed: this.seed++, path, chunks: { loss } };
    return simulate({ ...scenario, chunkNs: CHUNK_NS, rttNs: RTT_NS, windowChunks: 40_000 });
  }

  /** Completion times of `count` messages. */
  times(loss: number, count: number, chunkCount = CHUNKS): number[] {
    return Array.from({ length: count }, () => this.send(loss, chunkCount).completionNs);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function boundNs(loss: number, chunkCount = CHUNKS): number {
  return (chunkCount * CHUNK_NS) / (1 - loss) + RTT_NS;
}

describe("the policy auto", () => {
  test("has its options in its name, and refuses what cannot be", () => {
    expect(auto().name).toBe("auto");
    expect(parsePolicy("auto").name).toBe("auto");
    expect(parsePolicy("auto(0.99, 0.1)").name).toBe("auto(objective=0.99,overhead=0.1)");
    expect(parsePolicy("auto(overhead=0.05)").name).toBe("auto(overhead=0.05)");
    expect(auto().parityChunks?.(1000)).toBe(hybridParityChunks(1000));
    for (const wrong of [
      { objective: 0.4 },
      { objective: 1 },
      { objective: Number.NaN },
      { overhead: -0.1 },
      { overhead: 1000 },
    ]) {
      expect(() => auto(wrong)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
  });

  test.each([1e-4, 1e-2, 0.1])("is near the bound once it knows a loss of %d", (loss) => {
    for (const chunkCount of [16, 2048]) {
      const connection = new Connection(auto(), 1);
      connection.times(loss, 10, chunkCount);
      const meanNs = sum(connection.times(loss, 15, chunkCount)) / 15;
      expect(meanNs / boundNs(loss, chunkCount)).toBeLessThan(loss > 0.05 ? 1.06 : 1.03);
    }
  });

  test("sends less parity as it comes to know that little is lost", () => {
    const connection = new Connection(auto(), 2);
    const first = connection.send(1e-5).sender.counters.parityChunks ?? 0;
    for (let i = 0; i < 60; i++) connection.send(1e-5);
    const later = connection.send(1e-5).sender.counters.parityChunks ?? 0;
    expect(first).toBeGreaterThan(CHUNKS / 20);
    expect(later).toBeLessThan(CHUNKS / 60);
  });

  test("never takes more than twice the best fixed policy while it learns", () => {
    const fixed = [
      selectiveRepeatRto(),
      selectiveRepeatNack(),
      erasureCodingMds(),
      erasureCodingMds({ k: 128, m: 8 }),
      hybrid(),
    ];
    for (const loss of [1e-6, 1e-4, 1e-2, 0.1]) {
      for (const chunkCount of [4, 200, 4000]) {
        const best = Math.min(
          ...fixed.map((policy) => sum(new Connection(policy, 3).times(loss, 3, chunkCount))),
        );
        const own = sum(new Connection(auto(), 3).times(loss, 3, chunkCount));
        expect(own / best, `loss ${loss}, ${chunkCount} chunks`).toBeLessThan(2);
      }
    }
  });

  test.each([
    [1e-5, 1e-2],
    [1e-2, 1e-5],
    [1e-4, 1e-1],
  ])(
    "is as good ten messages after loss %d becomes %d as if it had never been else",
    (before, after) => {
      const changed = new Connection(auto(), 4);
      changed.times(before, 40);
      changed.times(after, 10);
      const fresh = new Connection(auto(), 4);
      fresh.times(after, 10);
      const [own, usual] = [changed.times(after, 15), fresh.times(after, 15)];
      expect(sum(own) / sum(usual)).toBeLessThan(1.02);
      expect(sum(own) / 15 / boundNs(after)).toBeLessThan(after > 0.05 ? 1.06 : 1.03);
      expect(changed.path.loss.upper / fresh.path.loss.upper).toBeLessThan(1.5);
    },
  );

  test("keeps to its overhead, at the price of time", () => {
    const spent = (policy: Policy) => {
      const connection = new Connection(policy, 5);
      connection.times(1e-2, 10);
      let sent = 0;
      for (let i = 0; i < 10; i++) sent += connection.send(1e-2).chunksInjected;
      return sent / 10 / CHUNKS - 1;
    };
    const [free, limited, none] = [auto(), auto({ overhead: 0.03 }), auto({ overhead: 0 })].map(
      spent,
    );
    expect(free).toBeGreaterThan(0.035);
    expect(limited).toBeLessThan(0.045);
    expect(limited).toBeGreaterThan(0.015);
    // Repairs cannot be saved: about what is lost.
    expect(none).toBeLessThan(0.03);
  });

  test("asks for less parity when fewer messages need to be on time", () => {
    const parity = (objective: number) => {
      const connection = new Connection(auto({ objective }), 6);
      connection.times(1e-2, 15);
      return connection.send(1e-2).sender.counters.parityChunks ?? 0;
    };
    expect(parity(0.9)).toBeLessThan(parity(0.9999));
  });
});
