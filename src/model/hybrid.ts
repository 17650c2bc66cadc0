/**
 * Completion time of the hybrid scheme. Blocks whose losses are known while there is still data to inject are repaired
 * inside the stream, which costs their repairs' injection and no wait. The blocks of the tail bring parity: the rows
 * that losses will probably take right behind them, the others a row of each block at a time behind the last data, so
 * that the message is through when the unluckiest block has what it needs. One that parity did not save costs a round
 * trip; without parity, a round trip less what was injected behind it.
 */
import { sendsPerChunk } from "./bounds.ts";
import { certainly, predictionOf } from "./completion.ts";
import { logComplete } from "./loss.ts";
import {
  blockFailures,
  leastWhole,
  type PathView,
  REPAIR_RTTS,
  tailChunks,
  usualRows,
} from "./parity.ts";
import { checkSetting, messageShape } from "./timing.ts";
import type { HybridShape, Prediction, Setting } from "./types.ts";

/** A repair sends as many fresh rows as fail to suffice with this probability. */
export const REPAIR_FAILURE = 1e-3;
/** Repairs of repairs that are looked at. */
const ROUNDS_MAX = 8;
/** Times are right to this. */
const DIGITS_NS = 1e-3;
const LAST_DIGITS = 1e-14;

const CAVEAT = "blocks are taken as independent, requests for repairs as delivered";

/** A message as the hybrid scheme's figures need it. */
export interface HybridMessage {
  /** At least 1. */
  readonly chunks: number;
  /** Time of injection of all of them. */
  readonly injectionNs: number;
}

/** Chunk loss and times of a setting: runs of chunks follow from the runs of packets in them. */
export function pathViewOf(setting: Setting): PathView {
  const { chunkNs, packets, chunks, lastPackets } = messageShape(setting);
  const each = chunks === 1 ? lastPackets : packets;
  const one = logComplete(setting.loss, each, 1);
  const probability = 0 - Math.expm1(one);
  // A run begins with a chunk that is lost behind one that is not.
  const begins = -Math.exp(one) * Math.expm1(logComplete(setting.loss, 2 * each, 1) - one);
  const burstChunks = begins > 0 ? Math.max(1, probability / begins) : 1;
  return { probability, upper: probability, burstChunks, rttNs: setting.rttNs, chunkNs };
}

/** The sum of 1 - (1 - p)^c over c = 1..n, for any p. */
function sumOfMisses(p: number, n: number): number {
  if (p * n < 1e-6) return (p * n * (n + 1)) / 2;
  const rest = Math.expm1(n * Math.log1p(-p));
  return n + ((1 - p) * rest) / p;
}

/** ln of the probability that none of one block fails. */
function logSaved(failure: number): number {
  return Math.log1p(-Math.min(failure, 1 - 1e-16));
}

/** Figures of one shape over one path; all times from the first injection on. */
class HybridTimes {
  /** Everything is through at once, and no block of the tail needed more than it usually does. */
  readonly leastNs: number;
  readonly meanNs: number;
  readonly wireOverhead: number;
  readonly fallbackProbability: number;
  /** Blocks of the tail. */
  private readonly tail: number;
  /** Probability that one of them needs more than so many rows; the last entry: more than all. */
  private readonly failures: Float64Array;
  /** Rows that go out behind the block itself. */
  private readonly early: number;
  /** One row of each block, all rows behind the last data, and a repair of what they did not save. */
  private readonly rowNs: number;
  private readonly rowsNs: number;
  private readonly roundNs: number;
  /** A block that waits for a repair waits so much less than the one behind it. */
  private readonly blockNs: number;

  constructor({ chunks, injectionNs }: HybridMessage, view: PathView, shape: HybridShape) {
    const { probability, rttNs, chunkNs } = view;
    const { k, parity, interleave } = shape;
    const blocks = Math.ceil(chunks / k);
    this.tail = Math.max(1, Math.min(blocks, Math.ceil(tailChunks(chunks, view) / k)));
    this.failures = blockFailures(k, parity, view, interleave);
    this.early = Math.min(parity, usualRows(k, view));
    // Sends of a chunk until it is there, beyond the first.
    const repeats = probability / (1 - probability);
    const headRepairs = Math.max(0, chunks - this.tail * k) * repeats;
    const missing = 1 + Math.max(0, k * repeats - parity);
    this.blockNs = parity > 0 ? DIGITS_NS : Math.max(k * chunkNs, rttNs * 1e-6, DIGITS_NS);
    this.rowNs = this.tail * chunkNs;
    this.rowsNs = (parity - this.early) * this.rowNs;
    this.roundNs = Math.max(1, REPAIR_RTTS * rttNs + missing * chunkNs);
    this.leastNs = injectionNs + (headRepairs + this.tail * this.early) * chunkNs + rttNs;
    this.meanNs = this.leastNs + this.meanRowsNs() + this.meanWaitNs();
    const repairs = headRepairs + this.tail * (parity + this.failureAfter(0) * missing);
    this.wireOverhead = repairs / chunks;
    this.fallbackProbability =
      parity === 0 ? 0 : 0 - Math.expm1(this.tail * logSaved(this.failureAfter(0)));
  }

