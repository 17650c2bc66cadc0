/**
 * Chunk loss of one direction, from what bitmaps showed: how many chunks of how many, and in how many runs. Runs of
 * neighbouring chunks are taken as the independent events, so that bursts do not pass for certainty. Samples are kept
 * in buckets, of which the older are the larger, so that a change shows whether it takes one message or ten thousand;
 * what came before it is forgotten.
 */
import type { LossEstimate, LossSample } from "./policy.ts";

/** What is assumed before anything is known: one run in a hundred chunks, with the weight of half a run. */
const PRIOR_RUNS = 0.5;
const PRIOR_CHUNKS = 50;
/** Neighbouring buckets merge when all newer ones together have so many times their chunks. */
const MERGE_BESIDE = 2;
/**
 * The log-likelihood ratio of "changed" over "did not change" beyond which older samples are forgotten; by Wilks'
 * theorem chance alone reaches it once in about a million looks.
 */
const CHANGE_LIKELIHOOD = 12;
/** What is older than this is forgotten, so that slow drift is followed too. */
const CHUNKS_MAX = 2 ** 27;
/** While no run was seen, runs may be longer than one. */
const UNKNOWN_SPREAD = 0.5;
/** Quantile of the standard normal for 95 %, one-sided. */
const NORMAL_95 = 1.645;
/** No path is worth using beyond this; keeps what is derived finite. */
const PROBABILITY_MAX = 0.95;

interface Counts {
  chunks: number;
  lost: number;
  runs: number;
}

function add(to: Counts, more: Counts): void {
  to.chunks += more.chunks;
  to.lost += more.lost;
  to.runs += more.runs;
}

/** Upper 95 % bound of a Poisson mean after `count` events (Wilson and Hilferty's approximation). */
function poissonUpper(count: number): number {
  const n = count + 1;
  return n * (1 - 1 / (9 * n) + NORMAL_95 / (3 * Math.sqrt(n))) ** 3;
}

/** Log-likelihood ratio of two Poisson rates over one rate for both. */
function changeLikelihood(before: Counts, after: Counts): number {
  const rate = (before.runs + after.runs) / (before.chunks + after.chunks);
  const term = ({ runs, chunks }: Counts) =>
    runs === 0 ? 0 : runs * Math.log(runs / chunks / rate);
  return term(before) + term(after);
}

function isSensible({ chunks, lost, runs }: LossSample): boolean {
  const whole =
    Number.isSafeInteger(chunks) && Number.isSafeInteger(lost) && Number.isSafeInteger(runs);
  return (
    whole && chunks >= 1 && lost >= 0 && lost <= chunks && runs <= lost && runs >= Math.min(lost, 1)
  );
}

export class LossEstimator implements LossEstimate {
  /** Oldest first; any two neighbours have half of what all newer ones have, so they are a hundred at most. */
  private readonly buckets: Counts[] = [];
  private all: Counts = { chunks: 0, lost: 0, runs: 0 };

  get chunks(): number {
    return this.all.chunks;
  }

  get burstChunks(): number {
    return (this.all.lost + 1) / (this.all.runs + 1);
  }

  get probability(): number {
    return this.toProbability(this.all.runs + PRIOR_RUNS);
  }

  /** Runs of a geometric length tell less than runs of one, their sum varies more; and few runs tell little of that. */
  get upper(): number {
    const spread = 2 - 1 / this.burstChunks + UNKNOWN_SPREAD / (this.all.runs + 1);
    return this.toProbability(poissonUpper((this.all.runs + PRIOR_RUNS) / spread) * spread);
  }

  private toProbability(runs: number): number {
    const rate = runs / (this.all.chunks + PRIOR_CHUNKS);
    return Math.min(PROBABILITY_MAX, rate * this.burstChunks);
  }

  sample(sample: LossSample): void {
    if (!isSensible(sample)) return;
    const { chunks, lost, runs } = sample;
    this.buckets.push({ chunks, lost, runs });
    add(this.all, sample);
    this.forgetWhatChanged();
    this.merge();
    while (this.buckets.length > 1 && this.all.chunks > CHUNKS_MAX) this.forget(1);
  }

  /** Forgets the oldest `count` buckets. */
  private forget(count: number): void {
    for (const { chunks, lost, runs } of this.buckets.splice(0, count)) {
      add(this.all, { chunks: -chunks, lost: -lost, runs: -runs });
    }
  }

  /** Looks for the latest buckets that fit the ones before least, and forgets those when the misfit is no chance. */
  private forgetWhatChanged(): void {
    const before = { ...this.all };
    const after: Counts = { chunks: 0, lost: 0, runs: 0 };
    let likelihood = CHANGE_LIKELIHOOD;
    let stale = 0;
    for (let index = this.buckets.length - 1; index > 0; index--) {
      const { chunks, lost, runs } = this.buckets[index] as Counts;
      add(after, { chunks, lost, runs });
      add(before, { chunks: -chunks, lost: -lost, runs: -runs });
      const found = changeLikelihood(before, after);
      if (found <= likelihood) continue;
      likelihood = found;
      stale = index;
    }
    this.forget(stale);
  }

  /** Two neighbours become one where together they are small beside what is newer. */
  private merge(): void {
    const { buckets } = this;
    let newer = 0;
    for (let index = buckets.length - 2; index >= 0; index--) {
      const right = buckets[index + 1] as Counts;
      const left = buckets[index] as Counts;
      if ((left.chunks + right.chunks) * MERGE_BESIDE <= newer) {
        add(right, left);
        buckets.splice(index, 1);
      } else newer += right.chunks;
    }
  }
}
