/**
 * Erasure coding with Selective Repeat as the fallback (paper section 4.1): `ec-mds(k,m)`, Reed-Solomon, and
 * `ec-xor(k,m)`, modulo groups. Blocks of k data chunks travel with m parity chunks; the receiver makes lost data from
 * what has come, and only what cannot be made is asked for and sent again. Completion time in virtual time: without a
 * fallback that of a message of M + L m chunks at most, with one (1 + beta) RTT and the repairs' injection more.
 *
 * Who learns what from whom:
 *  - The receiver's ACKs cover decoded chunks as they cover those that arrived. The final ACK ends the message.
 *  - The sender repeats nothing by a timer of its own. When it has injected all that it may, it says so in a SENT
 *    frame: at the end of the message, or when its window has been full for longer than an ACK takes. The first SENT of
 *    the end goes out three times, as a final ACK does; after that, and when the window is full, once an RTO. During an
 *    injection longer than an RTT it also says, once an RTT, how far it has come.
 *  - A SENT starts the receiver's fallback (block-fallback.ts), which asks, and asks again, for what is missing.
 * So a lost SENT, NACK or ACK costs time, and nothing is asked for or sent again while nothing is missing.
 *
 * SENT is a policy frame (kind 64, sender to receiver):
 *   12 u32 chunks: the message's data chunks below this number are injected, and so is all parity of blocks whose data
 *      is wholly below it. Of these nothing more comes until the receiver acknowledges or asks.
 */
import { check, type SdrError } from "../base/errors.ts";
import {
  ACK_RTT_FRACTION,
  BitmapReceiver,
  copySpacingNs,
  FINAL_COPIES,
  stallNs,
} from "./acknowledger.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import { BlockDecoder } from "./block-decoder.ts";
import { BlockFallback } from "./block-fallback.ts";
import { BlockLayout, checkCodeShape, parityChunks } from "./block-layout.ts";
import { ParitySchedule } from "./block-schedule.ts";
import { ChunkTable, chunkExhausted } from "./chunk-table.ts";
import type { AckFrame, ControlFrame, NackFrame, PolicyFrame } from "./frames.ts";
import { POLICY_KIND_MIN } from "./frames.ts";
import { REPAIR_RTT_FRACTION } from "./gap-detector.ts";
import type {
  ChunkRange,
  CodeShape,
  CodingTask,
  Policy,
  ReceiveCounters,
  ReceiveSession,
  SendCounters,
  SendSession,
  SessionParams,
  SessionState,
} from "./policy.ts";
import { ALPHA_DEFAULT, RetransmissionGuard } from "./retransmission-guard.ts";

export const BLOCK_DATA_DEFAULT = 32;
export const BLOCK_PARITY_DEFAULT = 8;
/** What is on its way gets this part of an RTT to come in before it is asked for. */
export const BETA_DEFAULT = 1 / 4;
export const BETA_MAX = 16;

export const SENT_KIND = POLICY_KIND_MIN;
const SENT_BYTES = 4;
const NONE = -1;

function sentFrame(chunks: number): PolicyFrame {
  const payload = new Uint8Array(SENT_BYTES);
  new DataView(payload.buffer).setUint32(0, chunks);
  return { kind: "policy", message: 0, type: SENT_KIND, payload };
}

/** The chunks that a SENT names; undefined for any other frame, and one that makes no sense. */
function sentChunks(frame: ControlFrame, chunkCount: number): number | undefined {
  if (frame.kind !== "policy" || frame.type !== SENT_KIND) return undefined;
  const { payload } = frame;
  if (payload.length !== SENT_BYTES) return undefined;
  const chunks = new DataView(payload.buffer, payload.byteOffset).getUint32(0);
  return chunks <= chunkCount ? chunks : undefined;
}

class ErasureSender implements SendSession {
  state: SessionState = "active";
  error?: SdrError;
  readonly counters = {
    chunksRetransmitted: 0,
    timeouts: 0,
    nacksReceived: 0,
    parityChunks: 0,
    fallbacks: 0,
  } satisfies SendCounters;
  private readonly params: SessionParams;
  private readonly layout: BlockLayout;
  private readonly table: ChunkTable;
  private readonly parity: ParitySchedule;
  private readonly guard: RetransmissionGuard;
  /** Blocks of which a data chunk was repaired. */
  private readonly repaired: Uint8Array;
  /** When to say SENT; Infinity while there is something to send or to be injected. */
  private sentAtNs = Infinity;
  /** Chunks that the SENT to send names, -1 for none. */
  private sentDue = NONE;
  /** The end of the message was said, copies of that still to go, and whether the next SENT repeats one. */
  private endSaid = false;
  private copiesLeft = 0;
  private isRepeat = false;
  /** When SENT was said last. */
  private saidNs: number;

  constructor(params: SessionParams, code: CodeShape) {
    this.params = params;
    this.saidNs = params.startNs;
    this.layout = new BlockLayout(code, params.chunkCount);
    this.table = new ChunkTable(params.chunkCount, params.windowChunks);
    this.parity = new ParitySchedule(this.layout);
    this.guard = new RetransmissionGuard(params, ALPHA_DEFAULT);
    this.repaired = new Uint8Array(this.layout.blockCount);
  }

