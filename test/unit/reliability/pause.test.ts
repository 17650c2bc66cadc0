/** What a Selective Repeat sender does when its peer stops answering for a while: the peer's process waits. */
import { describe, expect, test } from "vitest";
import type { AckFrame } from "../../../src/reliability/frames.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";
import {
  PROBE_CHUNKS,
  selectiveRepeatNack,
  selectiveRepeatRto,
} from "../../../src/reliability/selective-repeat.ts";

const CHUNKS = 100;
const RTT_NS = 500_000;
const RTO_NS = 10e6;

function ack(cumulative: number): AckFrame {
  const selective = new Uint32Array(0);
  const rest = { latestChunk: 0xffffffff, delayNs: 0, selectiveBase: cumulative, selective };
  return { kind: "ack", message: 0, cumulative, ...rest };
}

describe.each([selectiveRepeatRto(), selectiveRepeatNack()])("$name", (policy) => {
  function start() {
    const path = new RttEstimator({ initialRttNs: 10e6 });
    path.sampleRtt(RTT_NS);
    const sender = policy.createSender({
      messageBytes: CHUNKS * 65_536,
      chunkBytes: 65_536,
      chunkCount: CHUNKS,
      packetBytes: 1024,
      windowChunks: CHUNKS,
      frameBytesMax: 1024,
      rtoFloorNs: RTO_NS,
      path,
      startNs: 0,
    });
    /** Hands out all that is due at `nowNs`, injects it, and says how much it was. */
    const inject = (nowNs: number) => {
      let total = 0;
      for (let r = sender.pollTransmit(64, nowNs); r; r = sender.pollTransmit(64, nowNs)) {
        sender.handleInjected(r.first, r.count, nowNs);
        total += r.count;
      }
      return total;
    };
    const expire = () => {
      const nowNs = sender.nextTimeoutNs();
      sender.handleTimeout(nowNs);
      expect(sender.nextTimeoutNs()).toBeGreaterThan(nowNs);
      return { nowNs, resent: inject(nowNs) };
    };
    return { sender, inject, expire };
  }

  test("a peer that pauses longer than the RTO costs a few chunks, not the window", () => {
    const { sender, inject, expire } = start();
    expect(inject(0)).toBe(CHUNKS);
    sender.handleControl(ack(10), RTT_NS / 2);
    const { nowNs, resent } = expire();
    expect(resent).toBe(PROBE_CHUNKS);
    // It comes back and works through what waited for it.
    const backNs = nowNs + 5e6;
    sender.handleControl(ack(40), backNs);
    sender.handleTimeout(backNs);
    expect(inject(backNs)).toBe(0);
    expect(sender.nextTimeoutNs()).toBe(backNs + RTO_NS);
    sender.handleControl(ack(CHUNKS), backNs + 2e6);
    expect(sender.state).toBe("done");
    expect(sender.counters.chunksRetransmitted).toBe(PROBE_CHUNKS);
  });

  test("what is still missing an RTO after its return is sent again, though news goes on", () => {
    const { sender, inject, expire } = start();
    inject(0);
    const backNs = expire().nowNs + 1e6;
    for (let i = 0; i < 10; i++) sender.handleControl(ack(10 + i), backNs + i * 1e6);
    const { nowNs, resent } = expire();
    expect(nowNs).toBe(backNs + RTO_NS);
    expect(resent).toBe(CHUNKS - 19);
  });

  test("when the first few bring no answer, everything is sent again an RTO later", () => {
    const { inject, expire } = start();
    inject(0);
    const first = expire();
    expect(first).toEqual({ nowNs: RTO_NS, resent: PROBE_CHUNKS });
    expect(expire()).toEqual({ nowNs: 2 * RTO_NS, resent: CHUNKS });
  });

  test("what is missing among acknowledged chunks is sent again after one RTO", () => {
    const { sender, inject, expire } = start();
    inject(0);
    const lost = 20;
    const selective = new Uint32Array(4).fill(0xffffffff);
    selective[0] = 0xffffffff ^ (((1 << lost) - 1) << (32 - lost));
    sender.handleControl({ ...ack(0), selectiveBase: 0, selective }, RTT_NS);
    expect(expire()).toEqual({ nowNs: RTO_NS, resent: lost });
  });
});
