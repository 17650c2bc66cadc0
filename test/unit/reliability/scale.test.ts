/** 8 GiB in one message: work and memory follow what changes. No time is asserted; the runner's limit bounds it. */
import { expect, test } from "vitest";
import { erasureCodingMds, erasureCodingXor } from "../../../src/reliability/erasure-coding.ts";
import { goBackN } from "../../../src/reliability/go-back-n.ts";
import { hybrid } from "../../../src/reliability/hybrid.ts";
import {
  selectiveRepeatNack,
  selectiveRepeatRto,
} from "../../../src/reliability/selective-repeat.ts";
import { simulate } from "./harness.ts";

const CHUNKS = 131_072;

test.each([selectiveRepeatRto(), selectiveRepeatNack(), goBackN()])(
  "8 GiB with one chunk in a thousand lost: $name",
  (policy) => {
    const started = performance.now();
    const windowChunks = 40_000;
    const scenario = { chunkCount: CHUNKS, seed: 11, chunks: { loss: 1e-3 }, windowChunks };
    const outcome = simulate({ ...scenario, policy });
    const ms = performance.now() - started;
    console.log(`${policy.name}: seed 11, ${outcome.steps} steps in ${ms.toFixed(0)} ms`);
    expect(outcome.sender.state).toBe("done");
    // Each lost chunk costs one trip more in Selective Repeat; Go-Back-N pays for whole windows.
    const extra = outcome.chunksInjected / CHUNKS - 1;
    if (policy.name === "gbn") expect(extra).toBeGreaterThan(0.5);
    else expect(extra).toBeLessThan(0.0013);
  },
);

test.each([
  erasureCodingMds(),
  erasureCodingXor(),
  erasureCodingMds({ k: 1, m: 1 }),
  erasureCodingMds({ k: 200, m: 50 }),
])("8 GiB with one chunk in a hundred lost: $name", (policy) => {
  const started = performance.now();
  const scenario = { chunkCount: CHUNKS, seed: 11, chunks: { loss: 1e-2 }, windowChunks: 40_000 };
  const outcome = simulate({ ...scenario, policy });
  const ms = performance.now() - started;
  console.log(`${policy.name}: seed 11, ${outcome.steps} steps in ${ms.toFixed(0)} ms`);
  const { chunksRecovered, fallbacks } = outcome.receiver.counters!;
  expect(chunksRecovered).toBeGreaterThan(CHUNKS * 0.008);
  // Xor's blocks fail with a probability of 0.008 each, single chunks with their twins of 0.0001.
  expect(fallbacks).toBeLessThan(100);
  expect(outcome.chunksArrived + outcome.chunksRepaired + chunksRecovered).toBe(CHUNKS);
});

test("8 GiB with one chunk in a hundred lost: hybrid", () => {
  const started = performance.now();
  const outcome = simulate({
    policy: hybrid(),
    chunkCount: CHUNKS,
    seed: 11,
    chunks: { loss: 1e-2 },
  });
  const ms = performance.now() - started;
  console.log(`hybrid: seed 11, ${outcome.steps} steps in ${ms.toFixed(0)} ms`);
  // Its head is repaired chunk by chunk; only the last round trip's worth, a seventh, brings parity.
  expect(outcome.sender.counters.parityChunks).toBeLessThan(CHUNKS * 0.02);
  expect(outcome.chunksInjected).toBeLessThan(CHUNKS * 1.03);
});

test("one gap at the start of 8 GiB, with everything behind it: ACKs still describe it all", () => {
  const losesChunk = (chunk: number, trip: number) => chunk === 0 && trip < 4;
  const policy = selectiveRepeatNack();
  const outcome = simulate({ policy, chunkCount: CHUNKS, seed: 1, losesChunk });
  expect(outcome.trips[0]).toBe(4);
  expect(outcome.chunksInjected).toBe(CHUNKS + 3);
});