  /** Probability that a block is still short after so many repairs. */
  private failureAfter(repairs: number): number {
    return this.failures[this.failures.length - 1]! * REPAIR_FAILURE ** repairs;
  }

  /** Expected time of the rows behind the last data that are needed. */
  private meanRowsNs(): number {
    let rows = 0;
    for (let row = this.early; row < this.failures.length - 1; row++) {
      rows -= Math.expm1(this.tail * logSaved(this.failures[row]!));
    }
    return rows * this.rowNs;
  }

  /** Expected wait for repairs that nothing hides. */
  private meanWaitNs(): number {
    let sum = 0;
    const steps = Math.min(this.tail, Math.floor(this.roundNs / this.blockNs));
    const restNs = this.roundNs - steps * this.blockNs;
    const inRest = Math.min(this.tail, steps + 1);
    for (let repairs = 0; repairs < ROUNDS_MAX; repairs++) {
      const failure = this.failureAfter(repairs);
      const missed = -Math.expm1(inRest * logSaved(failure));
      sum += this.blockNs * sumOfMisses(failure, steps) + restNs * missed;
    }
    return sum;
  }

  /** Probability that all is through `waitNs` after the last row. */
  private through(waitNs: number): number {
    const repairs = Math.floor((waitNs + DIGITS_NS) / this.roundNs);
    const leftNs = (repairs + 1) * this.roundNs - waitNs - DIGITS_NS;
    const open = Math.max(0, Math.min(this.tail, Math.ceil(leftNs / this.blockNs)));
    const later = this.tail * logSaved(this.failureAfter(repairs + 1));
    return Math.exp(open * logSaved(this.failureAfter(repairs)) + later);
  }

  /** Probability that no block needs more rows than those that go out early and `rows` besides. */
  private throughWithRows(rows: number): number {
    return Math.exp(this.tail * logSaved(this.failures[this.early + rows]!));
  }

  cdf(ns: number): number {
    const sinceNs = ns - this.leastNs;
    const digitsNs = Math.max(DIGITS_NS, LAST_DIGITS * this.leastNs);
    if (sinceNs < -digitsNs) return 0;
    // The last digit of a time must not decide whether a row that is due has come.
    const rows = this.rowNs > 0 ? Math.floor((sinceNs + digitsNs) / this.rowNs) : Infinity;
    const late = this.failures.length - 1 - this.early;
    if (rows < late) return this.throughWithRows(Math.max(0, rows));
    return this.through(Math.max(0, sinceNs - this.rowsNs));
  }

  quantileNs(q: number): number {
    const lastNs = this.leastNs + this.rowsNs;
    if (this.cdf(lastNs) >= q) {
      const late = this.failures.length - 1 - this.early;
      const rows = leastWhole(0, late, (count) => this.throughWithRows(count) >= q);
      return this.leastNs + rows * this.rowNs;
    }
    for (let repairs = 0; repairs < ROUNDS_MAX; repairs++) {
      const endNs = lastNs + (repairs + 1) * this.roundNs;
      if (this.cdf(endNs) < q) continue;
      // The least wait is the one that leaves the most blocks open.
      const steps = Math.min(this.tail, Math.floor(this.roundNs / this.blockNs));
      const closed = leastWhole(0, steps, (count) => {
        return this.cdf(endNs - (steps - count) * this.blockNs) >= q;
      });
      return endNs - (steps - closed) * this.blockNs;
    }
    return lastNs + (ROUNDS_MAX + 1) * this.roundNs;
  }
}

/** What the hybrid scheme with this shape makes of a message, by what is known of chunk loss. */
export function estimateHybrid(
  message: HybridMessage,
  view: PathView,
  shape: HybridShape,
): Prediction {
  const times = new HybridTimes(message, view, shape);
  const { leastNs, meanNs, wireOverhead, fallbackProbability } = times;
  const completion = { leastNs, meanNs, cdf: (ns: number) => times.cdf(ns) };
  const costs = { wireOverhead, fallbackProbability, caveat: CAVEAT };
  return { ...predictionOf(completion, costs), quantileNs: (q) => times.quantileNs(q) };
}

/**
 * Completion of a message by the hybrid scheme with this shape. Errors: INVALID_ARGUMENT for a
 * setting that cannot be.
 */
export function predictHybrid(setting: Setting, shape: HybridShape): Prediction {
  checkSetting(setting);
  sendsPerChunk(setting); // Says when there is no end to them.
  const { chunks, injectionNs } = messageShape(setting);
  if (chunks === 0) return predictionOf(certainly(setting.rttNs), { wireOverhead: 0 });
  return estimateHybrid({ chunks, injectionNs }, pathViewOf(setting), shape);
}
