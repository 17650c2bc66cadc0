/** What every prediction is made of: a distribution function and its mean; quantiles follow from it. */
import { check } from "../base/errors.ts";
import type { Prediction } from "./types.ts";

/** When a message completes: at its earliest, on average, and within a time. */
export interface Completion {
  readonly leastNs: number;
  readonly meanNs: number;
  cdf(ns: number): number;
}

/** A bisection ends when its bounds are this close, as a share of the time, or after so many steps. */
const PRECISION = 1e-12;
const STEPS_MAX = 200;

/**
 * The least time within which a share `q` of messages completes. Errors: INVALID_ARGUMENT unless 0 < q < 1.
 */
export function quantileNs({ leastNs, meanNs, cdf }: Completion, q: number): number {
  check(q > 0 && q < 1, `share ${q} is out of range`, "give more than 0 and less than 1");
  if (cdf(leastNs) >= q) return leastNs;
  let low = leastNs;
  let high = Math.max(meanNs, leastNs);
  for (let widthNs = Math.max(1, high - low); cdf(high) < q; widthNs *= 2) {
    if (high > 1e30) return Infinity;
    low = high;
    high += widthNs;
  }
  for (let step = 0; step < STEPS_MAX && high - low > PRECISION * high; step++) {
    const middle = low + (high - low) / 2;
    if (cdf(middle) >= q) high = middle;
    else low = middle;
  }
  return high;
}

/** All at one time. */
export function certainly(ns: number): Completion {
  return { leastNs: ns, meanNs: ns, cdf: (atNs) => (atNs >= ns ? 1 : 0) };
}

/** The same, so much later. */
export function later(completion: Completion, byNs: number): Completion {
  return {
    leastNs: completion.leastNs + byNs,
    meanNs: completion.meanNs + byNs,
    cdf: (ns) => completion.cdf(ns - byNs),
  };
}

export interface Costs {
  readonly wireOverhead: number;
  readonly fallbackProbability?: number;
  /** Why it is not exact. */
  readonly caveat?: string;
}

export function predictionOf(completion: Completion, costs: Costs): Prediction {
  const { wireOverhead, fallbackProbability = 0, caveat } = costs;
  return {
    method: "analytic",
    exact: caveat === undefined,
    ...(caveat === undefined ? {} : { caveat }),
    meanNs: completion.meanNs,
    quantileNs: (q) => quantileNs(completion, q),
    cdf: (ns) => completion.cdf(ns),
    wireOverhead,
    fallbackProbability,
  };
}
