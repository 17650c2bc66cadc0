/** The watch for a vanished peer, by itself: time comes in, pings go out. */
import { describe, expect, test } from "vitest";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";
import type { FrameWriter } from "../../../src/sdk/frame-writer.ts";
import { PeerWatch } from "../../../src/sdk/peer-watch.ts";

const PEER_TIMEOUT_NS = 1_600_000;
const PING_EVERY_NS = 100_000;

function connectedWatch() {
  const frames: ControlFrame[] = [];
  const writer = { write: (frame: ControlFrame) => frames.push(frame), flush() {} };
  const path = new RttEstimator({ initialRttNs: 1000 });
  const limits = { packetBytes: 1024, peerTimeoutNs: PEER_TIMEOUT_NS };
  const watch = new PeerWatch(writer as unknown as FrameWriter, path, limits);
  watch.heard(0);
  watch.handlePong({ kind: "pong", timeNs: 0, padding: 1000 }, 10);
  return { watch, frames };
}

/** Looks whenever the watch asks for it, `lateNs` late, until the peer counts as gone; returns when. */
function watchSilence(watch: PeerWatch, lateNs: (look: number) => number): number {
  for (let look = 0; look < 1000; look++) {
    const nowNs = watch.nextNs() + lateNs(look);
    watch.look(nowNs);
    if (watch.isSilent(nowNs)) return nowNs;
    if (watch.isPingDue(nowNs)) watch.ping(nowNs);
  }
  throw new Error("never silent");
}

describe("peer watch", () => {
  test("a silent peer is probed and counts as gone after just the stated time", () => {
    const { watch, frames } = connectedWatch();
    expect(watchSilence(watch, () => 0)).toBe(PEER_TIMEOUT_NS);
    expect(frames.length).toBe(PEER_TIMEOUT_NS / PING_EVERY_NS - 1);
  });

  test("time in which this end itself did not run is not held against the peer", () => {
    const { watch, frames } = connectedWatch();
    const stallNs = 50 * PEER_TIMEOUT_NS;
    const gone = watchSilence(watch, (look) => (look === 3 ? stallNs : 0));
    expect(gone).toBe(PEER_TIMEOUT_NS + stallNs);
    expect(frames.length).toBeGreaterThanOrEqual(8);
  });

  test("anything heard starts the silence anew", () => {
    const { watch } = connectedWatch();
    watch.heard(5 * PEER_TIMEOUT_NS);
    expect(watchSilence(watch, () => 0)).toBe(6 * PEER_TIMEOUT_NS);
  });
});
