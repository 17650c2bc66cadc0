/**
 * Is the peer there? Pings while connecting (a small one and one of a full packet's size, which proves the path's MTU)
 * and, once connected, when a peer that is waited for has been silent. Knows no transport: time comes in.
 */
import { SdrError } from "../base/errors.ts";
import type { PingFrame } from "../reliability/frames.ts";
import { PING_FIXED_BYTES } from "../reliability/frames.ts";
import type { RttEstimator } from "../reliability/rtt.ts";
import type { FrameWriter } from "./frame-writer.ts";

const PING_INTERVAL_NS_MIN = 10e6; // while connecting; doubles up to 16 times this
const PING_DOUBLINGS_MAX = 4;
const PINGS_PER_PEER_TIMEOUT = 16; // probes of a silent peer before it counts as gone
const PONG_AGE_NS_MAX = 60e9; // an echoed time older than this is not ours

export class PeerWatch {
  private readonly writer: FrameWriter;
  private readonly path: RttEstimator;
  private readonly packetBytes: number;
  private readonly peerTimeoutNs: number;
  private aliveNs = 0;
  private lastPingNs = 0;
  private pings = 0;
  private smallPong = false;
  private fullPong = false;

  constructor(
    writer: FrameWriter,
    path: RttEstimator,
    limits: { packetBytes: number; peerTimeoutNs: number },
  ) {
    this.writer = writer;
    this.path = path;
    this.packetBytes = limits.packetBytes;
    this.peerTimeoutNs = limits.peerTimeoutNs;
  }

  /** A full-size packet has made the round trip. */
  get connected(): boolean {
    return this.fullPong;
  }

  /** Something valid came from the peer, or waiting for it begins now. */
  heard(nowNs: number): void {
    if (nowNs > this.aliveNs) this.aliveNs = nowNs;
  }

  /** Looks come late when this end's thread was busy: that time is not held against the peer, which was not probed. */
  look(nowNs: number): void {
    const lateNs = nowNs - this.nextNs();
    if (lateNs > 0) this.heard(this.aliveNs + lateNs);
  }

  isSilent(nowNs: number): boolean {
    return nowNs >= this.aliveNs + this.peerTimeoutNs;
  }

  isPingDue(nowNs: number): boolean {
    return nowNs >= this.pingAtNs();
  }

  /** When to look again, while the peer is waited for. */
  nextNs(): number {
    return Math.min(this.pingAtNs(), this.aliveNs + this.peerTimeoutNs);
  }

  private pingAtNs(): number {
    if (!this.fullPong)
      return (
        this.lastPingNs + PING_INTERVAL_NS_MIN * 2 ** Math.min(this.pings - 1, PING_DOUBLINGS_MAX)
      );
    const every = Math.floor(this.peerTimeoutNs / PINGS_PER_PEER_TIMEOUT);
    return Math.max(this.aliveNs, this.lastPingNs) + every;
  }

  ping(nowNs: number): void {
    this.lastPingNs = nowNs;
    this.pings++;
    this.writer.write({ kind: "ping", timeNs: nowNs, padding: 0 });
    if (this.fullPong) return;
    this.writer.flush(); // the small one in a datagram of its own
    const padding = this.packetBytes - PING_FIXED_BYTES;
    this.writer.write({ kind: "ping", timeNs: nowNs, padding });
  }

  handlePong(frame: PingFrame, nowNs: number): void {
    const rttNs = nowNs - frame.timeNs;
    if (rttNs < 0 || rttNs > PONG_AGE_NS_MAX) return;
    this.path.sampleRtt(rttNs);
    if (frame.padding === 0) this.smallPong = true;
    else this.fullPong = true;
  }

  /** What to report when the peer is silent. */
  unreachable(): SdrError {
    if (!this.fullPong && this.smallPong)
      return new SdrError(
        "PEER_UNREACHABLE",
        `packets of ${this.packetBytes} B do not get through, small ones do`,
        "use a smaller packetBytes: the path's MTU is lower",
      );
    return new SdrError(
      "PEER_UNREACHABLE",
      `nothing was heard from the peer for ${this.peerTimeoutNs / 1e9} s`,
      "check that it runs, has this end's info, and that the path lets UDP through; or raise peerTimeoutNs",
    );
  }
}
