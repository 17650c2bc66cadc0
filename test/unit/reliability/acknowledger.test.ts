/** When ACKs are due: what a sender's timers rely on. */
import { expect, test } from "vitest";
import { ACK_RTT_FRACTION, BitmapReceiver } from "../../../src/reliability/acknowledger.ts";
import { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";

const RTT = 25e6;

test("a busy thread's RTT samples do not delay ACKs beyond a part of the path's own RTT", () => {
  const path = new RttEstimator({ initialRttNs: RTT });
  path.sampleRtt(RTT);
  for (let i = 0; i < 20; i++) path.sampleRtt(40 * RTT);
  const receiver = new BitmapReceiver(
    {
      messageBytes: 64 * 65_536,
      chunkBytes: 65_536,
      chunkCount: 64,
      packetBytes: 4096,
      windowChunks: 1 << 20,
      frameBytesMax: 1400,
      rtoFloorNs: 1,
      path,
      startNs: 0,
    },
    { selective: true, rttFraction: ACK_RTT_FRACTION },
  );
  const bitmap = new ChunkBitmap(new Uint32Array([1, 0]), 64);
  receiver.handleProgress(bitmap, 0);
  expect(receiver.pollControl(0)).toMatchObject({ kind: "ack", cumulative: 1 });
  bitmap.words[0] = 3;
  receiver.handleProgress(bitmap, 1000);
  expect(receiver.pollControl(1000)).toBeUndefined();
  const dueNs = receiver.nextTimeoutNs();
  expect(dueNs).toBeLessThanOrEqual(1000 + RTT * ACK_RTT_FRACTION);
  receiver.handleTimeout(dueNs);
  expect(receiver.pollControl(dueNs)).toMatchObject({ kind: "ack", cumulative: 2 });
});