  get chunksAcknowledged(): number {
    return this.table.acknowledged;
  }

  handleControl(frame: ControlFrame, nowNs: number): void {
    if (this.state !== "active") return;
    if (frame.kind === "ack") this.handleAck(frame, nowNs);
    else if (frame.kind === "nack") this.handleNack(frame, nowNs);
    this.review(nowNs);
  }

  private handleAck(frame: AckFrame, nowNs: number): void {
    this.table.sampleRtt(frame, nowNs, this.params.path);
    if (!this.table.acknowledge(frame)) return;
    this.guard.handleHeard();
    this.parity.skipUseless(this.table.cumulative);
    if (this.table.done) this.state = "done";
  }

  /** A chunk injected less than about an RTT ago is left alone: the report cannot be about that injection. */
  private handleNack(frame: NackFrame, nowNs: number): void {
    this.counters.nacksReceived++;
    this.guard.handleHeard();
    const { layout, table } = this;
    const ageNs = this.params.path.rttMinNs * REPAIR_RTT_FRACTION;
    for (const range of frame.ranges) {
      const end = Math.min(range.first + range.count, table.fresh);
      for (let first = Math.max(range.first, table.cumulative); first < end; ) {
        const block = layout.blockOf(first);
        const blockEnd = Math.min(layout.dataEnd(block), end);
        if (table.repairRange(first, blockEnd - first, ageNs, nowNs) > 0) this.noteRepair(block);
        first = blockEnd;
      }
    }
  }

  private noteRepair(block: number): void {
    if (this.repaired[block] === 1) return;
    this.repaired[block] = 1;
    this.counters.fallbacks++;
  }

  handleInjected(first: number, count: number, nowNs: number, parity = false): void {
    if (parity) {
      this.parity.injected(first, count);
      this.sayOnTheWay(first, nowNs);
    } else {
      this.table.injected(first, count, nowNs);
    }
    this.review(nowNs);
  }

  /**
   * Parity chunk `first` has left, and so has all that goes before it, blocks below its own wholly. Said now and then
   * during a long injection, so that their repair need not wait for its end.
   */
  private sayOnTheWay(first: number, nowNs: number): void {
    const { layout, params } = this;
    const chunks = layout.dataFirst(Math.floor(first / layout.code.m));
    if (nowNs < this.saidNs + Math.max(params.path.rttNs, params.rtoFloorNs) || chunks === 0)
      return;
    this.sentDue = chunks;
    this.saidNs = nowNs;
  }

  pollTask(_nowNs: number): CodingTask | undefined {
    return this.state === "active" ? this.parity.pollTask(this.table.fresh) : undefined;
  }

  handleTaskDone(task: CodingTask, _nowNs: number): void {
    this.parity.handleTaskDone(task);
  }

  pollTransmit(maxChunks: number, nowNs: number): ChunkRange | undefined {
    if (this.state !== "active") return undefined;
    const range = this.table.handOutRepairs(maxChunks) ?? this.handOutNew(maxChunks);
    this.counters.chunksRetransmitted = this.table.retransmitted;
    this.counters.parityChunks = this.parity.handedOut;
    if (this.table.exhausted >= 0) this.fail(this.table.exhausted);
    this.review(nowNs);
    return range;
  }

  /** Parity that is due, else data to the end of its block. Parity takes no part of the window. */
  private handOutNew(maxChunks: number): ChunkRange | undefined {
    const { layout, parity, table } = this;
    const { fresh } = table;
    const due = parity.handOut(maxChunks, fresh, table.freshRoom === 0);
    if (due !== undefined) return due;
    const room = layout.dataEnd(layout.blockOf(fresh)) - fresh;
    return table.handOutFresh(Math.min(maxChunks, room));
  }

  private fail(chunk: number): void {
    this.state = "failed";
    this.error = chunkExhausted(chunk);
  }

  /** Whether all that may be sent is injected. Parity that is being encoded will be sent. */
  private get isQuiet(): boolean {
    const { parity, table } = this;
    const isOut = table.out > 0 || parity.out > 0;
    return !isOut && !table.hasRepairs && table.freshRoom === 0 && !parity.isPending(table.fresh);
  }

  /** Sets the time of the next SENT, after anything that may have begun or ended the quiet. */
  private review(nowNs: number): void {
    if (this.params.chunkCount === 0) return;
    if (!this.isQuiet) {
      this.sentAtNs = Infinity;
      this.copiesLeft = 0;
      return;
    }
    if (this.sentAtNs !== Infinity) return;
    this.isRepeat = this.endSaid;
    if (this.table.fresh < this.params.chunkCount) this.sentAtNs = nowNs + stallNs(this.params);
    else if (this.endSaid) this.sentAtNs = nowNs + this.guard.rtoNs;
    else {
      this.endSaid = true;
      this.copiesLeft = FINAL_COPIES;
      this.say(nowNs);
    }
  }

