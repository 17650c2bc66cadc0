/**
 * Gap-triggered repair at the receiver: which chunks count as lost, and when to ask for them (again).
 *
 * A gap (a missing chunk below a completed one) counts as lost when it outlives the reordering window. The
 * window starts small and grows to what the path is seen to do, as in RACK (RFC 8985 section 6.2): when a chunk
 * that was asked for fills sooner than a repair could have come, it was only late. A chunk still missing an RTT
 * and a window after it was asked for is asked for again. Behind the highest completed chunk there is no gap to
 * see, so there silence is the sign: nothing new for a few times the usual interval.
 */

import type { Frontier, LossDetector } from "./acknowledger.ts";
import { AskList } from "./ask-list.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import type { NackFrame } from "./frames.ts";
import type { SessionParams } from "./policy.ts";

/** A repair cannot arrive sooner than this part of the least RTT after it was asked for. */
export const REPAIR_RTT_FRACTION = 0.9;
/** The window grows to this much more than the reordering seen, and to an RTT at most. */
export const REORDER_MARGIN = 1.25;
/** The window is never less than this part of the timers' granularity. */
const REORDER_FLOOR_FRACTION = 1 / 4;
/** Gaps are looked at this often in a window's time, but not more often than every GAP_SCAN_MIN_NS. */
const GAP_SCANS_PER_WINDOW = 8;
export const GAP_SCAN_MIN_NS = 5_000;
/**
 * What was asked for is not asked for again sooner than this part of the RTO's floor: an RTT may be measured as next
 * to nothing, and change, and timers have their granularity.
 */
const ASK_AGAIN_FLOOR_FRACTION = 1 / 16;
/** Silence of this many usual intervals between progress reports means that the tail is lost. */
export const TAIL_INTERVALS = 4;
/** Tail NACKs that nothing came of before their interval doubles, and how often it does. */
const TAIL_PATIENCE = 8;
const TAIL_DOUBLINGS_MAX = 6;
/** Room for this many gaps at first; doubles as needed, up to the message's chunks. */
const GAPS_START = 64;

const NOT_ASKED = -1;
/** In place of when a gap was noticed: it has been asked for again, and teaches nothing any more. */
const ASKED_TWICE = -Infinity;

export interface GapDetectorOptions {
  /** The reordering window's start, in least RTTs. */
  readonly reorderRtts: number;
  /** Whether silence behind the highest completed chunk is a sign of loss; default true. */
  readonly watchesTail?: boolean;
  /** Whether a chunk that filled a gap was made from others: then it teaches nothing. */
  readonly isMade?: (chunk: number) => boolean;
  /** Told of chunks that count as lost, and of those that were only late after all. */
  readonly onLost?: (chunk: number) => void;
  readonly onLate?: (chunk: number) => void;
}

/** The least time that a gap lasts before it counts as lost: the path's, and what timers are good for. */
export function reorderWindowMinNs(params: SessionParams, reorderRtts: number): number {
  const { path, rtoFloorNs } = params;
  return Math.max(
    1,
    Math.ceil(path.rttMinNs * reorderRtts),
    Math.ceil(Math.min(rtoFloorNs, path.rttMinNs) * REORDER_FLOOR_FRACTION),
  );
}

export class GapDetector implements LossDetector {
  private readonly params: SessionParams;
  /** Only chunks below are asked for; gaps above teach how late chunks may be. */
  asksBelow = Infinity;
  private readonly options: GapDetectorOptions;
  private readonly tail: TailWatch | undefined;
  private readonly windowMinNs: number;
  private reorderNs = 0;
  /** Missing chunks below the highest completed one, ascending; when each was noticed and last asked for. */
  private chunks = new Uint32Array(0);
  private noticedNs = new Float64Array(0);
  private askedNs = new Float64Array(0);
  private gaps = 0;
  private scannedNs = -Infinity;
  private dueNs = Infinity;
  private readonly asks: AskList;

  constructor(params: SessionParams, options: GapDetectorOptions) {
    this.params = params;
    this.options = options;
    this.windowMinNs = reorderWindowMinNs(params, options.reorderRtts);
    this.tail = options.watchesTail === false ? undefined : new TailWatch(params);
    this.asks = new AskList(params.frameBytesMax);
  }

