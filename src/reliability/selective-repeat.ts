/**
 * Selective Repeat (paper section 4.1): each chunk is repaired by itself.
 * `sr-rto`: when an RTO has passed since its injection. `sr-nack`: when the receiver reports it lost, with the
 * RTO as the safety net. Completion time in virtual time follows paper section 5: chunk i costs
 * i T_inj + O (Y_i - 1), O = RTO + T_inj, where RTO is 3 RTT for sr-rto and about 1 RTT for sr-nack.
 */
import { check, type SdrError } from "../base/errors.ts";
import { ACK_RTT_FRACTION, BitmapReceiver } from "./acknowledger.ts";
import { ChunkTable, chunkExhausted } from "./chunk-table.ts";
import type { AckFrame, ControlFrame, NackFrame } from "./frames.ts";
import { GapDetector, REPAIR_RTT_FRACTION } from "./gap-detector.ts";
import type {
  ChunkRange,
  Policy,
  SendCounters,
  SendSession,
  SessionParams,
  SessionState,
} from "./policy.ts";
import {
  ALPHA_DEFAULT,
  ALPHA_MAX,
  ALPHA_MIN,
  RetransmissionGuard,
} from "./retransmission-guard.ts";

/** The reordering window's start, in least RTTs. */
export const REORDER_RTTS_DEFAULT = 1 / 64;
export const REORDER_RTTS_MAX = 1;
/** Chunks sent again at first when nothing at all is acknowledged any more. */
export const PROBE_CHUNKS = 4;

export interface SelectiveRepeatOptions {
  /** RTO = RTT (1 + alpha); 0.1 to 100, default 2. */
  readonly alpha?: number;
}

export interface SelectiveRepeatNackOptions extends SelectiveRepeatOptions {
  /** Start of the reordering window in least RTTs; above 0, at most 1, default 1/64. */
  readonly reorder?: number;
}

class SelectiveRepeatSender implements SendSession {
  state: SessionState = "active";
  error?: SdrError;
  readonly counters: SendCounters = { chunksRetransmitted: 0, timeouts: 0, nacksReceived: 0 };
  private readonly params: SessionParams;
  private readonly table: ChunkTable;
  private readonly guard: RetransmissionGuard;
  private readonly honourNacks: boolean;
  /** When a chunk was acknowledged last. */
  private progressNs: number;
  /** Nothing times out before; -Infinity when no pause of the peer is suspected. */
  private pauseUntilNs = -Infinity;
  private probed = false;

  constructor(params: SessionParams, alpha: number, honourNacks: boolean) {
    this.params = params;
    this.progressNs = params.startNs;
    this.table = new ChunkTable(params.chunkCount, params.windowChunks);
    this.guard = new RetransmissionGuard(params, alpha);
    this.honourNacks = honourNacks;
  }

  get chunksAcknowledged(): number {
    return this.table.acknowledged;
  }

  handleControl(frame: ControlFrame, nowNs: number): void {
    if (this.state !== "active") return;
    if (frame.kind === "ack") this.handleAck(frame, nowNs);
    else if (frame.kind === "nack") this.handleNack(frame, nowNs);
  }

  private handleAck(frame: AckFrame, nowNs: number): void {
    const { acknowledged } = this.table;
    this.table.sampleRtt(frame, nowNs, this.params.path);
    if (!this.table.acknowledge(frame)) return;
    this.guard.handleHeard();
    if (this.table.done) this.state = "done";
    if (this.table.acknowledged > acknowledged) this.handleNews(nowNs);
  }

  /** A peer that comes back has as much to read as it missed: it gets an RTO for that, once. */
  private handleNews(nowNs: number): void {
    this.progressNs = nowNs;
    if (this.probed && nowNs < this.pauseUntilNs) this.pauseUntilNs = nowNs + this.guard.rtoNs;
    this.probed = false;
  }

  /**
   * A chunk injected less than about an RTT ago is left alone: the report cannot be about that injection. A gap
   * below a completed chunk is taken at nearly an RTT; a range up to the message's end rests on silence alone, and
   * part of it may just be on its way, so there the RTT must be full, and as long as it is now.
   */
  private handleNack(frame: NackFrame, nowNs: number): void {
    this.counters.nacksReceived++;
    this.guard.handleHeard();
    if (!this.honourNacks) return;
    const { rttNs, rttMinNs } = this.params.path;
    for (const { first, count } of frame.ranges) {
      const isTail = first + count >= this.params.chunkCount;
      const ageNs = isTail ? rttNs : rttMinNs * REPAIR_RTT_FRACTION;
      this.table.repairRange(first, count, ageNs, nowNs);
    }
  }

