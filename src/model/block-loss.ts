/**
 * Whether a block of an erasure code can be recovered after so many sends of its data and so much of its parity (paper
 * section 5, appendix B). Chances of failure are sums of positive terms, so that they keep their digits however small.
 */
import { binomials } from "./binomial.ts";
import { incompleteAfter, packetsPerChunk, spellsOf } from "./loss.ts";
import type { LossSpells, Setting } from "./types.ts";

/** Chances that no sum of others can make matter. */
const NEGLIGIBLE = 1e-300;

/** Each of x events is kept with probability `share`: the distribution of what is left. */
function thinned(row: Float64Array, share: number): Float64Array {
  if (share >= 1) return row;
  const kept = new Float64Array(row.length);
  for (const [x, chance] of row.entries()) {
    if (chance < NEGLIGIBLE) continue;
    const parts = binomials(x, share);
    for (let j = 0; j <= x; j++) (kept[j] as number) += chance * (parts[j] as number);
  }
  return kept;
}

/** Tail sums: index j holds the probability of j or more. */
function atLeast(row: Float64Array): Float64Array {
  const sums = new Float64Array(row.length + 1);
  for (let j = row.length - 1; j >= 0; j--) sums[j] = (sums[j + 1] as number) + (row[j] as number);
  return sums;
}

/** A code's block: `data` chunks of it, and `parity` chunks that follow. */
export interface BlockShape {
  readonly kind: "ec-mds" | "ec-xor";
  readonly m: number;
  readonly data: number;
}

/** Parity chunks worth sending: modulo groups without data have none. */
export function parityOf({ kind, m, data }: BlockShape): number {
  return kind === "ec-mds" ? m : Math.min(m, data);
}

export interface BlockFailure {
  /** ln of the probability that the block can be recovered. */
  readonly logSuccess: number;
  /** Data chunks that are missing of one that cannot, on average. */
  readonly missing: number;
}

/** The loss of chunks in a row, told by a setting. */
export class BlockLoss {
  private readonly setting: Setting;
  private readonly packets: number;
  private readonly chain: ChunkChain | undefined;
  private readonly bySends: number[] = [];
  /** Distributions of runs of losses worked out so far: of a few shapes and rounds. */
  private readonly known = new Map<string, Float64Array>();
  /** P, of a whole chunk sent once. */
  readonly probability: number;

  /** `packets`: of a chunk. */
  constructor(setting: Setting, packets = packetsPerChunk(setting)) {
    this.setting = setting;
    this.packets = packets;
    const spells = spellsOf(setting.loss);
    this.chain = spells === undefined ? undefined : chunkChain(spells, packets);
    this.probability = incompleteAfter(setting.loss, packets, 1);
  }

  /** S(y). */
  incomplete(sends: number): number {
    return (this.bySends[sends] ??= incompleteAfter(this.setting.loss, this.packets, sends));
  }

  /** Distribution of the chunks of `count` neighbours, `apart` from each other, that are incomplete after `sends`. */
  private counts(count: number, apart: number, sends: number): Float64Array {
    const incomplete = this.incomplete(sends);
    const { chain, known, probability } = this;
    if (chain === undefined || probability === 0) return binomials(count, incomplete);
    const key = `${count} ${apart} ${sends}`;
    let row = known.get(key);
    if (row === undefined) {
      row = thinned(chain.counts(count, apart), incomplete / probability);
      known.set(key, row);
    }
    return row;
  }

  /** Of a block whose data was sent `sends` times and of whose parity the first `parity` chunks were sent. */
  failure(block: BlockShape, sends: number, parity: number): BlockFailure {
    return block.kind === "ec-mds"
      ? this.failureMds(block, sends, parity)
      : this.failureXor(block, sends, parity);
  }

  /** More data chunks are missing than parity chunks arrived. */
  private failureMds({ data }: BlockShape, sends: number, parity: number): BlockFailure {
    const missing = this.counts(data, 1, sends);
    const lostParity = this.counts(parity, 1, 1);
    const atLeastMissing = atLeast(missing);
    const sumMissing = atLeast(missing.map((chance, x) => chance * x));
    let fails = 0;
    let chunks = 0;
    for (const [lost, chance] of lostParity.entries()) {
      const least = Math.min(data + 1, parity - lost + 1);
      fails += chance * (atLeastMissing[least] as number);
      chunks += chance * (sumMissing[least] as number);
    }
    return failureOf(fails, chunks, data);
  }

