/**
 * The sender's memory of one message's chunks: which are handed out, injected, acknowledged, awaiting repair,
 * and since when. Typed arrays only; every operation costs time in proportion to the chunks it changes, never
 * to the message (8 GiB is 131072 chunks of 64 KiB). Knows no policy: when to repair is its caller's decision.
 */
import { SdrError } from "../base/errors.ts";
import type { AckFrame } from "./frames.ts";
import { NO_CHUNK } from "./frames.ts";
import type { ChunkRange, PathEstimate } from "./policy.ts";

/** A chunk handed out this often is given up. The field is 16 bits wide; the peer's silence is noticed far sooner. */
export const CHUNK_SENDS_MAX = 65_000;

/** Why a message that reached it is given up. */
export function chunkExhausted(chunk: number): SdrError {
  return new SdrError(
    "UNRECOVERABLE_LOSS",
    `chunk ${chunk} was sent ${CHUNK_SENDS_MAX} times and never acknowledged`,
    "check the path: the peer answers, but this part of the message does not get through",
  );
}

const ACKED = 1;
/** Handed out and not yet reported injected: no guard runs, and it is not handed out again. */
const OUT = 2;
const QUEUED = 4;
/** `injectedAt` is this chunk's own time, not that of a later chunk of the same range. */
const EXACT = 8;
/** Has given its RTT sample. */
const SAMPLED = 16;

const NONE = -1;

export class ChunkTable {
  readonly chunkCount: number;
  /** Chunks acknowledged. */
  acknowledged = 0;
  /** All chunks below are acknowledged. */
  cumulative = 0;
  /** The first chunk never handed out. */
  fresh = 0;
  /** Chunks handed out beyond each one's first time. */
  retransmitted = 0;
  /** Chunks handed out and not yet reported injected. */
  out = 0;
  /** A chunk that reached CHUNK_SENDS_MAX, or -1. */
  exhausted = NONE;

  private readonly windowChunks: number;
  private readonly flags: Uint8Array;
  private readonly sends: Uint16Array;
  private readonly injectedAt: Float64Array;
  /** The guarded chunks as a doubly linked list in the order of their injection, oldest first. */
  private readonly after: Int32Array;
  private readonly before: Int32Array;
  private oldest = NONE;
  private newest = NONE;
  /** Ring of chunks that await repair; each at most once, so that it cannot overflow. */
  private readonly repairs: Uint32Array;
  private repairHead = 0;
  private repairCount = 0;

  private readonly onAcknowledged: ((chunk: number) => void) | undefined;

  /** `onAcknowledged` is told of each chunk once. */
  constructor(chunkCount: number, windowChunks: number, onAcknowledged?: (chunk: number) => void) {
    this.chunkCount = chunkCount;
    this.onAcknowledged = onAcknowledged;
    this.windowChunks = Math.max(1, windowChunks);
    this.flags = new Uint8Array(chunkCount);
    this.sends = new Uint16Array(chunkCount);
    this.injectedAt = new Float64Array(chunkCount);
    this.after = new Int32Array(chunkCount);
    this.before = new Int32Array(chunkCount);
    this.repairs = new Uint32Array(chunkCount);
  }

  /** Next range to inject: repairs in the order they were asked for, then new chunks within the window. */
  handOut(maxChunks: number): ChunkRange | undefined {
    if (!(maxChunks >= 1)) return undefined;
    return this.handOutRepairs(maxChunks) ?? this.handOutFresh(maxChunks);
  }

  /** Whether chunks await repair; those acknowledged since then count until they come up. */
  get hasRepairs(): boolean {
    return this.repairCount > 0;
  }

  /** New chunks that the window has room for. */
  get freshRoom(): number {
    const room = this.windowChunks - (this.fresh - this.acknowledged);
    return Math.max(0, Math.min(room, this.chunkCount - this.fresh));
  }

  /** Chunks that await repair, counted as hasRepairs does. */
  get repairsWaiting(): number {
    return this.repairCount;
  }

  handOutRepairs(maxChunks: number): ChunkRange | undefined {
    let first = NONE;
    let count = 0;
    while (this.repairCount > 0 && count < maxChunks) {
      const chunk = this.repairs[this.repairHead] as number;
      const acked = ((this.flags[chunk] as number) & ACKED) !== 0;
      if (!acked && count > 0 && chunk !== first + count) break;
      this.repairHead = this.repairHead + 1 === this.chunkCount ? 0 : this.repairHead + 1;
      this.repairCount--;
      (this.flags[chunk] as number) &= ~QUEUED;
      if (acked) continue;
      if (count === 0) first = chunk;
      count++;
      this.markOut(chunk);
    }
    this.retransmitted += count;
    return count === 0 ? undefined : { first, count };
  }

  handOutFresh(maxChunks: number): ChunkRange | undefined {
    const count = Math.min(Math.floor(maxChunks), this.freshRoom);
    if (count <= 0) return undefined;
    const first = this.fresh;
    for (let chunk = first; chunk < first + count; chunk++) this.markOut(chunk);
    this.fresh += count;
    return { first, count };
  }

  private markOut(chunk: number): void {
    (this.flags[chunk] as number) |= OUT;
    this.out++;
    const sends = ++(this.sends[chunk] as number);
    if (sends >= CHUNK_SENDS_MAX) this.exhausted = chunk;
  }

