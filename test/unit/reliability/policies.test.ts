import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { erasureCodingMds, erasureCodingXor } from "../../../src/reliability/erasure-coding.ts";
import { goBackN } from "../../../src/reliability/go-back-n.ts";
import { hybrid, hybridPolicy } from "../../../src/reliability/hybrid.ts";
import type { Policy } from "../../../src/reliability/policy.ts";
import {
  selectiveRepeatNack,
  selectiveRepeatRto,
} from "../../../src/reliability/selective-repeat.ts";
import { rounds } from "./example-policy.ts";
import { RoundsReceiver } from "./example-receiver.ts";
import type { Scenario } from "./harness.ts";
import { simulate } from "./harness.ts";

const BUILT_IN: Policy[] = [
  goBackN(),
  selectiveRepeatRto(),
  selectiveRepeatRto({ alpha: 1 }),
  selectiveRepeatRto({ alpha: 0.1 }),
  selectiveRepeatNack(),
  selectiveRepeatNack({ alpha: 1, reorder: 0.25 }),
];
const CODED: Policy[] = [
  erasureCodingMds(),
  erasureCodingXor(),
  erasureCodingMds({ k: 5, m: 2 }),
  erasureCodingXor({ k: 7, m: 3 }),
  erasureCodingMds({ k: 1, m: 1 }),
  erasureCodingMds({ k: 100, m: 50, beta: 1 }),
  hybrid(),
  hybrid({ target: 0.5 }),
  hybridPolicy("hybrid, small blocks that take turns", {
    target: 0.01,
    choose: () => ({ k: 8, rows: 4, parity: 2, interleave: 3 }),
  }),
  hybridPolicy("hybrid, no parity at first", {
    target: 0.01,
    choose: () => ({ k: 5, rows: 2, parity: 0, interleave: 1 }),
  }),
];
/** Written as a user would: one on the shared parts, one on the interface alone. */
const OF_ONES_OWN: Policy[] = [
  rounds,
  { ...rounds, name: "rounds by hand", createReceiver: (params) => new RoundsReceiver(params) },
];
const COUNTS = [0, 1, 2, 31, 32, 33, 1000];
const SEEDS = [1, 2, 3];
console.log(`policies: seeds ${SEEDS.join(", ")}, chunk counts ${COUNTS.join(", ")}`);

type Case = Omit<Scenario, "policy" | "chunkCount" | "seed">;
const light = { loss: 0.05 };
const heavy = { loss: 0.3, jitterNs: 5e6, duplicate: 0.2 };
const CASES: Record<string, Case> = {
  clean: {},
  "chunks lost": { chunks: light },
  "frames lost both ways": { framesToSender: { loss: 0.3 }, framesToReceiver: { loss: 0.3 } },
  "chunks and frames lost": { chunks: light, framesToSender: light, framesToReceiver: light },
  "a third lost, late and doubled": {
    chunks: heavy,
    framesToSender: heavy,
    framesToReceiver: heavy,
  },
  "chunks reordered": { chunks: { jitterNs: 3e6 } },
  "frames reordered and doubled": { framesToSender: { jitterNs: 40e6, duplicate: 0.5 } },
  "chunks doubled": { chunks: { duplicate: 0.5, jitterNs: 1e6 } },
  "window of one": { windowChunks: 1, chunks: light, framesToSender: light, rttNs: 1e6 },
  "window of seven": { windowChunks: 7, chunks: light, framesToSender: { loss: 0.2 }, rttNs: 1e6 },
  "batches of 16, late reports": { batchChunks: 16, progressNs: 30_000, chunks: light },
  "frames of 44 bytes": { frameBytesMax: 44, chunks: light },
  "guess ten times too long": { initialRttNs: 250e6, chunks: light },
  "guess ten times too short": { initialRttNs: 2.5e6, chunks: light },
  "floor above the RTT": { rttNs: 100_000, rtoFloorNs: 1e6, chunks: light },
  "wire slower than the path": { rttNs: 1e6, chunkNs: 5e6, chunks: light },
  "no delay at all": { rttNs: 2, initialRttNs: 1000, chunks: light },
  "coding slower than the wire": { codingNs: 4e6, codingVaries: true, chunks: light },
  "decodes in vain": { failsDecode: () => true, chunks: light, framesToSender: light },
};

describe.each([...BUILT_IN, ...CODED, ...OF_ONES_OWN])("$name", (policy) => {
  describe.each(Object.entries(CASES))("%s", (_title, scenario) => {
    test.each(COUNTS)("%i chunks arrive, and both ends learn of it", (chunkCount) => {
      // Stop-and-wait over a thousand chunks only costs time.
      if ((scenario.windowChunks ?? 1000) < 8 && chunkCount > 100) chunkCount = 100;
      for (const seed of chunkCount < 1000 ? SEEDS : SEEDS.slice(0, 1)) {
        const outcome = simulate({ ...scenario, policy, chunkCount, seed });
        expect(outcome.sender.state).toBe("done");
        expect(outcome.receiver).toMatchObject({ complete: true, state: "done" });
        expect(outcome.sender.chunksAcknowledged).toBe(chunkCount);
        expect(outcome.trips.every((trips) => trips >= 1)).toBe(true);
        const trips = outcome.trips.reduce((sum, count) => sum + count, 0);
        expect(outcome.sender.counters.chunksRetransmitted).toBe(trips - chunkCount);
        const recovered = outcome.receiver.counters?.chunksRecovered ?? 0;
        expect(outcome.chunksArrived + outcome.chunksRepaired + recovered).toBe(chunkCount);
      }
    });
  });
});

