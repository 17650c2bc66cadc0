/**
 * The two-state chain of Gilbert and Elliott over long loss records: likelihood, run lengths, memory. As in netem a
 * packet's loss is decided by the state before the chain's step. All work is per run of equal packets, not per packet.
 */

/** Probabilities: good to bad, bad to good, loss in the bad and in the good state. */
export interface Chain {
  readonly p: number;
  readonly r: number;
  readonly lossBad: number;
  readonly lossGood: number;
}

/** A loss record as runs: lengths of packets that arrive and of packets that are lost, in turn. */
export interface Runs {
  readonly firstLost: boolean;
  readonly lengths: Uint32Array;
}

/** Runs of a record with one byte a packet, non-zero is lost. */
export function runsOf(lost: Uint8Array): Runs {
  let count = 0;
  for (let i = 0; i < lost.length; i++) {
    if (i === 0 || (lost[i] !== 0) !== (lost[i - 1] !== 0)) count++;
  }
  const lengths = new Uint32Array(count);
  let run = -1;
  for (let i = 0; i < lost.length; i++) {
    if (i === 0 || (lost[i] !== 0) !== (lost[i - 1] !== 0)) run++;
    lengths[run]!++;
  }
  return { firstLost: lost.length > 0 && lost[0] !== 0, lengths };
}

/** Lengths of the runs of lost packets. */
export function lostRuns({ firstLost, lengths }: Runs): Uint32Array {
  return lengths.filter((_, i) => (i % 2 === 0) === firstLost);
}

/** Long-run share of packets sent in the bad state. */
function badShare({ p, r }: Chain): number {
  return p + r === 0 ? 0 : p / (p + r);
}

export function chainLoss(chain: Chain): number {
  const bad = badShare(chain);
  return bad * chain.lossBad + (1 - bad) * chain.lossGood;
}

type Matrix = readonly [number, number, number, number];
type Vector = readonly [good: number, bad: number];

/** Joint probability of one packet's fate and the step after it, by states (good, bad) before and after. */
function fateMatrix({ p, r, lossBad, lossGood }: Chain, lost: boolean): Matrix {
  const good = lost ? lossGood : 1 - lossGood;
  const bad = lost ? lossBad : 1 - lossBad;
  return [good * (1 - p), good * p, bad * r, bad * (1 - r)];
}

function apply([good, bad]: Vector, [a, b, c, d]: Matrix): Vector {
  return [good * a + bad * c, good * b + bad * d];
}

/**
 * Powers of a 2 x 2 matrix without negative entries, divided by the n-th power of its larger eigenvalue, so that a run
 * of millions does not underflow: (A - l2 I - q^n (A - l1 I)) / (l1 - l2) with q = l2 / l1.
 */
class Powers {
  /** Logarithm of the larger eigenvalue; 0 where that is 0, and nothing is divided. */
  readonly logScale: number;
  private readonly a: Matrix;
  private readonly large: number;
  private readonly small: number;

  constructor(a: Matrix) {
    this.a = a;
    const spread = Math.hypot(a[0] - a[3], 2 * Math.sqrt(a[1] * a[2]));
    this.large = (a[0] + a[3] + spread) / 2;
    this.small = this.large === 0 ? 0 : (a[0] * a[3] - a[1] * a[2]) / this.large;
    this.logScale = this.large === 0 ? 0 : Math.log(this.large);
  }

  of(n: number): Matrix {
    const { a, large, small } = this;
    if (large === 0) return n === 1 ? a : [0, 0, 0, 0];
    const gap = large - small;
    // Equal eigenvalues: the limit of the general form.
    const [x, y] =
      gap < 1e-12 * large
        ? [n / large, 1 - n]
        : [(1 - (small / large) ** n) / gap, (large * (small / large) ** n - small) / gap];
    return [x * a[0] + y, x * a[1], x * a[2], x * a[3] + y];
  }
}

/** Powers for runs shorter than this are computed once a likelihood; longer ones are few. */
const KNOWN_MAX = 1024;

/** Logarithm of the probability of a record, the chain being in its steady state at the first packet. */
export function logLikelihood(chain: Chain, { firstLost, lengths }: Runs): number {
  const kinds = [firstLost, !firstLost].map((lost) => {
    const powers = new Powers(fateMatrix(chain, lost));
    return { powers, known: new Array<Matrix | undefined>(KNOWN_MAX) };
  }) as [Kind, Kind];
  let bad = badShare(chain);
  let good = 1 - bad;
  let sum = 0;
  for (let i = 0; i < lengths.length; i++) {
    const kind = kinds[i % 2] as Kind;
    const length = lengths[i]!;
    const [a, b, c, d] = powerOf(kind, length);
    // In place of apply(): there may be millions of runs.
    const toGood = good * a + bad * c;
    const toBad = good * b + bad * d;
    const total = toGood + toBad;
    if (!(total > 0)) return Number.NEGATIVE_INFINITY;
    good = toGood / total;
    bad = toBad / total;
    sum += Math.log(total) + length * kind.powers.logScale;
  }
  return sum;
}

interface Kind {
  readonly powers: Powers;
  readonly known: (Matrix | undefined)[];
}

function powerOf({ powers, known }: Kind, length: number): Matrix {
  if (length >= KNOWN_MAX) return powers.of(length);
  return (known[length] ??= powers.of(length));
}

/** P(a run of lost packets has at least n), n >= 1. */
export function runTail(chain: Chain): (n: number) => number {
  const bad = badShare(chain);
  const before = apply([1 - bad, bad], fateMatrix(chain, false));
  const powers = new Powers(fateMatrix(chain, true));
  const weight = (n: number): number => {
    const [toGood, toBad] = apply(before, powers.of(n));
    return (toGood + toBad) * Math.exp(n * powers.logScale);
  };
  const first = weight(1);
  return (n) => (first > 0 ? weight(n) / first : n <= 1 ? 1 : 0);
}

/**
 * By what factor the variance of a loss rate counted over many packets exceeds that of independent losses of the same
 * rate: 1 plus twice the sum of the loss process's autocorrelation.
 */
export function varianceFactor(chain: Chain): number {
  const loss = chainLoss(chain);
  const bad = badShare(chain);
  const memory = 1 - chain.p - chain.r;
  const variance = loss * (1 - loss);
  if (variance === 0 || memory >= 1) return 1;
  const covariance = (chain.lossBad - chain.lossGood) ** 2 * bad * (1 - bad);
  return 1 + (2 * covariance * memory) / (1 - memory) / variance;
}