  /** In some group two are missing, or one whose parity has not arrived. */
  private failureXor({ data, m }: BlockShape, sends: number, parity: number): BlockFailure {
    const total = Math.min(m, data);
    let logSuccess = 0;
    let missing = 0;
    // Of what is missing where the group is saved by its parity, as a share of the group's chance to be.
    let saved = 0;
    let row: Float64Array = new Float64Array(0);
    let tail: Float64Array = row;
    for (let group = 0; group < total; group++) {
      const count = Math.floor((data - 1 - group) / m) + 1;
      // Groups are of two sizes at most, the larger first.
      if (row.length !== count + 1) {
        row = this.counts(count, m, sends);
        tail = atLeast(row);
      }
      // Parity goes on from the group behind that of the last data chunk.
      const position = (((group - data) % total) + total) % total;
      const lost = position < parity ? this.probability : 1;
      const fails = Math.min(1, (1 - lost) * (tail[2] ?? 0) + lost * (tail[1] as number));
      logSuccess += Math.log1p(-fails);
      missing += row.reduce((sum, chance, x) => sum + chance * x, 0);
      if (fails < 1) saved += ((1 - lost) * (row[1] as number)) / (1 - fails);
    }
    const fails = -Math.expm1(logSuccess);
    if (!(fails > 0)) return { logSuccess, missing: 0 };
    // Seldom failures are of two chunks, or of one and its parity; there the difference would lose its digits.
    const chunks = fails > SELDOM ? (missing - (1 - fails) * saved) / fails : 2;
    return { logSuccess, missing: Math.min(data, Math.max(1, chunks)) };
  }
}

/** A chance of failure below this is of the least number of losses. */
const SELDOM = 1e-6;

function failureOf(fails: number, chunks: number, data: number): BlockFailure {
  if (!(fails > 0)) return { logSuccess: 0, missing: 0 };
  return {
    logSuccess: Math.log1p(-Math.min(1, fails)),
    missing: Math.min(data, Math.max(1, chunks / fails)),
  };
}

type Matrix = readonly [number, number, number, number];

function product(a: Matrix, b: Matrix): Matrix {
  return [
    a[0] * b[0] + a[1] * b[2],
    a[0] * b[1] + a[1] * b[3],
    a[2] * b[0] + a[3] * b[2],
    a[2] * b[1] + a[3] * b[3],
  ];
}

function power(a: Matrix, exponent: number): Matrix {
  let result: Matrix = [1, 0, 0, 1];
  let square = a;
  for (let left = exponent; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) result = product(result, square);
    square = product(square, square);
  }
  return result;
}

interface ChunkChain {
  counts(count: number, apart: number): Float64Array;
}

/** The packets' chain of states, good and bad, seen a chunk at a time. */
function chunkChain({ enter, leave, lossBad, lossGood }: LossSpells, packets: number): ChunkChain {
  const step: Matrix = [1 - enter, enter, leave, 1 - leave];
  const come: Matrix = [1 - lossGood, 0, 0, 1 - lossBad];
  // From the state of a chunk's first packet to that of the next chunk's first.
  const complete = power(product(come, step), packets);
  const any = power(step, packets);
  const lost = any.map((chance, i) => Math.max(0, chance - (complete[i] as number)));
  const lossy = lost as unknown as Matrix;
  const bad = enter / (enter + leave);
  return {
    counts(count: number, apart: number): Float64Array {
      const between = power(any, apart - 1);
      const [yes, no] = [product(lossy, between), product(complete, between)];
      let good = Float64Array.of(1 - bad);
      let ill = Float64Array.of(bad);
      for (let chunk = 0; chunk < count; chunk++) {
        const nextGood = new Float64Array(chunk + 2);
        const nextIll = new Float64Array(chunk + 2);
        for (let x = 0; x <= chunk; x++) {
          const [g, b] = [good[x] as number, ill[x] as number];
          nextGood[x]! += g * no[0] + b * no[2];
          nextIll[x]! += g * no[1] + b * no[3];
          nextGood[x + 1]! += g * yes[0] + b * yes[2];
          nextIll[x + 1]! += g * yes[1] + b * yes[3];
        }
        [good, ill] = [nextGood, nextIll];
      }
      return good.map((chance, x) => chance + (ill[x] as number));
    },
  };
}