describe.each(BUILT_IN)("$name", (policy) => {
  test.each([1, 2, 33])("without loss every chunk of %i travels once", (chunkCount) => {
    const { trips, sender, completionNs } = simulate({ policy, chunkCount, seed: 1 });
    expect(trips.every((count) => count === 1)).toBe(true);
    expect(sender.counters).toEqual({ chunksRetransmitted: 0, timeouts: 0, nacksReceived: 0 });
    expect(completionNs).toBe(chunkCount * 1311 + 25e6);
  });

  test.each(["first", "last", "only"])("the %s chunk lost five times over", (which) => {
    const chunkCount = which === "only" ? 1 : 50;
    const victim = which === "first" ? 0 : chunkCount - 1;
    const losesChunk = (chunk: number, trip: number) => chunk === victim && trip <= 5;
    const { trips } = simulate({ policy, chunkCount, seed: 1, losesChunk });
    expect(trips[victim]).toBe(6);
  });

  test("the first ten frames lost", () => {
    const outcome = simulate({ policy, chunkCount: 40, seed: 1, losesFrame: (_, i) => i < 10 });
    expect(outcome.framesFromReceiver.length).toBeGreaterThan(10);
  });

  test("a path dead for a while comes back to life", () => {
    const losesChunk = (_chunk: number, trip: number) => trip <= 20;
    const { sender } = simulate({ policy, chunkCount: 10, seed: 1, losesChunk, rttNs: 1e6 });
    expect(sender.state).toBe("done");
  });

  test("the path's RTT is measured", () => {
    const { senderPath } = simulate({ policy, chunkCount: 100, seed: 1, initialRttNs: 60e6 });
    expect(senderPath.sampleCount).toBeGreaterThan(0);
    expect(senderPath.rttNs).toBe(25e6);
  });

  test("the RTO is never below its floor", () => {
    const losesChunk = (chunk: number, trip: number) => chunk === 4 && trip === 1;
    const common = { policy, chunkCount: 5, seed: 1, rttNs: 1000, chunkNs: 100, losesChunk };
    const { leastResendNs, sender } = simulate({ ...common, rtoFloorNs: 7e6 });
    if (sender.counters.timeouts > 0) expect(leastResendNs).toBeGreaterThanOrEqual(7e6);
    // With NACKs lost, only the RTO is left.
    const losesFrame = (frame: { kind: string }) => frame.kind === "nack";
    const alone = simulate({ ...common, rtoFloorNs: 7e6, losesFrame });
    expect(alone.sender.counters.timeouts).toBeGreaterThan(0);
    expect(alone.leastResendNs).toBeGreaterThanOrEqual(7e6);
  });

  test("the same seed gives the same run", () => {
    const scenario = { policy, chunkCount: 300, seed: 9, chunks: heavy, framesToSender: heavy };
    const [a, b] = [simulate(scenario), simulate(scenario)];
    expect([a.completionNs, a.steps, a.trips]).toEqual([b.completionNs, b.steps, b.trips]);
  });
});

describe("sr-nack does not send in vain", () => {
  const policy = selectiveRepeatNack();
  const vain = (scenario: Case & { chunkCount: number }, seed = 21) => {
    let lost = 0;
    const loss = scenario.chunks?.loss ?? 0;
    const draws = new Random(seed, "loss");
    const losesChunk = () => draws.chance(loss) && ++lost > 0;
    const { sender } = simulate({ ...scenario, policy, seed, losesChunk });
    return (sender.counters.chunksRetransmitted - lost) / scenario.chunkCount;
  };

  test("while a window keeps the sender waiting", () => {
    const chunks = { loss: 1e-3 };
    expect(vain({ chunkCount: 20_000, windowChunks: 1000, chunks })).toBeLessThan(0.001);
  });

  test("while chunks arrive out of order: the reordering window grows to what the path does", () => {
    expect(vain({ chunkCount: 20_000, chunks: { jitterNs: 3e6 } })).toBeLessThan(0.01);
    expect(vain({ chunkCount: 20_000, chunks: { jitterNs: 3e6, loss: 1e-3 } })).toBeLessThan(0.01);
  });

  test("where timers are coarser than the path is long", () => {
    const path = { rttNs: 100_000, chunkNs: 26_000, rtoFloorNs: 1e6, windowChunks: 256 };
    const chunks = { jitterNs: 200_000 };
    expect(vain({ ...path, chunkCount: 5000, batchChunks: 8, chunks })).toBeLessThan(0.01);
  });
});
