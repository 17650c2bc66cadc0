/**
 * Summaries of samples. Percentiles are nearest-rank: the smallest sample with at least p percent
 * of the samples at or below it, so every percentile reported is a value that occurred.
 */
import { check } from "./errors.ts";

export interface Summary {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly min: number;
  readonly max: number;
  /** Half the width of the mean's 95 % confidence interval; 0 for one sample. */
  readonly ci95: number;
}

type Samples = Float64Array | readonly number[];

function checkSome(samples: Samples): void {
  check(samples.length > 0, "no samples to summarise", "give at least one");
}

/** Arithmetic mean; compensated (Neumaier), so a million nanosecond times keep their last digit. */
export function mean(samples: Samples): number {
  checkSome(samples);
  let sum = 0;
  let lost = 0;
  for (const sample of samples) {
    const next = sum + sample;
    lost += Math.abs(sum) >= Math.abs(sample) ? sum - next + sample : sample - next + sum;
    sum = next;
  }
  return (sum + lost) / samples.length;
}

/** Unbiased sample standard deviation (n - 1); 0 for one sample. */
export function standardDeviation(samples: Samples): number {
  const centre = mean(samples);
  if (samples.length === 1) return 0;
  let squares = 0;
  for (const sample of samples) squares += (sample - centre) ** 2;
  return Math.sqrt(squares / (samples.length - 1));
}

/**
 * Two-sided 95 % quantiles of Student's t by degrees of freedom 1..30; beyond, the normal quantile
 * with its first correction, right to three digits.
 */
const T95 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048,
  2.045, 2.042,
];

function studentT95(degrees: number): number {
  return T95[degrees - 1] ?? 1.959964 + 2.3722 / degrees;
}

/** Half the width of the mean's 95 % confidence interval (Student's t); 0 for one sample. */
export function ci95(samples: Samples): number {
  checkSome(samples);
  if (samples.length === 1) return 0;
  const error = standardDeviation(samples) / Math.sqrt(samples.length);
  return studentT95(samples.length - 1) * error;
}

export function min(samples: Samples): number {
  checkSome(samples);
  let least = Number.POSITIVE_INFINITY;
  for (const sample of samples) least = Math.min(least, sample);
  return least;
}

export function max(samples: Samples): number {
  checkSome(samples);
  let most = Number.NEGATIVE_INFINITY;
  for (const sample of samples) most = Math.max(most, sample);
  return most;
}

/** Nearest rank within samples already ascending; `percent` 0..100, 0 is the least sample. */
export function percentileSorted(ascending: Samples, percent: number): number {
  checkSome(ascending);
  check(percent >= 0 && percent <= 100, `percentile ${percent}`, "give 0 to 100");
  // 99.9 percent of 1000 is 999.0000000000001 in binary: do not let that ask for the next rank.
  const rank = Math.ceil((percent * ascending.length) / 100 - 1e-9);
  return ascending[Math.max(0, rank - 1)]!;
}

/** Nearest-rank percentile of samples in any order; the input is left as it is. */
export function percentile(samples: Samples, percent: number): number {
  return percentileSorted(Float64Array.from(samples).sort(), percent);
}

/** All of the above in one pass over a sorted copy. */
export function summarize(samples: Samples): Summary {
  checkSome(samples);
  const ascending = Float64Array.from(samples).sort();
  return {
    count: ascending.length,
    mean: mean(ascending),
    p50: percentileSorted(ascending, 50),
    p99: percentileSorted(ascending, 99),
    p999: percentileSorted(ascending, 99.9),
    min: ascending[0]!,
    max: ascending[ascending.length - 1]!,
    ci95: ci95(ascending),
  };
}
