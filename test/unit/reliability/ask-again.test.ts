import { expect, test } from "vitest";
import { ChunkBitmap, RttEstimator, selectiveRepeatNack } from "../../../src/reliability/index.ts";

test("an RTT measured as next to nothing does not make the receiver ask every few nanoseconds", () => {
  const rtoFloorNs = 100_000;
  const receiver = selectiveRepeatNack().createReceiver({
    messageBytes: 8 * 4096,
    chunkBytes: 4096,
    chunkCount: 8,
    packetBytes: 4096,
    windowChunks: 8,
    frameBytesMax: 4096,
    rtoFloorNs,
    path: new RttEstimator({ initialRttNs: 3 }),
    startNs: 0,
  });
  receiver.handleProgress(new ChunkBitmap(Uint32Array.of(0b0010_0100), 8), 0);
  let nacks = 0;
  let steps = 0;
  let nowNs = 0;
  for (; nowNs < 10 * rtoFloorNs; steps++) {
    for (let frame = receiver.pollControl(nowNs); frame; frame = receiver.pollControl(nowNs))
      if (frame.kind === "nack") nacks++;
    nowNs = receiver.nextTimeoutNs();
    receiver.handleTimeout(nowNs);
  }
  // Gaps and tail are each asked for again no sooner than a sixteenth of the floor.
  expect(nacks).toBeGreaterThan(10);
  expect(nacks).toBeLessThanOrEqual(2 * 10 * 16 + 4);
  expect(steps).toBeLessThan(1000);
});