  /** The last packet of the range left at `nowNs`: guards start. What was not handed out is ignored. */
  injected(first: number, count: number, nowNs: number): void {
    const end = Math.min(first + count, this.fresh);
    for (let chunk = Math.max(0, first); chunk < end; chunk++) {
      const flags = this.flags[chunk] as number;
      if ((flags & OUT) === 0) continue;
      this.out--;
      this.flags[chunk] = chunk === end - 1 ? (flags & ~OUT) | EXACT : flags & ~(OUT | EXACT);
      this.injectedAt[chunk] = nowNs;
      if ((flags & ACKED) === 0) this.guard(chunk);
    }
  }

  /**
   * Applies an ACK. Returns whether it made sense: one that claims chunks never handed out changes nothing.
   * Idempotent; stale ones are harmless because acknowledgement never goes back.
   */
  acknowledge(frame: AckFrame): boolean {
    const { cumulative, selective, selectiveBase } = frame;
    if (cumulative > this.fresh) return false;
    for (let chunk = this.cumulative; chunk < cumulative; chunk++) this.acknowledgeOne(chunk);
    if (cumulative > this.cumulative) this.cumulative = cumulative;
    for (let index = 0; index < selective.length; index++) {
      const base = selectiveBase + 32 * index;
      if (base >= this.fresh) break;
      for (let word = selective[index] as number; word !== 0; word &= word - 1) {
        const chunk = base + 31 - Math.clz32(word & -word);
        if (chunk < this.fresh) this.acknowledgeOne(chunk);
      }
    }
    while (this.cumulative < this.fresh && this.isAcknowledged(this.cumulative)) this.cumulative++;
    return true;
  }

  private acknowledgeOne(chunk: number): void {
    const flags = this.flags[chunk] as number;
    if ((flags & ACKED) !== 0) return;
    this.flags[chunk] = flags | ACKED;
    this.acknowledged++;
    this.onAcknowledged?.(chunk);
    // Guarded is what is neither on its way to the transport nor waiting for repair.
    if ((flags & (OUT | QUEUED)) === 0) this.unguard(chunk);
  }

  isAcknowledged(chunk: number): boolean {
    return ((this.flags[chunk] as number) & ACKED) !== 0;
  }

  get done(): boolean {
    return this.acknowledged === this.chunkCount;
  }

  /**
   * Offers the path an RTT sample from an ACK: now - injection - the receiver's delay (RFC 9002 section 5.1),
   * only of a chunk that was injected once (Karn), whose own injection time is known, and once a chunk.
   */
  sampleRtt(frame: AckFrame, nowNs: number, path: PathEstimate): void {
    const chunk = frame.latestChunk;
    if (chunk === NO_CHUNK || chunk >= this.fresh || this.sends[chunk] !== 1) return;
    const flags = this.flags[chunk] as number;
    if ((flags & (OUT | EXACT | SAMPLED)) !== EXACT) return;
    const sampleNs = nowNs - (this.injectedAt[chunk] as number) - frame.delayNs;
    if (sampleNs <= 0) return;
    this.flags[chunk] = flags | SAMPLED;
    path.sampleRtt(sampleNs);
  }

  /** When the chunk guarded longest was injected; Infinity when none is guarded. */
  oldestInjectedNs(): number {
    return this.oldest === NONE ? Infinity : (this.injectedAt[this.oldest] as number);
  }

  /** Queues for repair the guarded chunks injected at least `ageNs` ago, oldest first; returns how many. */
  repairOlder(ageNs: number, nowNs: number, countMax = Infinity): number {
    let count = 0;
    while (count < countMax && this.oldestInjectedNs() + ageNs <= nowNs) {
      this.queueRepair(this.oldest);
      count++;
    }
    return count;
  }

  /**
   * Queues for repair those of [first, first + count) that were injected at least `ageNs` ago. The rest is left
   * alone: acknowledged, waiting for repair or injection, never handed out, or too recent for the report to be
   * about its latest injection. Returns how many were queued.
   */
  repairRange(first: number, count: number, ageNs: number, nowNs: number): number {
    const end = Math.min(first + count, this.fresh);
    let queued = 0;
    for (let chunk = Math.max(first, this.cumulative); chunk < end; chunk++) {
      if (((this.flags[chunk] as number) & (ACKED | OUT | QUEUED)) !== 0) continue;
      if ((this.injectedAt[chunk] as number) + ageNs > nowNs) continue;
      this.queueRepair(chunk);
      queued++;
    }
    return queued;
  }

  private queueRepair(chunk: number): void {
    this.unguard(chunk);
    (this.flags[chunk] as number) |= QUEUED;
    let tail = this.repairHead + this.repairCount;
    if (tail >= this.chunkCount) tail -= this.chunkCount;
    this.repairs[tail] = chunk;
    this.repairCount++;
  }

  private guard(chunk: number): void {
    this.before[chunk] = this.newest;
    this.after[chunk] = NONE;
    if (this.newest === NONE) this.oldest = chunk;
    else this.after[this.newest] = chunk;
    this.newest = chunk;
  }

  private unguard(chunk: number): void {
    const before = this.before[chunk] as number;
    const after = this.after[chunk] as number;
    if (before === NONE) this.oldest = after;
    else this.after[before] = after;
    if (after === NONE) this.newest = before;
    else this.before[after] = before;
  }
}
