/**
 * The policy interface: a reliability scheme as a pair of sans-I/O sessions over the chunk bitmap.
 *
 * A session knows no socket and no clock: time comes in as `nowNs` (integer nanoseconds, any epoch, never
 * decreasing), timers go out as `nextTimeoutNs()`, and a spurious `handleTimeout` is harmless. After any
 * `handle*` call the driver polls: `pollTask` while there is room for more, `pollControl` until undefined, then
 * `pollTransmit` while there is room, then `state` and `nextTimeoutNs`. (The vocabulary is quinn-proto's.) A receiver
 * that is `complete` while tasks are under way is asked for frames and timers again once they are done.
 *
 * The sender's session works on one message from the receiver's clear-to-send until `state` is "done" or
 * "failed"; the receiver's from the sender's START (which tells the length) until the sender's DONE.
 * The queue pair repeats CTS, START and CLOSE itself; sessions deal in ACK, NACK and their own frames.
 * Sessions do not know their message's number: they put 0 into `message`, and the driver puts the true one in its
 * place when it encodes (last argument of `encodeFrame`). A frame from pollControl is the driver's to keep: it
 * refers to no live memory.
 *
 * To write a policy, keep these promises; the built-in ones use nothing that is not exported:
 *  - Losing, doubling, delaying or reordering any frame may cost time, never correctness. So whatever the peer
 *    must learn is repeated until something shows that it has: the receiver repeats its final ACK until
 *    handleDone, and an ACK that nothing followed, because a sender with a full window sends nothing new.
 *  - Frames are untrusted: ignore chunks outside the message, and ACKs of chunks never handed out.
 *  - The sender keeps at most `windowChunks` chunks handed out and unacknowledged. A repair is not a new chunk.
 *  - A chunk is guarded from handleInjected on. Between pollTransmit and handleInjected it waits in the
 *    transport, for as long as that takes: it cannot time out, and must not be handed out again.
 *  - After handleTimeout(now), nextTimeoutNs() is later than now. The driver asks after every call.
 *  - Work is proportional to what changed: 8 GiB is 131072 chunks.
 *  - The receiver sets `complete` when all chunks are in the bitmap, and never reads it again: from then on the
 *    slot is another message's. An empty message (chunkCount 0) is complete at its first handleProgress and done
 *    at its first ACK.
 * `BitmapReceiver` is a receiving half that keeps them; `ChunkTable` is a sender's memory of its chunks.
 */

import type { SdrError } from "../base/errors.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import type { ControlFrame } from "./frames.ts";

/** What is known of the path; one object a queue pair, live: read it when you decide. */
export interface PathEstimate {
  /** Smoothed round-trip time; the configured guess until measured. */
  readonly rttNs: number;
  readonly rttVarNs: number;
  /** Least seen round-trip time. */
  readonly rttMinNs: number;
  /** Injection rate in bit/s the sender is paced to, or Infinity. */
  readonly rateBps: number;
  /** Losses of chunks that this end sends. */
  readonly loss: LossEstimate;
  /** Offers an RTT sample, e.g. from an ACK of a chunk that was injected once. */
  sampleRtt(rttNs: number): void;
}

/** What a message's bitmaps showed of the chunks that were sent a first time. */
export interface LossSample {
  readonly chunks: number;
  readonly lost: number;
  /** Runs of neighbouring chunks that were lost: at most `lost`, at least 1 if any was. */
  readonly runs: number;
}

/** What is known of chunk loss in one direction; follows a path that changes. */
export interface LossEstimate {
  /** The expected share of chunks that are lost, above 0, and what it is not above with a confidence of 95 %. */
  readonly probability: number;
  readonly upper: number;
  /** Mean length of a run of lost chunks; at least 1. */
  readonly burstChunks: number;
  /** Chunks that it rests on; 0: nothing is known, all values are a cautious guess. */
  readonly chunks: number;
  /** Takes what one message, or a part of one, showed. Senseless values are ignored. */
  sample(sample: LossSample): void;
}

export interface SessionParams {
  readonly messageBytes: number;
  readonly chunkBytes: number;
  /** ceil(messageBytes / chunkBytes); 0 for an empty message. */
  readonly chunkCount: number;
  readonly packetBytes: number;
  /** Most chunks injected and unacknowledged at a time (sender). At least 1. */
  readonly windowChunks: number;
  /** Most bytes one encoded frame may have. */
  readonly frameBytesMax: number;
  /** Timers never fire earlier than this after what they guard; covers timer and scheduling granularity. */
  readonly rtoFloorNs: number;
  readonly path: PathEstimate;
  readonly startNs: number;
}

export interface ChunkRange {
  readonly first: number;
  readonly count: number;
  /** The range is of parity chunks, numbered from 0; else of the message's own. */
  readonly parity?: boolean;
}

/** An erasure code: k data chunks and m parity chunks make a block. */
export interface CodeShape {
  /** Reed-Solomon, which recovers any m losses; or modulo groups: parity i is the sum of data chunks j mod m = i. */
  readonly kind: "mds" | "xor";
  readonly k: number;
  readonly m: number;
}

