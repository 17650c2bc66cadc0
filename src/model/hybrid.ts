/**
 * Completion time of the hybrid scheme: blocks whose losses are known while there is still data to inject are repaired
 * inside the stream, which costs their repairs' injection and no wait; the blocks of the tail bring parity at once, and
 * one that parity did not save costs a round trip, less what was injected behind it.
 */
import { predictionOf } from "./completion.ts";
import { logComplete } from "./loss.ts";
import { blockFailure, leastWhole, type PathView, REPAIR_RTTS, tailChunks } from "./parity.ts";
import { checkSetting, messageShape } from "./timing.ts";
import type { HybridShape, Prediction, Setting } from "./types.ts";

/** A repair sends as many fresh rows as fail to suffice with this probability. */
export const REPAIR_FAILURE = 1e-3;
/** Repairs of repairs that are looked at. */
const ROUNDS_MAX = 8;
/** Times are right to this. */
const DIGITS_NS = 1e-3;

const CAVEAT = "blocks are taken as independent, control frames as delivered";

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

/** Figures of one shape over one path; all times from the first injection on. */
class HybridTimes {
  /** Everything is through at once, and nothing of the last group was lost. */
  readonly leastNs: number;
  readonly meanNs: number;
  readonly wireOverhead: number;
  readonly fallbackProbability: number;
  private readonly shape: HybridShape;
  private readonly view: PathView;
  /** Blocks of the tail, and those of them that take turns at its end. */
  private readonly tail: number;
  private readonly last: number;
  private readonly failure: number;
  private readonly blockNs: number;
  /** One parity chunk of each of the last group, all of them, and a repair of what they did not save. */
  private readonly rowNs: number;
  private readonly rowsNs: number;
  private readonly roundNs: number;

  constructor({ chunks, injectionNs }: HybridMessage, view: PathView, shape: HybridShape) {
    const { probability, rttNs, chunkNs } = view;
    const { k, parity, interleave } = shape;
    this.shape = shape;
    this.view = view;
    const blocks = Math.ceil(chunks / k);
    this.tail = Math.max(1, Math.min(blocks, Math.ceil(tailChunks(chunks, view) / k)));
    this.last = Math.min(interleave, this.tail);
    this.failure = blockFailure(k, parity, view, interleave);
    // Sends of a chunk until it is there, beyond the first.
    const repeats = probability / (1 - probability);
    const headRepairs = Math.max(0, chunks - this.tail * k) * repeats;
    const missing = 1 + Math.max(0, k * repeats - parity);
    this.blockNs = Math.max((k + parity) * chunkNs, rttNs * 1e-6, 1);
    this.rowNs = this.last * chunkNs;
    this.rowsNs = parity * this.rowNs;
    this.roundNs = Math.max(1, REPAIR_RTTS * rttNs + missing * chunkNs);
    const before = headRepairs + (this.tail - this.last) * parity;
    this.leastNs = injectionNs + before * chunkNs + rttNs;
    this.meanNs = this.leastNs + Math.min(parity, k * repeats) * this.rowNs + this.meanWaitNs();
    const repairs = headRepairs + this.tail * (parity + this.failure * missing);
    this.wireOverhead = repairs / chunks;
    const saved = this.tail * Math.log1p(-Math.min(this.failure, 1 - 1e-16));
    this.fallbackProbability = parity === 0 ? 0 : -Math.expm1(saved);
  }

  /** Probability that a block is still short after so many repairs. */
  private failureAfter(repairs: number): number {
    return this.failure * REPAIR_FAILURE ** repairs;
  }

  /** Expected wait for repairs that nothing hides. */
  private meanWaitNs(): number {
    let sum = 0;
    const steps = Math.min(this.tail, Math.floor(this.roundNs / this.blockNs));
    const restNs = this.roundNs - steps * this.blockNs;
    const inRest = Math.min(this.tail, steps + 1);
    for (let repairs = 0; repairs < ROUNDS_MAX; repairs++) {
      const failure = this.failureAfter(repairs);
      const missed = -Math.expm1(inRest * Math.log1p(-Math.min(failure, 1 - 1e-16)));
      sum += this.blockNs * sumOfMisses(failure, steps) + restNs * missed;
    }
    return sum;
  }

  /** ln of the probability that all is through `waitNs` after the last group's rows, for the tail but `without` blocks. */
  private logThrough(waitNs: number, without: number): number {
    const repairs = Math.floor((waitNs + DIGITS_NS) / this.roundNs);
    const leftNs = (repairs + 1) * this.roundNs - waitNs - DIGITS_NS;
    const open = Math.min(this.tail, Math.ceil(leftNs / this.blockNs)) - without;
    const log = (failure: number) => Math.log1p(-Math.min(failure, 1 - 1e-16));
    const later = this.tail * log(this.failureAfter(repairs + 1));
    return Math.max(0, open) * log(this.failureAfter(repairs)) + later;
  }

  cdf(ns: number): number {
    const sinceNs = ns - this.leastNs;
    if (sinceNs < -DIGITS_NS) return 0;
    // The last digit of a time must not decide whether a chunk that is due has come.
    const rows = this.rowNs > 0 ? Math.floor((sinceNs + DIGITS_NS) / this.rowNs) : Infinity;
    if (rows < this.shape.parity) return this.throughWithRows(Math.max(0, rows));
    return Math.exp(this.logThrough(Math.max(0, sinceNs - this.rowsNs), 0));
  }

  /** Probability that the last group needs at most `rows` rows, and the others no repair. */
  private throughWithRows(rows: number): number {
    const { k, interleave } = this.shape;
    const short = Math.min(blockFailure(k, rows, this.view, interleave), 1 - 1e-16);
    return Math.exp(this.last * Math.log1p(-short) + this.logThrough(0, this.last));
  }

  quantileNs(q: number): number {
    const { parity } = this.shape;
    if (this.cdf(this.leastNs + this.rowsNs) >= q) {
      const rows = leastWhole(0, parity, (count) => this.throughWithRows(count) >= q);
      return this.leastNs + rows * this.rowNs;
    }
    for (let repairs = 0; repairs < ROUNDS_MAX; repairs++) {
      const endNs = this.leastNs + this.rowsNs + (repairs + 1) * this.roundNs;
      if (this.cdf(endNs) < q) continue;
      // So many blocks nearest to the end need not wait: the least wait leaves the most of them open.
      const steps = Math.min(this.tail, Math.floor(this.roundNs / this.blockNs));
      const closed = leastWhole(0, steps, (count) => {
        const open = steps - count;
        return this.cdf(endNs - open * this.blockNs) >= q;
      });
      return endNs - (steps - closed) * this.blockNs;
    }
    return this.leastNs + this.rowsNs + (ROUNDS_MAX + 1) * this.roundNs;
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
 * Completion of a message of at least one chunk by the hybrid scheme with this shape. Errors: INVALID_ARGUMENT for a
 * setting that cannot be.
 */
export function predictHybrid(setting: Setting, shape: HybridShape): Prediction {
  checkSetting(setting);
  const { chunks, injectionNs } = messageShape(setting);
  return estimateHybrid({ chunks: Math.max(1, chunks), injectionNs }, pathViewOf(setting), shape);
}