  private say(nowNs: number): void {
    this.sentDue = this.table.fresh;
    this.saidNs = nowNs;
    this.copiesLeft = Math.max(0, this.copiesLeft - 1);
    this.isRepeat = this.copiesLeft === 0;
    const waitNs = this.copiesLeft > 0 ? copySpacingNs(this.params) : this.guard.rtoNs;
    this.sentAtNs = nowNs + waitNs;
  }

  handleTimeout(nowNs: number): void {
    if (this.state !== "active" || nowNs < this.sentAtNs) return;
    if (this.isRepeat) {
      this.counters.timeouts++;
      this.guard.handleExpired(nowNs);
    }
    this.say(nowNs);
  }

  pollControl(_nowNs: number): ControlFrame | undefined {
    if (this.sentDue === NONE || this.state !== "active") return undefined;
    const frame = sentFrame(this.sentDue);
    this.sentDue = NONE;
    return frame;
  }

  nextTimeoutNs(): number {
    return this.state === "active" ? this.sentAtNs : Infinity;
  }
}

class ErasureReceiver implements ReceiveSession {
  private readonly chunkCount: number;
  private readonly blocks: BlockDecoder;
  private readonly fallback: BlockFallback;
  private readonly inner: BitmapReceiver;

  constructor(params: SessionParams, code: CodeShape, beta: number) {
    const layout = new BlockLayout(code, params.chunkCount);
    this.chunkCount = params.chunkCount;
    this.blocks = new BlockDecoder(layout);
    this.fallback = new BlockFallback(params, beta, layout, this.blocks);
    const ack = { selective: true, rttFraction: ACK_RTT_FRACTION };
    this.inner = new BitmapReceiver(params, ack, this.fallback);
  }

  get counters(): Readonly<ReceiveCounters> {
    return this.blocks.counters;
  }

  get complete(): boolean {
    return this.inner.complete;
  }

  get state(): SessionState {
    return this.inner.state;
  }

  handleProgress(bitmap: ChunkBitmap, nowNs: number, parity?: ChunkBitmap): void {
    if (this.complete || this.state !== "active") return;
    this.blocks.handleProgress(bitmap, nowNs, parity);
    this.inner.handleProgress(bitmap, nowNs);
    if (this.complete) this.blocks.finish();
  }

  pollTask(_nowNs: number): CodingTask | undefined {
    return this.complete || this.state !== "active" ? undefined : this.blocks.pollTask();
  }

  handleTaskDone(task: CodingTask, nowNs: number, recovered: number, parityUsed: number): void {
    this.blocks.handleTaskDone(task, recovered, parityUsed);
    this.fallback.handleTaskDone(nowNs);
  }

  handleControl(frame: ControlFrame, nowNs: number): void {
    const chunks = sentChunks(frame, this.chunkCount);
    if (chunks !== undefined && !this.complete) this.fallback.handleSent(chunks, nowNs);
    this.inner.handleControl(frame, nowNs);
  }

  handleDone(nowNs: number): void {
    this.inner.handleDone(nowNs);
  }

  handleTimeout(nowNs: number): void {
    this.inner.handleTimeout(nowNs);
  }

  pollControl(nowNs: number): ControlFrame | undefined {
    const frame = this.inner.pollControl(nowNs);
    if (this.complete) this.blocks.finish();
    return frame;
  }

  nextTimeoutNs(): number {
    return this.inner.nextTimeoutNs();
  }
}

export interface ErasureCodingOptions {
  /** Data chunks a block; default 32. */
  readonly k?: number;
  /** Parity chunks a block; default 8. k + m is at most 256; of modulo groups m is at most k. */
  readonly m?: number;
  /** The fallback waits this many RTTs for what is on its way; above 0, at most 16, default 1/4. */
  readonly beta?: number;
}

function erasureCoding(kind: CodeShape["kind"], options: ErasureCodingOptions): Policy {
  const { k = BLOCK_DATA_DEFAULT, m = BLOCK_PARITY_DEFAULT, beta = BETA_DEFAULT } = options;
  const code: CodeShape = { kind, k, m };
  checkCodeShape(code);
  check(
    beta > 0 && beta <= BETA_MAX,
    `beta ${beta} is out of range`,
    `the fallback waits beta RTT for what is on its way: above 0, at most ${BETA_MAX}`,
  );
  return {
    name: `ec-${kind}(${k},${m}${beta === BETA_DEFAULT ? "" : `,beta=${beta}`})`,
    parityChunks: (chunkCount) => parityChunks(code, chunkCount),
    createSender: (params) => new ErasureSender(params, code),
    createReceiver: (params) => new ErasureReceiver(params, code, beta),
  };
}

/**
 * Reed-Solomon over blocks of k data and m parity chunks: any m losses in a block are recovered.
 * Errors: INVALID_ARGUMENT for a shape or a beta out of range.
 */
export function erasureCodingMds(options: ErasureCodingOptions = {}): Policy {
  return erasureCoding("mds", options);
}

/**
 * Modulo groups: parity chunk i of a block is the sum of its data chunks j with j mod m = i; one loss in each group is
 * recovered. Errors: as erasureCodingMds's.
 */
export function erasureCodingXor(options: ErasureCodingOptions = {}): Policy {
  return erasureCoding("xor", options);
}
