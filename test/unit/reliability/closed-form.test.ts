/**
 * Completion times in virtual time against paper section 5: chunk i (from 1) is delivered at
 * X_i = i T + O (Y_i - 1), O = RTO + T, with T its time on the wire and Y_i its trips; the message completes at
 * max X_i + RTT. Exact while M T <= RTO.
 */
import { describe, expect, test } from "vitest";
import { goBackN } from "../../../src/reliability/go-back-n.ts";
import {
  selectiveRepeatNack,
  selectiveRepeatRto,
} from "../../../src/reliability/selective-repeat.ts";
import { simulate } from "./harness.ts";

const RTT = 25e6;
const T = 1311;
/** What gap repair costs beyond the formula: the reordering window, or the wait of a tail. */
const WINDOW = RTT / 64;

function modelNs(trips: Uint16Array, rtoNs: number): number {
  let worstNs = 0;
  for (const [index, count] of trips.entries())
    worstNs = Math.max(worstNs, (index + 1) * T + (rtoNs + T) * (count - 1));
  return worstNs + RTT;
}

describe.each([
  [2, 1],
  [200, 1],
  [200, 100],
  [200, 200],
  [2048, 1],
  [2048, 1024],
  [2048, 2048],
  [1, 1],
])("of %i chunks, the %i-th lost once", (chunkCount, lost) => {
  const losesChunk = (chunk: number, trip: number) => chunk === lost - 1 && trip === 1;
  const scenario = { chunkCount, seed: 1, losesChunk };

  test.each([0.5, 1, 2, 4])("sr-rto(alpha=%d) takes exactly the formula's time", (alpha) => {
    const outcome = simulate({ ...scenario, policy: selectiveRepeatRto({ alpha }) });
    expect(outcome.completionNs).toBe(modelNs(outcome.trips, (1 + alpha) * RTT));
    expect(outcome.sender.counters.chunksRetransmitted).toBe(1);
  });

  test("sr-nack takes the formula's time at RTO = RTT, and at most a window and two chunks more", () => {
    const outcome = simulate({ ...scenario, policy: selectiveRepeatNack() });
    const exactNs = modelNs(outcome.trips, RTT);
    expect(outcome.completionNs).toBeGreaterThanOrEqual(exactNs);
    expect(outcome.completionNs).toBeLessThanOrEqual(exactNs + WINDOW + 2 * T);
    expect(outcome.sender.counters).toMatchObject({ chunksRetransmitted: 1, timeouts: 0 });
  });

  test("gbn pays for everything from the lost chunk on", () => {
    const outcome = simulate({ ...scenario, policy: goBackN() });
    const resent = chunkCount - lost + 1;
    // A gap shows one chunk later and the NACK is there an RTT after; nothing shows the last chunk's loss.
    const backNs = lost === chunkCount ? lost * T + 3 * RTT : (lost + 1) * T + RTT;
    const exactNs = backNs + resent * T + RTT;
    expect(outcome.sender.counters.chunksRetransmitted).toBe(resent);
    // An ACK counts from 0.9 RTT after the injection it is for.
    expect(outcome.completionNs).toBeLessThanOrEqual(exactNs);
    expect(outcome.completionNs).toBeGreaterThanOrEqual(exactNs - Math.min(0.1 * RTT, resent * T));
  });
});

describe("random losses, trial by trial", () => {
  const trials = 300;
  const seed = 4711;
  console.log(`closed form: ${trials} trials each, seeds from ${seed}`);

  test.each([1e-3, 1e-2, 0.1])(
    "sr-rto at chunk loss %d equals the formula to the nanosecond",
    (loss) => {
      let lossy = 0;
      for (let trial = 0; trial < trials; trial++) {
        const scenario = { chunkCount: 400, seed: seed + trial, chunks: { loss } };
        const outcome = simulate({ ...scenario, policy: selectiveRepeatRto() });
        expect(outcome.completionNs).toBe(modelNs(outcome.trips, 3 * RTT));
        if (outcome.sender.counters.chunksRetransmitted > 0) lossy++;
      }
      expect(lossy).toBeGreaterThan(trials * 0.25);
    },
  );

  test.each([1e-3, 1e-2, 0.1])("sr-nack at chunk loss %d is within its window of it", (loss) => {
    let sumNs = 0;
    let modelSumNs = 0;
    for (let trial = 0; trial < trials; trial++) {
      const scenario = { chunkCount: 400, seed: seed + trial, chunks: { loss } };
      const outcome = simulate({ ...scenario, policy: selectiveRepeatNack() });
      const exactNs = modelNs(outcome.trips, RTT);
      const worstTrips = outcome.trips.reduce((worst, count) => Math.max(worst, count), 1);
      // Each repair may cost a window and a look's granularity more.
      const slackNs = (worstTrips - 1) * (WINDOW * 1.25 + 2 * T);
      expect(outcome.completionNs).toBeGreaterThanOrEqual(exactNs);
      expect(outcome.completionNs).toBeLessThanOrEqual(exactNs + slackNs + 400 * loss * 4 * T);
      sumNs += outcome.completionNs;
      modelSumNs += exactNs;
    }
    expect(sumNs / modelSumNs).toBeLessThan(1.025);
  });

  test("gbn at a chunk loss of 30 % still ends, and pays with wire bytes", () => {
    const scenario = { chunkCount: 400, chunks: { loss: 0.3 }, rttNs: 1e6 };
    const gbn = simulate({ ...scenario, seed, policy: goBackN() });
    const sr = simulate({ ...scenario, seed, policy: selectiveRepeatNack() });
    expect(gbn.chunksInjected).toBeGreaterThan(1.5 * sr.chunksInjected);
  });

  test("sr-nack does not take a repair that waited behind a batch for reordering", () => {
    // Repairs come a batch's 3.3 ms late here, after the receiver has asked again.
    const path = { chunkNs: 52_000, batchChunks: 64, progressNs: 100_000, rtoFloorNs: 10e6 };
    let sumNs = 0;
    let modelSumNs = 0;
    for (let trial = 0; trial < 40; trial++) {
      const scenario = { ...path, chunkCount: 1600, seed: seed + trial, chunks: { loss: 0.02 } };
      const { completionNs, trips } = simulate({ ...scenario, policy: selectiveRepeatNack() });
      let worstNs = 0;
      for (const [index, count] of trips.entries())
        worstNs = Math.max(worstNs, (index + 1) * 52_000 + (RTT + 52_000) * (count - 1));
      sumNs += completionNs;
      modelSumNs += worstNs + RTT;
    }
    expect(sumNs / modelSumNs).toBeLessThan(1.08);
  });
});