/**
 * Work on the bytes of one block, which the driver has done on other threads: for a sender, write the block's parity
 * chunks; for a receiver, make its missing data chunks from what is there. Chunks that a short block does not have
 * count as zeros.
 */
export interface CodingTask {
  readonly code: CodeShape;
  /** The block's data chunks: first, first + stride, ... `count` of them, at most k. Stride 1 when absent. */
  readonly first: number;
  readonly count: number;
  readonly stride?: number;
  /** Its parity chunks: [parityFirst, parityFirst + m), counted from 0. */
  readonly parityFirst: number;
  /** A sender's: only these of the m are wanted, counted from parityFirst. All when absent; "mds" only. */
  readonly rows?: { readonly first: number; readonly count: number };
}

export type SessionState = "active" | "done" | "failed";

/** Counts of one sender session. */
export interface SendCounters {
  /** Chunks handed out by pollTransmit beyond each chunk's first time. */
  chunksRetransmitted: number;
  timeouts: number;
  nacksReceived: number;
  /** Parity chunks handed out. */
  parityChunks?: number;
  /** Blocks that parity did not save and that were repaired by retransmission. */
  fallbacks?: number;
}

/** Counts of one receiver session of a policy with parity. */
export interface ReceiveCounters {
  /** Data chunks made from parity. */
  chunksRecovered: number;
  /** Parity chunks that it took. */
  parityUsed: number;
  /** Parity chunks that arrived before the message was complete and were not needed; 0 until then. */
  parityWasted: number;
  /** Blocks that parity did not save: data chunks of theirs were asked for. */
  fallbacks: number;
}

export interface SendSession {
  /** An ACK, NACK or policy-defined frame of this message. Untrusted: out-of-range values are ignored. */
  handleControl(frame: ControlFrame, nowNs: number): void;
  /** The transport injected the last packet of [first, first + count) at `nowNs`: timers start here. */
  handleInjected(first: number, count: number, nowNs: number, parity?: boolean): void;
  /** The next block to encode, if any; asked for while the driver has room for more. Each parity chunk at most once. */
  pollTask?(nowNs: number): CodingTask | undefined;
  /** Its parity chunks may be handed out from now on. */
  handleTaskDone?(task: CodingTask, nowNs: number): void;
  handleTimeout(nowNs: number): void;
  /** Next chunks to inject, at most `maxChunks`, repairs first; undefined when nothing is due now. */
  pollTransmit(maxChunks: number, nowNs: number): ChunkRange | undefined;
  pollControl(nowNs: number): ControlFrame | undefined;
  /** Infinity when no timer runs. */
  nextTimeoutNs(): number;
  readonly state: SessionState;
  /** Set when state is "failed". */
  readonly error?: SdrError;
  readonly counters: Readonly<SendCounters>;
  /** Chunks known delivered, for progress display. */
  readonly chunksAcknowledged: number;
}

export interface ReceiveSession {
  /**
   * The live bitmap changed (called in batches, and once at the start even if empty). `parity`: the live bitmap of the
   * parity chunks, for policies that have any.
   */
  handleProgress(bitmap: ChunkBitmap, nowNs: number, parity?: ChunkBitmap): void;
  /**
   * The next block to decode, if any: one whose missing chunks can be made from what the bitmaps show. Each block at
   * most once; packets of it may still come in before the driver gets to it.
   */
  pollTask?(nowNs: number): CodingTask | undefined;
  /**
   * The task is over. What was missing is in place and in the bitmap, of which handleProgress tells next: `recovered`
   * chunks had to be made, from `parityUsed` parity chunks. 0 when there was nothing left to make, or it failed.
   */
  handleTaskDone?(task: CodingTask, nowNs: number, recovered: number, parityUsed: number): void;
  readonly counters?: Readonly<ReceiveCounters>;
  /** A policy-defined frame from the sender. */
  handleControl(frame: ControlFrame, nowNs: number): void;
  /** The sender confirmed the final ACK (or the queue pair gave up waiting): stop repeating it. */
  handleDone(nowNs: number): void;
  /** May read the bitmap given last, if the message is still active. */
  handleTimeout(nowNs: number): void;
  pollControl(nowNs: number): ControlFrame | undefined;
  nextTimeoutNs(): number;
  /** All data is in place: the user's promise may resolve and the slot be completed. The bitmap is not read after. */
  readonly complete: boolean;
  readonly state: SessionState;
}

export interface Policy {
  /**
   * Canonical text including parameters, e.g. "sr-rto" or "sr-rto(alpha=1)"; both ends must agree on it.
   * At most 64 bytes.
   */
  readonly name: string;
  /**
   * Most parity chunks that a message of `chunkCount` chunks brings, 0 when absent; never fewer for more chunks. The
   * receiver sets memory aside for those of the largest message that it posted for.
   */
  parityChunks?(chunkCount: number): number;
  createSender(params: SessionParams): SendSession;
  createReceiver(params: SessionParams): ReceiveSession;
}
