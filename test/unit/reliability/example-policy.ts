/**
 * A policy of one's own, written against policy.ts alone: "rounds". The sender injects everything, then, whenever
 * an RTO has passed since its last injection, everything again that no ACK has shown to be delivered. The receiver
 * answers every quarter RTT with the completed prefix and as much of the bitmap as fits a frame.
 */
import { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import type { AckFrame, ControlFrame } from "../../../src/reliability/frames.ts";
import type {
  ChunkRange,
  Policy,
  ReceiveSession,
  SendSession,
  SessionParams,
  SessionState,
} from "../../../src/reliability/policy.ts";

class RoundsSender implements SendSession {
  state: SessionState = "active";
  readonly counters = { chunksRetransmitted: 0, timeouts: 0, nacksReceived: 0 };
  private readonly delivered: ChunkBitmap;
  private readonly params: SessionParams;
  private next = 0;
  private highest = 0;
  private waiting = 0;
  private injectedNs = 0;

  constructor(params: SessionParams) {
    this.params = params;
    this.delivered = new ChunkBitmap(
      new Uint32Array((params.chunkCount + 31) >>> 5),
      params.chunkCount,
    );
  }

  get chunksAcknowledged() {
    return this.delivered.count();
  }

  handleControl(frame: ControlFrame) {
    if (frame.kind !== "ack" || frame.cumulative > this.highest) return;
    for (let chunk = 0; chunk < frame.cumulative; chunk++) this.mark(chunk);
    const base = frame.selectiveBase;
    const acked = new ChunkBitmap(frame.selective, frame.selective.length * 32);
    for (let i = acked.nextSet(0); i < acked.chunkCount; i = acked.nextSet(i + 1))
      if (base + i < this.highest) this.mark(base + i);
    if (this.delivered.nextClear(0) === this.params.chunkCount) this.state = "done";
  }

  private mark(chunk: number) {
    this.delivered.words[chunk >>> 5]! |= 1 << (chunk & 31);
  }

  handleInjected(_first: number, count: number, nowNs: number) {
    this.waiting -= count;
    this.injectedNs = nowNs;
  }

  handleTimeout(nowNs: number) {
    if (nowNs < this.nextTimeoutNs()) return;
    this.counters.timeouts++;
    this.injectedNs = nowNs;
    this.next = 0;
  }

  pollTransmit(): ChunkRange | undefined {
    const first = this.delivered.nextClear(this.next);
    const room = this.params.windowChunks - (this.highest - this.chunksAcknowledged);
    if (this.state !== "active" || first === this.params.chunkCount) return undefined;
    if (first >= this.highest && room < 1) return undefined;
    if (first < this.highest) this.counters.chunksRetransmitted++;
    this.next = first + 1;
    this.highest = Math.max(this.highest, this.next);
    this.waiting++;
    return { first, count: 1 };
  }

  pollControl() {
    return undefined;
  }

  nextTimeoutNs() {
    const { path, rtoFloorNs } = this.params;
    if (this.state !== "active" || this.waiting > 0 || this.highest === 0) return Infinity;
    return this.injectedNs + Math.max(rtoFloorNs, Math.ceil(2 * path.rttNs));
  }
}

class RoundsReceiver implements ReceiveSession {
  state: SessionState = "active";
  complete = false;
  private readonly params: SessionParams;
  private ack: AckFrame | undefined;
  private bitmap: ChunkBitmap | undefined;
  private ackNs: number;

  constructor(params: SessionParams) {
    this.params = params;
    this.ackNs = params.startNs;
  }

  handleProgress(bitmap: ChunkBitmap, nowNs: number) {
    if (this.complete || this.state !== "active") return;
    this.bitmap = bitmap;
    this.complete = bitmap.nextClear(0) === bitmap.chunkCount;
    if (this.complete) this.acknowledge(nowNs);
  }

  handleControl() {}

  handleDone() {
    this.state = "done";
  }

  handleTimeout(nowNs: number) {
    if (nowNs >= this.nextTimeoutNs()) this.acknowledge(nowNs);
  }

  private acknowledge(nowNs: number) {
    const { chunkCount, frameBytesMax } = this.params;
    const cumulative = this.complete ? chunkCount : (this.bitmap?.nextClear(0) ?? 0);
    const word = cumulative >>> 5;
    const words = this.complete ? [] : this.bitmap?.words.slice(word, word + frameBytesMax / 4 - 8);
    this.ackNs = nowNs;
    this.ack = {
      kind: "ack",
      message: 0,
      cumulative,
      latestChunk: 0xffffffff,
      delayNs: 0,
      selectiveBase: word * 32,
      selective: Uint32Array.from(words ?? []),
    };
  }

  pollControl() {
    const { ack } = this;
    this.ack = undefined;
    return ack;
  }

  nextTimeoutNs() {
    if (this.state !== "active") return Infinity;
    return this.ackNs + Math.max(20_000, Math.ceil(this.params.path.rttNs / 4));
  }
}

export const rounds: Policy = {
  name: "rounds",
  createSender: (params) => new RoundsSender(params),
  createReceiver: (params) => new RoundsReceiver(params),
};
