/**
 * Go-Back-N at chunk level: what commodity RDMA NICs do in hardware, as the baseline to compare with.
 *
 * Cumulative ACKs only. At a gap (a NACK, as a NIC's out-of-sequence NAK) or after 3 RTT the sender goes back to
 * the first missing chunk and sends everything from there again, at most once an RTT.
 *
 * A NIC's receiver throws away what arrives out of order; our bitmap keeps it. So that the baseline pays what it
 * pays on a NIC, the sender takes no credit for what the bitmap kept: after going back it sends all of it again,
 * and a chunk counts as acknowledged only about an RTT after its LATEST injection, when a NIC's ACK of that
 * injection would have come (at least 0.9 least RTTs; an ACK that comes sooner is remembered until then). In one
 * respect the baseline is still flattered: when a chunk that the bitmap already holds is lost again on its second
 * trip, a NIC would have to go back once more, and we do not see it. That is also why it makes progress where a
 * NIC would not, at 30 % packet loss for example.
 *
 * No deadlock: the receiver repeats its final ACK until DONE, and every remembered ACK has its timer.
 */
import type { SdrError } from "../base/errors.ts";
import type { Frontier, LossDetector } from "./acknowledger.ts";
import { ACK_RTT_FRACTION, BitmapReceiver } from "./acknowledger.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import { CHUNK_SENDS_MAX, chunkExhausted } from "./chunk-table.ts";
import type { AckFrame, ControlFrame, NackFrame } from "./frames.ts";
import { NO_CHUNK } from "./frames.ts";
import { REPAIR_RTT_FRACTION } from "./gap-detector.ts";
import type {
  ChunkRange,
  Policy,
  SendCounters,
  SendSession,
  SessionParams,
  SessionState,
} from "./policy.ts";
import { ALPHA_DEFAULT, RetransmissionGuard } from "./retransmission-guard.ts";

/** The receiver asks again for the same chunk after this many RTTs, when more arrives behind the gap. */
const ASK_AGAIN_RTTS = 1.25;

const OUT = 1;
/** `injectedAt` is the chunk's own time, not that of a later chunk of its range. */
const EXACT = 2;
const SAMPLED = 4;

class GoBackNSender implements SendSession {
  state: SessionState = "active";
  error?: SdrError;
  readonly counters: SendCounters = { chunksRetransmitted: 0, timeouts: 0, nacksReceived: 0 };
  private readonly params: SessionParams;
  private readonly guard: RetransmissionGuard;
  private readonly flags: Uint8Array;
  private readonly sends: Uint16Array;
  private readonly injectedAt: Float64Array;
  /** Chunks below have been acknowledged, and paid for. */
  private credited = 0;
  /** Chunks below are in the receiver's memory, as it says. */
  private claimed = 0;
  /** Next chunk to hand out; goes back. */
  private next = 0;
  /** The first chunk never handed out. */
  private fresh = 0;
  private wentBackNs = -Infinity;
  private heardAck = false;

  constructor(params: SessionParams) {
    this.params = params;
    this.guard = new RetransmissionGuard(params, ALPHA_DEFAULT);
    this.flags = new Uint8Array(params.chunkCount);
    this.sends = new Uint16Array(params.chunkCount);
    this.injectedAt = new Float64Array(params.chunkCount);
  }

  get chunksAcknowledged(): number {
    return this.credited;
  }

  private get payNs(): number {
    return Math.ceil(this.params.path.rttMinNs * REPAIR_RTT_FRACTION);
  }

  handleControl(frame: ControlFrame, nowNs: number): void {
    if (this.state !== "active") return;
    if (frame.kind === "ack") this.handleAck(frame, nowNs);
    else if (frame.kind === "nack") this.handleNack(frame, nowNs);
  }

  private handleAck(frame: AckFrame, nowNs: number): void {
    this.sampleRtt(frame, nowNs);
    if (frame.cumulative > this.fresh) return;
    this.guard.handleHeard();
    this.heardAck = true;
    this.claimed = Math.max(this.claimed, frame.cumulative);
    this.credit(nowNs, this.payNs);
  }

  /** As ChunkTable.sampleRtt; kept apart because this sender has no table of what the bitmap holds. */
  private sampleRtt(frame: AckFrame, nowNs: number): void {
    const chunk = frame.latestChunk;
    if (chunk === NO_CHUNK || chunk >= this.fresh || this.sends[chunk] !== 1) return;
    const flags = this.flags[chunk] as number;
    if ((flags & (OUT | EXACT | SAMPLED)) !== EXACT) return;
    const sampleNs = nowNs - (this.injectedAt[chunk] as number) - frame.delayNs;
    if (sampleNs <= 0) return;
    this.flags[chunk] = flags | SAMPLED;
    this.params.path.sampleRtt(sampleNs);
  }

  /** Credits, in order, what the receiver claims, was not sent again since, and is at least `ageNs` old. */
  private credit(nowNs: number, ageNs: number): void {
    const end = Math.min(this.claimed, this.next);
    while (this.credited < end) {
      if (((this.flags[this.credited] as number) & OUT) !== 0) break;
      if ((this.injectedAt[this.credited] as number) + ageNs > nowNs) break;
      this.credited++;
    }
    if (this.heardAck && this.credited === this.params.chunkCount) this.state = "done";
  }

