/** Binomial probabilities: one by one, from one to the next, and all of them; precise however small. */

/** Most trials of a single probability, which must not take long. */
export const TRIALS_MAX = 1024;
/** What no longer adds to a sum. */
export const NEGLIGIBLE = 1e-17;
/** Products of numbers smaller than this lose digits. */
const TERM_MIN = 1e-280;

const LOG_FACTORIAL = new Float64Array(TRIALS_MAX + 1);
for (let n = 2; n <= TRIALS_MAX; n++) LOG_FACTORIAL[n] = LOG_FACTORIAL[n - 1]! + Math.log(n);

/** Probability of `j` events in `n` trials, at most TRIALS_MAX. */
export function binomial(n: number, j: number, probability: number): number {
  if (probability <= 0) return j === 0 ? 1 : 0;
  if (probability >= 1) return j === n ? 1 : 0;
  const ways = LOG_FACTORIAL[n]! - LOG_FACTORIAL[j]! - LOG_FACTORIAL[n - j]!;
  return Math.exp(ways + j * Math.log(probability) + (n - j) * Math.log1p(-probability));
}

/** binomial(n, j) for j = 0, 1, ..., each from the one before; from logarithms as long as those are too small. */
export class BinomialTerms {
  private readonly n: number;
  private readonly probability: number;
  private readonly odds: number;
  private j = 0;
  private term: number;

  /** 0 < probability < 1. */
  constructor(n: number, probability: number) {
    this.n = n;
    this.probability = probability;
    this.odds = probability / (1 - probability);
    this.term = binomial(n, 0, probability);
  }

  /** 0 beyond n. */
  next(): number {
    const { n, j, term } = this;
    if (j > n) return 0;
    this.j++;
    const ratio = ((n - j) / (j + 1)) * this.odds;
    const isSmall = term < TERM_MIN && ratio > 1;
    this.term = isSmall && j < n ? binomial(n, j + 1, this.probability) : term * ratio;
    return term;
  }
}

/** Probability of more than `most` events in `n` trials, at most TRIALS_MAX, 0 <= probability < 1. */
export function binomialAbove(n: number, most: number, probability: number): number {
  if (probability <= 0 || most >= n) return 0;
  const odds = probability / (1 - probability);
  let term = binomial(n, most + 1, probability);
  let sum = 0;
  for (let j = most + 1; j <= n; j++) {
    sum += term;
    if (j > n * probability && term < sum * NEGLIGIBLE) break;
    term *= ((n - j) / (j + 1)) * odds;
    // Far below the mean the first term may be too small for a number while the later ones are not.
    if (term === 0) term = binomial(n, j + 1, probability);
  }
  return Math.min(1, sum);
}

/** Probabilities of 0..count events of `probability` each. */
export function binomials(count: number, probability: number): Float64Array {
  const row = new Float64Array(count + 1);
  if (probability <= 0) row[0] = 1;
  else if (probability >= 1) row[count] = 1;
  else {
    const logs = { yes: Math.log(probability), no: Math.log1p(-probability) };
    let logWays = 0;
    for (let j = 0; j <= count; j++) {
      row[j] = Math.exp(logWays + j * logs.yes + (count - j) * logs.no);
      logWays += Math.log((count - j) / (j + 1));
    }
  }
  return row;
}