  handleInjected(first: number, count: number, nowNs: number): void {
    this.table.injected(first, count, nowNs);
  }

  handleTimeout(nowNs: number): void {
    if (this.state !== "active" || nowNs < this.pauseUntilNs) return;
    const { rtoNs } = this.guard;
    const countMax = this.isPeerPaused ? PROBE_CHUNKS : Infinity;
    const expired = this.table.repairOlder(rtoNs, nowNs, countMax);
    if (expired === 0) return;
    this.probed = expired === countMax;
    this.pauseUntilNs = this.probed ? nowNs + rtoNs : -Infinity;
    this.counters.timeouts += expired;
    this.guard.handleExpired(nowNs);
  }

  /**
   * Nothing was acknowledged from when the oldest chunk's own acknowledgement was due: then all that is under way
   * expires, though more likely the peer's process waits for a processor than that every chunk was lost. So the
   * first time only a few are sent again (as in F-RTO, RFC 5682), and if nothing comes of that, everything.
   */
  private get isPeerPaused(): boolean {
    const dueNs = this.table.oldestInjectedNs() + this.params.path.rttNs;
    return !this.probed && this.progressNs < dueNs;
  }

  pollTransmit(maxChunks: number, _nowNs: number): ChunkRange | undefined {
    if (this.state !== "active") return undefined;
    const range = this.table.handOut(maxChunks);
    this.counters.chunksRetransmitted = this.table.retransmitted;
    if (this.table.exhausted >= 0) this.fail(this.table.exhausted);
    return range;
  }

  private fail(chunk: number): void {
    this.state = "failed";
    this.error = chunkExhausted(chunk);
  }

  pollControl(_nowNs: number): undefined {
    return undefined;
  }

  nextTimeoutNs(): number {
    if (this.state !== "active") return Infinity;
    return Math.max(this.table.oldestInjectedNs() + this.guard.rtoNs, this.pauseUntilNs);
  }
}

function checkAlpha(alpha: number): void {
  check(
    alpha >= ALPHA_MIN && alpha <= ALPHA_MAX,
    `alpha ${alpha} is out of range`,
    `RTO = RTT (1 + alpha): give ${ALPHA_MIN} to ${ALPHA_MAX}`,
  );
}

/** An ACK must be able to outrun the RTO, however small alpha makes it. */
function ackRttFraction(alpha: number): number {
  return Math.min(ACK_RTT_FRACTION, alpha / 4);
}

/** Canonical text of a policy: options that have their default are left out. */
function nameWith(name: string, options: [key: string, value: number, usual: number][]): string {
  const given = options.filter(([, value, usual]) => value !== usual);
  return given.length === 0 ? name : `${name}(${given.map(([k, v]) => `${k}=${v}`).join(",")})`;
}

/**
 * Selective Repeat by timeout alone, the paper's "SR RTO".
 * Errors: INVALID_ARGUMENT for an alpha out of range.
 */
export function selectiveRepeatRto(options: SelectiveRepeatOptions = {}): Policy {
  const { alpha = ALPHA_DEFAULT } = options;
  checkAlpha(alpha);
  const ack = { selective: true, rttFraction: ackRttFraction(alpha) };
  return {
    name: nameWith("sr-rto", [["alpha", alpha, ALPHA_DEFAULT]]),
    createSender: (params) => new SelectiveRepeatSender(params, alpha, false),
    createReceiver: (params) => new BitmapReceiver(params, ack),
  };
}

/**
 * Selective Repeat with gap-triggered repair, the paper's "SR NACK": a loss costs about one RTT.
 * Errors: INVALID_ARGUMENT for an alpha or a reordering window out of range.
 */
export function selectiveRepeatNack(options: SelectiveRepeatNackOptions = {}): Policy {
  const { alpha = ALPHA_DEFAULT, reorder = REORDER_RTTS_DEFAULT } = options;
  checkAlpha(alpha);
  check(
    reorder > 0 && reorder <= REORDER_RTTS_MAX,
    `reorder ${reorder} is out of range`,
    `the reordering window starts at this part of an RTT: above 0, at most ${REORDER_RTTS_MAX}`,
  );
  const ack = { selective: true, rttFraction: ackRttFraction(alpha) };
  return {
    name: nameWith("sr-nack", [
      ["alpha", alpha, ALPHA_DEFAULT],
      ["reorder", reorder, REORDER_RTTS_DEFAULT],
    ]),
    createSender: (params) => new SelectiveRepeatSender(params, alpha, true),
    createReceiver: (params) =>
      new BitmapReceiver(params, ack, new GapDetector(params, { reorderRtts: reorder })),
  };
}