  private handleNack(frame: NackFrame, nowNs: number): void {
    this.counters.nacksReceived++;
    this.guard.handleHeard();
    // The receiver's ACK came before it; one that names another chunk is stale, or not for this message.
    if (frame.ranges[0]?.first === this.claimed) this.goBack(nowNs, this.payNs);
  }

  /** Back to the first missing chunk, if its latest injection is at least `ageNs` old. */
  private goBack(nowNs: number, ageNs: number): boolean {
    const first = this.claimed;
    if (first >= this.next || ((this.flags[first] as number) & OUT) !== 0) return false;
    if ((this.injectedAt[first] as number) + ageNs > nowNs) return false;
    if (nowNs < this.wentBackNs + this.payNs) return false;
    this.wentBackNs = nowNs;
    this.next = first;
    return true;
  }

  handleInjected(first: number, count: number, nowNs: number): void {
    const end = Math.min(first + count, this.fresh);
    for (let chunk = Math.max(0, first); chunk < end; chunk++) {
      const flags = this.flags[chunk] as number;
      if ((flags & OUT) === 0) continue;
      this.flags[chunk] = chunk === end - 1 ? (flags & ~OUT) | EXACT : flags & ~(OUT | EXACT);
      this.injectedAt[chunk] = nowNs;
    }
  }

  handleTimeout(nowNs: number): void {
    if (this.state !== "active") return;
    this.credit(nowNs, this.params.path.rttNs);
    if (this.state !== "active" || !this.goBack(nowNs, this.guard.rtoNs)) return;
    this.counters.timeouts++;
    this.guard.handleExpired(nowNs);
  }

  /** A run of consecutive chunks within the window; chunks still on their way out are passed over. */
  pollTransmit(maxChunks: number, _nowNs: number): ChunkRange | undefined {
    if (this.state !== "active" || !(maxChunks >= 1)) return undefined;
    const windowEnd = this.credited + Math.max(1, this.params.windowChunks);
    const limit = Math.min(this.params.chunkCount, windowEnd);
    while (this.next < limit && this.isOut(this.next)) this.next++;
    const first = this.next;
    while (this.next < limit && this.next - first < maxChunks && !this.isOut(this.next)) {
      this.flags[this.next] = (this.flags[this.next] as number) | OUT;
      const sends = ++(this.sends[this.next] as number);
      if (sends > 1) this.counters.chunksRetransmitted++;
      if (sends >= CHUNK_SENDS_MAX) this.fail(this.next);
      this.next++;
    }
    this.fresh = Math.max(this.fresh, this.next);
    return this.next === first ? undefined : { first, count: this.next - first };
  }

  private isOut(chunk: number): boolean {
    return ((this.flags[chunk] as number) & OUT) !== 0;
  }

  private fail(chunk: number): void {
    this.state = "failed";
    this.error = chunkExhausted(chunk);
  }

  pollControl(_nowNs: number): undefined {
    return undefined;
  }

  /** When the next claimed chunk has paid, or the first missing one times out; one timer, as on a NIC. */
  nextTimeoutNs(): number {
    if (this.state !== "active") return Infinity;
    const { credited, claimed, next } = this;
    let atNs = Infinity;
    if (credited < claimed && credited < next && !this.isOut(credited))
      atNs = Math.ceil((this.injectedAt[credited] as number) + this.params.path.rttNs);
    if (claimed < next && !this.isOut(claimed)) {
      const expiryNs = (this.injectedAt[claimed] as number) + this.guard.rtoNs;
      atNs = Math.min(atNs, Math.max(expiryNs, this.wentBackNs + this.payNs));
    }
    return atNs;
  }
}

/** A NIC's out-of-sequence NAK: names the first missing chunk when something arrives behind it, once. */
class SequenceDetector implements LossDetector {
  private readonly params: SessionParams;
  private asked = -1;
  private askedNs = -Infinity;
  private ask: NackFrame | undefined;

  constructor(params: SessionParams) {
    this.params = params;
  }

  handleGap(_first: number, _count: number, _nowNs: number): void {}

  handleProgress(_bitmap: ChunkBitmap, front: Frontier, nowNs: number): boolean {
    const missing = front.cumulative;
    if (front.highest < missing) return false;
    const againNs = this.askedNs + this.params.path.rttNs * ASK_AGAIN_RTTS;
    if (missing === this.asked && nowNs < againNs) return false;
    this.asked = missing;
    this.askedNs = nowNs;
    this.ask = { kind: "nack", message: 0, ranges: [{ first: missing, count: 1 }] };
    return true;
  }

  handleTimeout(_bitmap: ChunkBitmap | undefined, _front: Frontier, _nowNs: number): void {}

  pollNack(): NackFrame | undefined {
    const { ask } = this;
    this.ask = undefined;
    return ask;
  }

  nextTimeoutNs(): number {
    return Infinity;
  }
}

/** Go-Back-N with RTO = 3 RTT: the commodity NIC's scheme, to compare with. */
export function goBackN(): Policy {
  const ack = { selective: false, rttFraction: ACK_RTT_FRACTION };
  return {
    name: "gbn",
    createSender: (params) => new GoBackNSender(params),
    createReceiver: (params) => new BitmapReceiver(params, ack, new SequenceDetector(params)),
  };
}
