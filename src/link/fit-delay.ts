/**
 * Delay, jitter and distribution of a link from delays that were measured: for each distribution the straight line
 * through (its quantiles, the measured ones), and the one whose line is nearest to the points.
 */
import { check } from "../base/errors.ts";
import { percentileSorted } from "../base/statistics.ts";
import type { DelayDistribution, LinkProfile } from "./model.ts";

/** Quantiles that are compared. */
const QUANTILES_MAX = 2000;
/** The link clips its variates here (native/link/variate.h). */
const VARIATE_MAX = 4;
/** Jitter below a clock's usual grain says nothing of a path. */
const JITTER_NS_MIN = 100;

export interface DelayCandidate {
  readonly distribution: DelayDistribution;
  readonly delayNs: number;
  readonly jitterNs: number;
  /** Root mean square distance of the measured quantiles from the fitted ones, ns. */
  readonly errorNs: number;
}

export interface DelayFit {
  readonly samples: number;
  readonly minNs: number;
  readonly medianNs: number;
  readonly p99Ns: number;
  readonly maxNs: number;
  /** Best first; empty when all delays are alike. */
  readonly candidates: readonly DelayCandidate[];
  /** The delay fields of a link. */
  readonly link: LinkProfile;
}

/** Distribution function of the standard normal, by its power series: exact to rounding within +-VARIATE_MAX. */
function normalCdf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 3; n < 200 && Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) {
    term *= (x * x) / n;
    sum += term;
  }
  return 0.5 + sum * normalDensity(x);
}

function normalDensity(x: number): number {
  return Math.exp(-x * x * 0.5) / Math.sqrt(2 * Math.PI);
}

function clip(x: number): number {
  return Math.max(-VARIATE_MAX, Math.min(VARIATE_MAX, x));
}

/** Quantile of the standard normal, clipped, by Newton's method. */
function normalQuantile(u: number): number {
  let x = 0;
  for (let round = 0; round < 50; round++) {
    const step = (normalCdf(x) - u) / normalDensity(x);
    // Far out the density is too small for a whole step.
    x = clip(x - Math.max(-1, Math.min(1, step)));
    if (Math.abs(step) < 1e-12) break;
  }
  return x;
}

/** Exponent 3, centred and scaled as in netem's table. */
function paretoQuantile(u: number): number {
  return clip((((1 - u) ** (-1 / 3) - 1.5) * 4) / 3);
}

/** What a link adds to its delay at u in (0, 1), in units of the jitter (native/link/variate.cc). */
export function delayQuantile(distribution: DelayDistribution, u: number): number {
  switch (distribution) {
    case "uniform":
      return 2 * u - 1;
    case "normal":
      return normalQuantile(u);
    case "pareto":
      return paretoQuantile(u);
    case "paretonormal":
      return clip(0.25 * normalQuantile(u) + 0.75 * paretoQuantile(u));
  }
}

function fitOne(
  distribution: DelayDistribution,
  levels: readonly number[],
  measured: readonly number[],
): DelayCandidate {
  const variates = levels.map((u) => delayQuantile(distribution, u));
  const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;
  const centre = mean(variates);
  const level = mean(measured);
  const spread = mean(variates.map((v) => (v - centre) ** 2));
  const slope = mean(variates.map((v, i) => (v - centre) * (measured[i]! - level))) / spread;
  const squares = variates.map((v, i) => (measured[i]! - level - slope * (v - centre)) ** 2);
  return {
    distribution,
    delayNs: Math.max(0, Math.round(level - slope * centre)),
    jitterNs: Math.round(slope),
    errorNs: Math.sqrt(mean(squares)),
  };
}

/** Fits one-way delays in ns, in any order. Errors: INVALID_ARGUMENT for none, or a negative one. */
export function fitDelay(samplesNs: Float64Array): DelayFit {
  check(samplesNs.length > 0, "no packet arrived: no delay", "record some that arrive");
  const ascending = samplesNs.slice().sort();
  check(
    ascending[0]! >= 0,
    `a packet arrived ${-ascending[0]!} ns before it was sent`,
    "record both times by one clock, or by synchronised ones",
  );
  const quantile = (percent: number) => percentileSorted(ascending, percent);
  const points = Math.min(QUANTILES_MAX, ascending.length);
  const levels = Array.from({ length: points }, (_, i) => (i + 0.5) / points);
  const measured = levels.map((u) => quantile(u * 100));
  const distributions: DelayDistribution[] = ["uniform", "normal", "pareto", "paretonormal"];
  const candidates =
    measured[0] === measured[points - 1]
      ? []
      : distributions
          .map((distribution) => fitOne(distribution, levels, measured))
          .sort((a, b) => a.errorNs - b.errorNs);
  const best = candidates[0];
  const link: LinkProfile =
    best === undefined || best.jitterNs < JITTER_NS_MIN
      ? { delayNs: Math.round(quantile(50)) }
      : {
          delayNs: best.delayNs,
          jitterNs: best.jitterNs,
          distribution: best.distribution,
        };
  return {
    samples: ascending.length,
    minNs: ascending[0]!,
    medianNs: quantile(50),
    p99Ns: quantile(99),
    maxNs: ascending[ascending.length - 1]!,
    candidates,
    link,
  };
}
