/**
 * When a message's tail begins, and how much parity what cannot be repaired in time gets. A chunk's loss is known, and
 * its repair sent, one RTT and the receiver's reordering window after it was injected. Chunks for which that is before
 * the last injection cost nothing to repair; the rest is the tail.
 */
import { repairRows, runExcess, usualRows } from "../model/parity.ts";
import type { ChunkLossView, HybridShape } from "../model/types.ts";
import { reorderWindowMinNs } from "./gap-detector.ts";
import type { SessionParams } from "./policy.ts";
import { REORDER_RTTS_DEFAULT } from "./selective-repeat.ts";

/** A gap is looked at now and then, and control takes its time: so many reordering windows until it is asked for. */
const SLACK_WINDOWS = 2;
/** Injection is measured over so many chunks at least. */
const MEASURED_CHUNKS_MIN = 64;
/** Nothing injected for so long, and for so many times as long as it usually takes, is a pause. */
const PAUSE_RTTS = 1 / 4;
const PAUSE_FACTOR = 4;
/** A message of at most so many chunks is all tail while the pace is not known; a longer one has time to learn it. */
const UNKNOWN_PACE_TAIL_CHUNKS = 256;

/** What a path's messages were seen to be injected at, where no rate is set. */
export interface MeasuredPace {
  /** 0: not known. */
  chunkNs: number;
}

/** Time between chunks: by the rate that is set, or as measured, and not faster than the window lets them go. */
export class Pace {
  private readonly params: SessionParams;
  private readonly measured: MeasuredPace;
  private chunks = 0;
  private elapsedNs = 0;
  private lastNs = -1;

  constructor(params: SessionParams, measured: MeasuredPace) {
    this.params = params;
    this.measured = measured;
  }

  injected(count: number, nowNs: number): void {
    const gapNs = nowNs - this.lastNs;
    const isFirst = this.lastNs < 0;
    this.lastNs = nowNs;
    if (isFirst || this.isPause(gapNs, count)) return;
    this.chunks += count;
    this.elapsedNs += gapNs;
    if (this.chunks >= MEASURED_CHUNKS_MIN && this.elapsedNs > 0)
      this.measured.chunkNs = this.elapsedNs / this.chunks;
  }

  /** Nothing was there to inject for a while: the wait for a repair is no pace. */
  private isPause(gapNs: number, count: number): boolean {
    if (gapNs < this.params.path.rttMinNs * PAUSE_RTTS) return false;
    const usualNs = this.chunks > 0 ? (this.elapsedNs / this.chunks) * count : 0;
    return gapNs > usualNs * PAUSE_FACTOR && usualNs > 0;
  }

  /** 0: not known. */
  get chunkNs(): number {
    const { chunkBytes, path, windowChunks } = this.params;
    if (!Number.isFinite(path.rateBps)) return this.measured.chunkNs;
    return Math.max((chunkBytes * 8e9) / path.rateBps, path.rttNs / windowChunks);
  }
}

/** From when a loss is noticed until no more of its neighbourhood are expected; and more than the notice takes. */
export function noticeSlackNs(params: SessionParams): number {
  return SLACK_WINDOWS * reorderWindowMinNs(params, REORDER_RTTS_DEFAULT);
}

/**
 * Chunks that may still be handed out before the tail begins, when `rest` chunks are left and `repairs` wait: 0 when it
 * begins now.
 */
export function headRoom(params: SessionParams, pace: Pace, rest: number, repairs: number): number {
  const { chunkNs } = pace;
  if (chunkNs === 0) return params.chunkCount <= UNKNOWN_PACE_TAIL_CHUNKS ? 0 : Infinity;
  const { loss, rttMinNs } = params.path;
  const hiddenChunks = (rttMinNs + noticeSlackNs(params)) / chunkNs - repairs;
  return Math.max(0, Math.ceil(rest - Math.max(0, hiddenChunks) / (1 + loss.probability)));
}

/** Rows for blocks of which some chunks' loss cannot be repaired in time; rests on what is known of loss when made. */
export class RowPlan {
  /** Rows of a block that is exposed so much, where that was needed. */
  private readonly known = new Map<number, number>();
  private readonly rowsMax: number;
  private readonly view: ChunkLossView;
  private readonly target: number;

  /** `target`: a block's share of the message's. */
  constructor({ rows, interleave }: HybridShape, loss: ChunkLossView, target: number) {
    const { probability, upper, burstChunks } = loss;
    const excess = runExcess({ probability: upper, burstChunks }, interleave);
    this.rowsMax = rows;
    // The runs that fall on a block, which takes turns with others.
    this.view = { probability, upper, burstChunks: excess / Math.max(1 - upper, Number.EPSILON) };
    this.target = target;
  }

  /** So that `exposed` chunks and the rows, sent once, bring as many as the chunks are. */
  rowsFor(exposed: number): number {
    let rows = this.known.get(exposed);
    if (rows === undefined) {
      rows = Math.min(this.rowsMax, repairRows(exposed, this.view, this.target) - exposed);
      this.known.set(exposed, rows);
    }
    return rows;
  }

  /** Rows that will be needed more likely than not. */
  earlyFor(exposed: number): number {
    return usualRows(exposed, this.view);
  }
}