  /** How long a gap may last before it counts as lost. */
  get windowNs(): number {
    return Math.max(this.windowMinNs, Math.min(this.reorderNs, this.windowMaxNs()));
  }

  /** Where timers are coarser than the path is long, chunks may be late by as much. */
  private windowMaxNs(): number {
    return Math.max(this.params.path.rttNs, this.params.rtoFloorNs);
  }

  handleGap(first: number, count: number, nowNs: number): void {
    this.reserve(this.gaps + count);
    for (let chunk = first; chunk < first + count; chunk++) {
      this.chunks[this.gaps] = chunk;
      this.noticedNs[this.gaps] = nowNs;
      this.askedNs[this.gaps] = NOT_ASKED;
      this.gaps++;
    }
    this.dueNs = Math.min(this.dueNs, nowNs + this.windowNs);
  }

  private reserve(count: number): void {
    if (count <= this.chunks.length) return;
    const room = Math.max(GAPS_START, 2 * this.chunks.length, count);
    const grow = <T extends Uint32Array | Float64Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.chunks = grow(new Uint32Array(room), this.chunks);
    this.noticedNs = grow(new Float64Array(room), this.noticedNs);
    this.askedNs = grow(new Float64Array(room), this.askedNs);
  }

  /** What is due this soon is dealt with at once, so that looks are at least this far apart. */
  private get grainNs(): number {
    return this.windowNs / GAP_SCANS_PER_WINDOW;
  }

  handleProgress(bitmap: ChunkBitmap, front: Frontier, nowNs: number): boolean {
    this.tail?.handleProgress(front.highest, nowNs, this.windowNs);
    const restNs = Math.max(GAP_SCAN_MIN_NS, this.grainNs);
    if (this.gaps > 0 && nowNs >= this.scannedNs + restNs) this.scan(bitmap, nowNs);
    this.checkTail(front, nowNs);
    return false;
  }

  handleTimeout(bitmap: ChunkBitmap | undefined, front: Frontier, nowNs: number): void {
    if (bitmap !== undefined && nowNs >= this.dueNs) this.scan(bitmap, nowNs);
    this.checkTail(front, nowNs);
  }

  /** Forgets gaps that have filled, learns from those that filled by themselves, asks for what is due. */
  private scan(bitmap: ChunkBitmap, nowNs: number): void {
    const { rttNs, rttMinNs } = this.params.path;
    const repairNs = rttMinNs * REPAIR_RTT_FRACTION;
    const askAgainNs = Math.max(Math.ceil(rttNs) + this.windowNs, askAgainFloorNs(this.params));
    const { grainNs } = this;
    let kept = 0;
    let dueNs = Infinity;
    for (let i = 0; i < this.gaps; i++) {
      const chunk = this.chunks[i] as number;
      let noticed = this.noticedNs[i] as number;
      let asked = this.askedNs[i] as number;
      if (bitmap.has(chunk)) {
        // Whether it was asked for or not: sooner than a repair, so it was on its way all the time.
        const early = asked === NOT_ASKED || nowNs < asked + repairNs;
        if (early && noticed !== ASKED_TWICE) this.handleLate(chunk, noticed, asked, nowNs);
        continue;
      }
      let chunkDueNs = asked === NOT_ASKED ? noticed + this.windowNs : asked + askAgainNs;
      if (chunk >= this.asksBelow) chunkDueNs = Infinity;
      if (nowNs + grainNs >= chunkDueNs) {
        this.asks.add(chunk, 1);
        // Soon after the second asking, it may well be the first one's repair that comes.
        if (asked !== NOT_ASKED) noticed = ASKED_TWICE;
        else this.options.onLost?.(chunk);
        asked = nowNs;
      }
      this.chunks[kept] = chunk;
      this.noticedNs[kept] = noticed;
      this.askedNs[kept] = asked;
      kept++;
      dueNs = Math.min(dueNs, asked === nowNs ? nowNs + askAgainNs : chunkDueNs);
    }
    this.gaps = kept;
    this.scannedNs = nowNs;
    this.dueNs = dueNs;
  }

  private handleLate(chunk: number, noticedNs: number, askedNs: number, nowNs: number): void {
    if (this.options.isMade?.(chunk) === true) return;
    this.learn(nowNs - noticedNs);
    if (askedNs !== NOT_ASKED) this.options.onLate?.(chunk);
  }

