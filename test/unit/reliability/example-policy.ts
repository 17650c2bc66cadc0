/**
 * A policy of one's own: "rounds". The sender injects everything; whenever an RTO has passed since its last
 * injection it injects again all that no ACK has shown to be delivered. The receiver is a ready-made part.
 */
import { ACK_RTT_FRACTION, BitmapReceiver } from "../../../src/reliability/acknowledger.ts";
import { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import type { Policy, SendSession, SessionParams } from "../../../src/reliability/policy.ts";

class RoundsSender implements SendSession {
  state: "active" | "done" = "active";
  readonly counters = { chunksRetransmitted: 0, timeouts: 0, nacksReceived: 0 };
  chunksAcknowledged = 0;
  private readonly delivered: ChunkBitmap;
  private next = 0; // where this round stands
  private fresh = 0; // the first chunk never handed out
  private onTheWay = 0; // handed out, not yet injected
  private injectedNs = 0;

  private readonly params: SessionParams;

  constructor(params: SessionParams) {
    this.params = params;
    const words = new Uint32Array(Math.ceil(params.chunkCount / 32));
    this.delivered = new ChunkBitmap(words, params.chunkCount);
  }

  handleControl(frame: ControlFrame) {
    if (frame.kind !== "ack" || frame.cumulative > this.fresh) return; // frames are untrusted
    for (let c = this.delivered.nextClear(0); c < frame.cumulative; c++) this.mark(c);
    const told = new ChunkBitmap(frame.selective, frame.selective.length * 32);
    for (let i = told.nextSet(0); i < told.chunkCount; i = told.nextSet(i + 1))
      this.mark(frame.selectiveBase + i);
    if (this.chunksAcknowledged === this.params.chunkCount) this.state = "done";
  }

  private mark(chunk: number) {
    if (chunk >= this.fresh || this.delivered.has(chunk)) return;
    this.delivered.words[chunk >>> 5]! |= 1 << (chunk & 31);
    this.chunksAcknowledged++;
  }

  pollTransmit() {
    const first = this.delivered.nextClear(this.next);
    const full = this.fresh - this.chunksAcknowledged >= this.params.windowChunks;
    if (this.state === "done" || first === this.params.chunkCount) return undefined;
    if (first < this.fresh) this.counters.chunksRetransmitted++;
    else if (full) return undefined;
    this.next = first + 1;
    this.fresh = Math.max(this.fresh, this.next);
    this.onTheWay++;
    return { first, count: 1 };
  }

  handleInjected(_first: number, count: number, nowNs: number) {
    this.onTheWay -= count;
    this.injectedNs = nowNs; // the guard starts when the last packet has left
  }

  nextTimeoutNs() {
    if (this.state === "done" || this.onTheWay > 0 || this.fresh === 0) return Infinity;
    return this.injectedNs + Math.max(this.params.rtoFloorNs, 2 * this.params.path.rttNs);
  }

  handleTimeout(nowNs: number) {
    if (nowNs < this.nextTimeoutNs()) return; // may come for no reason
    this.counters.timeouts++;
    this.injectedNs = nowNs;
    this.next = 0;
  }

  pollControl() {
    return undefined;
  }
}

export const rounds: Policy = {
  name: "rounds",
  createSender: (params) => new RoundsSender(params),
  createReceiver: (params) =>
    new BitmapReceiver(params, { selective: true, rttFraction: ACK_RTT_FRACTION }),
};
