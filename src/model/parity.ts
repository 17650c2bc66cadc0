/**
 * How much parity a block of chunks needs, and how a message is cut into blocks, for a given loss.
 *
 * Chunks are lost in runs. A path whose runs have a geometric length is a chain of two states, and every D-th chunk of
 * it, which is what interleaving by D gives a block, is such a chain again: its correlation is the D-th power. Runs are
 * taken as independent events: their number in a block is binomial, their lengths are geometric. Without correlation
 * that is the binomial distribution of the paper's section 5, exactly.
 */
import { BinomialTerms, binomial, binomialAbove, NEGLIGIBLE, TRIALS_MAX } from "./binomial.ts";
import type { ChunkLossView, HybridShape } from "./types.ts";

/** A path as parity sees it. */
export interface PathView extends ChunkLossView {
  /** Round-trip time; 0: losses are known at once. */
  readonly rttNs: number;
  /** One chunk's time of injection. 0: injection takes no time, so the whole message is its tail. */
  readonly chunkNs: number;
}

/** Loss of a stream of chunks: the share, and the mean length of its runs. */
export type RunLoss = Pick<ChunkLossView, "probability" | "burstChunks">;

/** Data and parity chunks of a block: the code's field has so many elements. */
export const BLOCK_CHUNKS_MAX = 256;
/** Blocks that take turns at most; more would put off the repair of the first of them. */
export const INTERLEAVE_MAX = 16;
/** Chunks of a message of any length that room for parity is kept for. */
const PARITY_CHUNKS_MIN = 64;
/** Fresh rows are as good as never used up: they fail to cover a block's losses with this probability. */
const ROWS_FAILURE = 1e-8;
/** Rows are no fewer, so that a path which worsens a thousandfold is still repaired by them. */
const ROWS_MIN = 16;
/** Blocks that take turns although no bursts were seen, as far as the tail has so many: they may come all the same. */
const INTERLEAVE_USUAL = 8;
/** Interleaving by so many mean runs leaves next to no correlation: e^-4. */
const INTERLEAVE_RUNS = 4;
/** Runs longer by chance than independent losses make them, by up to this share, are no bursts. */
const BURST_TOLERANCE = 0.05;
/** Expected time is not worth buying with more parity below this part of the ideal completion time. */
const MEAN_TOLERANCE = 5e-4;
/** Of a block that parity did not save: round trips until it is repaired, with the wait for stragglers. */
export const REPAIR_RTTS = 1 + 1 / 32;
/** Share of messages that wait for a repair below which one parity chunk more saves less than the one before. */
const FEW = 0.1;
/** How many times longer than by chance the runs are that fall on a block, when `interleave` blocks take turns. */
export function runExcess({ probability, burstChunks }: RunLoss, interleave = 1): number {
  const correlation = 1 - 1 / Math.max(1, burstChunks * (1 - probability));
  return 1 / (1 - correlation ** interleave);
}

/**
 * Probability that more than `parity` of a block's k + parity chunks are lost, so that its data cannot be made from
 * what came; k + parity at most 1024. Exact for independent losses; for runs, a little too high.
 */
export function blockFailure(k: number, parity: number, loss: RunLoss, interleave = 1): number {
  const { probability } = loss;
  const n = k + parity;
  if (n > TRIALS_MAX) throw new RangeError(`a block of ${n} chunks is above ${TRIALS_MAX}`);
  if (probability <= 0 || k === 0) return 0;
  if (probability >= 1) return 1;
  const excess = runExcess(loss, interleave);
  const rate = probability / excess;
  if (excess < 1 + 1e-9) return binomialAbove(n, parity, probability);
  // j runs make more than `parity` losses when fewer than j of them end within the first `parity` losses. One more
  // than began behind the first chunk when that is lost.
  const runs = new BinomialTerms(n - 1, rate);
  const ends = new BinomialTerms(parity, 1 / excess);
  let sum = 0;
  let fewer = 0;
  for (let j = 0; j < n; j++) {
    const share = runs.next();
    const notMore = fewer + ends.next();
    sum += share * ((1 - probability) * fewer + probability * notMore);
    if (j > n * rate && share < sum * NEGLIGIBLE) break;
    fewer = notMore;
  }
  return Math.min(1, sum);
}

/**
 * The same for every number of parity chunks from 0 to `parityMost`: the probability that a block needs more than so
 * many. Without bursts in one pass: what it needs is how many are lost before k have come.
 */
export function blockFailures(
  k: number,
  parityMost: number,
  loss: RunLoss,
  interleave = 1,
): Float64Array {
  const { probability } = loss;
  const failures = new Float64Array(parityMost + 1);
  failures[parityMost] = blockFailure(k, parityMost, loss, interleave);
  const independent = probability < 1 && runExcess(loss, interleave) < 1 + 1e-9;
  for (let needed = parityMost; needed > 0; needed--) {
    failures[needed - 1] = independent
      ? failures[needed]! + binomial(k + needed - 1, needed, probability) * (1 - probability)
      : blockFailure(k, needed - 1, loss, interleave);
  }
  return failures;
}

