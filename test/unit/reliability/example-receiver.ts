/**
 * A receive session written against policy.ts alone, without the parts the built-in policies share: every quarter
 * RTT it tells the completed prefix and as much of the bitmap as fits a frame.
 */
import type { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import type { AckFrame } from "../../../src/reliability/frames.ts";
import type {
  ReceiveSession,
  SessionParams,
  SessionState,
} from "../../../src/reliability/policy.ts";

export class RoundsReceiver implements ReceiveSession {
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