  private learn(extentNs: number): void {
    this.reorderNs = Math.max(this.reorderNs, Math.ceil(extentNs * REORDER_MARGIN));
  }

  private checkTail(front: Frontier, nowNs: number): void {
    if (this.tail === undefined) return;
    const first = front.highest + 1;
    const count = front.chunkCount - first;
    this.tail.armed = count > 0;
    if (count > 0 && this.tail.handleTimeout(nowNs, this.windowNs)) this.asks.add(first, count);
  }

  pollNack(): NackFrame | undefined {
    return this.asks.poll();
  }

  nextTimeoutNs(): number {
    const gapNs = this.gaps > 0 ? this.dueNs : Infinity;
    return Math.min(gapNs, this.tail?.nextTimeoutNs(this.windowNs) ?? Infinity);
  }
}

/** What was asked for is not asked for again sooner. */
export function askAgainFloorNs({ rtoFloorNs }: SessionParams): number {
  return Math.max(GAP_SCAN_MIN_NS, Math.ceil(rtoFloorNs * ASK_AGAIN_FLOOR_FRACTION));
}

/** Watches for silence while chunks behind the highest completed one are missing. */
class TailWatch {
  /** Whether there is a tail to wait for. */
  armed = true;
  private readonly params: SessionParams;
  /** Usual time between progress reports: quick to grow, slow to shrink. */
  private intervalNs: number;
  private progressNs: number;
  private firedNs = -Infinity;
  private highest = -1;
  private fires = 0;

  constructor(params: SessionParams) {
    this.params = params;
    this.progressNs = params.startNs;
    const chunkNs = (params.chunkBytes * 8e9) / params.path.rateBps;
    this.intervalNs = Number.isFinite(chunkNs) ? chunkNs : 0;
  }

  handleProgress(highest: number, nowNs: number, windowNs: number): void {
    const gapNs = nowNs - this.progressNs;
    const advanced = highest > this.highest;
    const repairNs = this.firedNs + this.params.path.rttMinNs * REPAIR_RTT_FRACTION;
    // The silence before a repair says nothing about the usual interval; anything sooner does.
    if ((this.fires === 0 || nowNs < repairNs) && gapNs > 0) {
      const sampleNs = Math.min(gapNs, this.idleMaxNs(windowNs));
      const gain = sampleNs > this.intervalNs ? 1 / 2 : 1 / 32;
      this.intervalNs += (sampleNs - this.intervalNs) * gain;
    }
    // The tail goes on by itself: what was asked for was not lost but not yet here, or not yet sent.
    if (advanced && nowNs < repairNs) this.firedNs = -Infinity;
    this.highest = highest;
    this.fires = 0;
    this.progressNs = nowNs;
  }

  private idleMaxNs(windowNs: number): number {
    return Math.max(windowNs, Math.ceil(this.params.path.rttNs), this.params.rtoFloorNs);
  }

  private idleNs(windowNs: number): number {
    const { path, rtoFloorNs } = this.params;
    const usualNs = Math.ceil(this.intervalNs * TAIL_INTERVALS);
    const floorNs = Math.min(rtoFloorNs, Math.ceil(path.rttNs));
    return Math.min(Math.max(usualNs, windowNs, floorNs), this.idleMaxNs(windowNs));
  }

  nextTimeoutNs(windowNs: number): number {
    if (!this.armed) return Infinity;
    const idleNs = this.idleNs(windowNs);
    const doublings = Math.min(Math.max(0, this.fires - TAIL_PATIENCE), TAIL_DOUBLINGS_MAX);
    const roundNs = Math.ceil(this.params.path.rttNs) + idleNs;
    const againNs = this.firedNs + Math.max(roundNs, askAgainFloorNs(this.params)) * 2 ** doublings;
    return Math.max(this.progressNs + idleNs, againNs);
  }

  /** True when the tail is to be asked for now. */
  handleTimeout(nowNs: number, windowNs: number): boolean {
    if (nowNs < this.nextTimeoutNs(windowNs)) return false;
    this.fires++;
    this.firedNs = nowNs;
    return true;
  }
}
