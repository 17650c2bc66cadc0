/**
 * Chunk loss of one direction, from what bitmaps showed: how many chunks of how many, and in how many runs. Runs of
 * neighbouring chunks are taken as the independent events, so that bursts do not pass for certainty. What is known is
 * the sum of past samples; when the latest of them no longer fit those before, those before are forgotten.
 */
import type { LossEstimate, LossSample } from "./policy.ts";

/** What is assumed before anything is known: one run in a hundred chunks, with the weight of half a run. */
const PRIOR_RUNS = 0.5;
const PRIOR_CHUNKS = 50;
/** A path is taken to have changed within so many of the latest samples. */
const RECENT_SAMPLES = 16;
/**
 * The log-likelihood ratio of "changed" over "did not change" beyond which older samples are forgotten; by Wilks'
 * theorem chance alone reaches it once in about a million looks.
 */
const CHANGE_LIKELIHOOD = 12;
/** Older samples are halved beyond this, so that slow drift is followed too. */
const CHUNKS_MAX = 2 ** 27;
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
  private older: Counts = { chunks: 0, lost: 0, runs: 0 };
  /** The latest samples, oldest first. */
  private readonly recent: Counts[] = [];
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

  get upper(): number {
    return this.toProbability(poissonUpper(this.all.runs + PRIOR_RUNS));
  }

  private toProbability(runs: number): number {
    const rate = runs / (this.all.chunks + PRIOR_CHUNKS);
    return Math.min(PROBABILITY_MAX, rate * this.burstChunks);
  }

  sample(sample: LossSample): void {
    if (!isSensible(sample)) return;
    const { chunks, lost, runs } = sample;
    this.recent.push({ chunks, lost, runs });
    if (this.recent.length > RECENT_SAMPLES) add(this.older, this.recent.shift() as Counts);
    this.forgetWhatChanged();
    if (this.older.chunks > CHUNKS_MAX)
      for (const key of ["chunks", "lost", "runs"] as const) this.older[key] /= 2;
    this.all = { ...this.older };
    for (const counts of this.recent) add(this.all, counts);
  }

  /** Looks for the latest samples that fit the ones before least, and forgets those when the misfit is no chance. */
  private forgetWhatChanged(): void {
    const before = { ...this.older };
    for (const counts of this.recent) add(before, counts);
    const after: Counts = { chunks: 0, lost: 0, runs: 0 };
    let likelihood = CHANGE_LIKELIHOOD;
    let keep = 0;
    for (let count = 1; count <= this.recent.length; count++) {
      const counts = this.recent[this.recent.length - count] as Counts;
      add(after, counts);
      before.chunks -= counts.chunks;
      before.lost -= counts.lost;
      before.runs -= counts.runs;
      if (before.chunks <= 0) break;
      const found = changeLikelihood(before, after);
      if (found <= likelihood) continue;
      likelihood = found;
      keep = count;
    }
    if (keep === 0) return;
    this.older = { chunks: 0, lost: 0, runs: 0 };
    this.recent.splice(0, this.recent.length - keep);
  }
}