/** Least whole number from `least` to `most` for which `holds`, which stays true once it is; else `most`. */
export function leastWhole(least: number, most: number, holds: (value: number) => boolean): number {
  let low = least;
  let high = most;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Least number of fresh parity rows to send for a block that lacks `missing` chunks, so that as many arrive with a
 * probability of 1 - `target`; at most 1024.
 */
export function repairRows(missing: number, view: ChunkLossView, target: number): number {
  if (missing <= 0) return 0;
  const loss = { probability: view.upper, burstChunks: view.burstChunks };
  const most = Math.max(0, TRIALS_MAX - missing);
  return missing + leastWhole(0, most, (more) => blockFailure(missing, more, loss) <= target);
}

/**
 * Most parity chunks that a message of `chunkCount` chunks may bring, whatever its shape: half of its own, and at least
 * 64, which is the room that queue pairs have by default.
 */
export function hybridParityChunks(chunkCount: number): number {
  return chunkCount === 0 ? 0 : Math.max(PARITY_CHUNKS_MIN, Math.ceil(chunkCount / 2));
}

/** Rows that a block's losses will probably take: they go out right behind it, the others behind the last data. */
export function usualRows(k: number, { probability }: Pick<ChunkLossView, "probability">): number {
  return Math.floor(k * probability);
}

/** The last chunks of a message, whose loss is known only after everything is injected: one RTT's worth. */
export function tailChunks(chunkCount: number, { rttNs, chunkNs }: PathView): number {
  if (chunkNs <= 0) return chunkCount;
  return Math.min(chunkCount, Math.ceil(rttNs / chunkNs));
}

/** So many blocks take turns that a run of the usual length falls on as many: no correlation is left within one. */
function interleaveFor(loss: RunLoss, blockCount: number): number {
  const excess = runExcess(loss);
  if (excess <= 1 + BURST_TOLERANCE) return 1;
  return Math.min(INTERLEAVE_MAX, blockCount, Math.ceil(INTERLEAVE_RUNS * excess));
}

/** The widest blocks, all of one size, whose rows cover what they may lose. */
function cutIntoBlocks(chunkCount: number, loss: RunLoss): Omit<HybridShape, "parity"> {
  const room = hybridParityChunks(chunkCount);
  const cut = (rowsWanted: number) => {
    const blocks = Math.ceil(chunkCount / (BLOCK_CHUNKS_MAX - rowsWanted));
    const k = Math.ceil(chunkCount / blocks);
    // Wholly used blocks of k: rounding up may need fewer than `blocks` of them.
    const count = Math.ceil(chunkCount / k);
    const rows = Math.min(BLOCK_CHUNKS_MAX - k, Math.floor(room / count));
    return { k, rows, count };
  };
  // Half of a message's chunks of parity is what room is kept for: 85 of 256.
  const wanted = leastWhole(ROWS_MIN, Math.floor(BLOCK_CHUNKS_MAX / 3), (rows) => {
    const k = BLOCK_CHUNKS_MAX - rows;
    const interleave = interleaveFor(loss, Math.ceil(chunkCount / k));
    return blockFailure(k, rows, loss, interleave) <= ROWS_FAILURE;
  });
  const { k, rows, count } = cut(wanted);
  return { k, rows, interleave: interleaveFor(loss, count) };
}

/**
 * The hybrid scheme's shape for a message of `chunkCount` chunks, 1 or more: the least parity that lets at most a share
 * `target` of such messages wait for a repair after everything is injected, were the loss at its upper bound; more of
 * it where that shortens the expected time. Where no parity reaches the target, all there is room for.
 */
export function hybridShape(chunkCount: number, view: PathView, target: number): HybridShape {
  const { burstChunks, rttNs, chunkNs } = view;
  const worst = { probability: view.upper, burstChunks };
  const expected = { probability: view.probability, burstChunks };
  const { k, rows, interleave: needed } = cutIntoBlocks(Math.max(1, chunkCount), worst);
  const tail = tailChunks(chunkCount, view) / k;
  const interleave = Math.max(needed, Math.min(INTERLEAVE_USUAL, Math.floor(tail)));
  const blocks = Math.max(1, Math.ceil(tail));
  const each = target / blocks;
  const least = leastWhole(0, rows, (m) => blockFailure(k, m, worst, interleave) <= each);
  const worthNs = MEAN_TOLERANCE * (chunkCount * chunkNs + rttNs);
  const waitNs = (m: number) =>
    REPAIR_RTTS * rttNs * Math.min(1, blocks * blockFailure(k, m, expected, interleave));
  // Where most messages wait, parity hardly helps; from where few do, the wait falls ever more slowly, and the first
  // step that is not worth its price ends the search.
  const few = (m: number) => blocks * blockFailure(k, m, expected, interleave) <= FEW;
  let parity = leastWhole(least, rows, few);
  for (let nowNs = waitNs(parity); parity < rows; parity++) {
    const nextNs = waitNs(parity + 1);
    if (nowNs - nextNs <= worthNs) break;
    nowNs = nextNs;
  }
  if (waitNs(least) - waitNs(parity) <= worthNs * (parity - least)) parity = least;
  return { k, rows, parity, interleave };
}

/** Share of messages of this shape that wait for a repair, were the loss at its upper bound; at most 1. */
export function shapeFailure(chunkCount: number, view: PathView, shape: HybridShape): number {
  const { k, parity, interleave } = shape;
  const worst = { probability: view.upper, burstChunks: view.burstChunks };
  const blocks = Math.max(1, Math.ceil(tailChunks(chunkCount, view) / k));
  return Math.min(1, blocks * blockFailure(k, parity, worst, interleave));
}
