/**
 * Which blocks of an erasure code their parity does not save, drawn at random where chunks are lost independently: from
 * one such block straight to the next. A block is made of groups, each with so much parity of its own: one group for
 * Reed-Solomon, m for modulo groups; it is short when a group has lost more chunks than it has parity.
 */
import type { Random } from "../base/random.ts";

interface Group {
  readonly data: number;
  readonly parity: number;
  /** Probability of at most so many lost chunks, data and parity. */
  readonly atMost: Float64Array;
  /** Probability that this group is the first of its block that is short, or one before it. */
  readonly firstShort: number;
}

/** Probabilities of at most 0..n of n. */
function cumulativeBinomial(n: number, probability: number): Float64Array {
  const shares = new Float64Array(n + 1);
  shares[0] = 1;
  for (let i = 0; i < n; i++)
    for (let j = i + 1; j >= 0; j--)
      shares[j] = shares[j]! * (1 - probability) + (j > 0 ? shares[j - 1]! * probability : 0);
  let sum = 0;
  return shares.map((share) => (sum += share));
}

/** Probability of more than `most` of n, precise however small. */
function binomialAbove(n: number, most: number, probability: number): number {
  let term = 1;
  let sum = 0;
  for (let j = 1; j <= n; j++) {
    term *= ((n - j + 1) / j) * probability;
    if (j > most) sum += term * (1 - probability) ** (n - j);
  }
  return sum;
}

/** Told of each group of a short block: its number, its data that is missing, and its parity that has come. */
export type GroupListener = (group: number, missing: number, arrived: number) => void;

export class BlockLosses {
  private readonly groups: readonly Group[];
  private readonly jump: number;
  private readonly shortShare: number;

  constructor(chunkLoss: number, groups: readonly { data: number; parity: number }[]) {
    let allGood = 0;
    this.groups = groups.map(({ data, parity }) => {
      allGood += Math.log1p(-binomialAbove(data + parity, parity, chunkLoss));
      const atMost = cumulativeBinomial(data + parity, chunkLoss);
      return { data, parity, atMost, firstShort: -Math.expm1(allGood) };
    });
    this.shortShare = -Math.expm1(allGood);
    this.jump = 1 / allGood;
  }

  /** Blocks that are not short before one that is; `most` when there are so many. */
  beforeNext(random: Random, most: number): number {
    if (this.shortShare === 0) return most;
    const count = Math.floor(Math.log(1 - random.float()) * this.jump);
    return count < most ? count : most;
  }

  /** What a short block has lost: groups before the first short one have not lost too much, those after it whatever. */
  drawShort(random: Random, onGroup: GroupListener): void {
    const drawn = random.float() * this.shortShare;
    let isFirstSeen = false;
    for (const [index, group] of this.groups.entries()) {
      const { atMost, parity } = group;
      const good = atMost[parity]!;
      let share = random.float();
      if (!isFirstSeen) {
        isFirstSeen = drawn < group.firstShort;
        share = isFirstSeen ? good + share * (1 - good) : share * good;
      }
      const least = isFirstSeen && share >= good ? parity + 1 : 0;
      this.split(random, index, lostBy(atMost, share, least), onGroup);
    }
  }

  /** So many of a group's chunks are lost: which of them are data is a draw without putting back. */
  private split(random: Random, index: number, lost: number, onGroup: GroupListener): void {
    const { data, parity } = this.groups[index]!;
    let missing = 0;
    for (let i = 0; i < lost; i++) {
      const left = data + parity - i;
      if (random.float() * left < data - missing) missing++;
    }
    onGroup(index, missing, parity - (lost - missing));
  }
}

function lostBy(atMost: Float64Array, share: number, least: number): number {
  let lost = least;
  while (lost < atMost.length - 1 && atMost[lost]! <= share) lost++;
  return lost;
}
