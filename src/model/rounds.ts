/**
 * The time by which every one of many chunks has come through, each sent again and again until it has: the distribution
 * of max over i of X_i (paper section 5), for any number of chunks in time that does not depend on it.
 *
 * Chunks are first injected in runs of even spacing; a chunk's y-th send is done a fixed time after its first. With
 * S(y) the probability that it is incomplete after y sends, ln F(t) is the sum over y of n_y(t) ln(1 - S(y)), n_y(t)
 * chunks having been sent y times by t. As t goes on, chunks step from y - 1 to y at even spacing, so between the times
 * at which a run begins or ends to take a step, ln F is a staircase of equal treads (or, seen from afar, a slope), and
 * the integral of F a geometric series.
 */
import { check, SdrError } from "../base/errors.ts";
import type { Completion } from "./completion.ts";

/** `count` chunks, the first of them injected at `firstNs`, the others `stepNs` apart. */
export interface Run {
  readonly firstNs: number;
  readonly stepNs: number;
  readonly count: number;
  /** ln(1 - S(y)) at index y - 1. */
  readonly logComplete: readonly number[];
}

export interface RoundsOptions {
  /** In order of time; the last chunk of the last run is the last one injected. */
  readonly runs: readonly Run[];
  /** From a chunk's first send to its y-th, at index y - 1; ascending, as long as the runs' `logComplete`. */
  readonly delaysNs: readonly number[];
}

/** Sends of a chunk that are looked at; at a chunk loss of 0.99 that is what 2^31 chunks need. */
export const SENDS_MAX = 6000;
/** Chances this small, summed over all chunks, are left out. */
const NEGLIGIBLE = 1e-17;
const LAST_DIGITS = 1e-14;
/** Below this, e^x is 0. */
const LOG_ZERO = -745;

/** What takes more than so many sends is not worth a prediction. */
export function neverDone(what: string, sends: number): SdrError {
  return new SdrError(
    "UNSUPPORTED",
    `${what} would take more than ${sends} sends each`,
    "loss is too near to 1: make chunks smaller, or choose another link",
  );
}

/**
 * ln(1 - S(y)) for y = 1, 2, ... until `chunks` of them are complete as good as certainly.
 * Errors: UNSUPPORTED when that takes more than SENDS_MAX sends.
 */
export function logCompleteSeries(chunks: number, logComplete: (sends: number) => number) {
  const series: number[] = [];
  for (let sends = 1; sends <= SENDS_MAX; sends++) {
    // What is never complete has no share either way; differences stay numbers.
    const log = Math.max(LOG_ZERO, logComplete(sends));
    series.push(log);
    if (-log * chunks < NEGLIGIBLE) return series;
  }
  throw neverDone(`${chunks} chunks`, SENDS_MAX);
}

/** Chunks of a run whose step at `delayNs` after their injection is done by `ns`. */
function passed(run: Run, delayNs: number, ns: number, isEven: boolean): number {
  // The last digits of a time must not decide whether a step that is due has been taken.
  const sinceNs = ns - delayNs - run.firstNs + LAST_DIGITS * ns;
  if (sinceNs < 0) return 0;
  if (run.stepNs <= 0) return run.count;
  const steps = sinceNs / run.stepNs;
  return Math.min(run.count, isEven ? Math.floor(steps) + 1 : steps + 1);
}

function lastNs({ firstNs, stepNs, count }: Run): number {
  return firstNs + (count - 1) * stepNs;
}

class Rounds {
  readonly endNs: number;
  private readonly runs: readonly Run[];
  private readonly delaysNs: readonly number[];
  /** All runs of more than one chunk have one spacing: then steps are taken one by one. */
  private readonly isEven: boolean;

  constructor({ runs, delaysNs }: RoundsOptions) {
    check(runs.length > 0 && delaysNs.length > 0, "no chunks to send", "give at least one");
    this.runs = runs;
    this.delaysNs = delaysNs;
    this.endNs = Math.max(...runs.map(lastNs));
    this.isEven = runs.filter(({ count }) => count > 1).length <= 1;
  }

  /** ln F, -Infinity before all are injected. */
  logCdf(ns: number): number {
    if (ns < this.endNs) return -Infinity;
    let sum = 0;
    for (const run of this.runs) {
      let before = run.count;
      for (let y = 0; before > 0 && y < this.delaysNs.length; y++) {
        const next = this.delaysNs[y + 1];
        const beyond = next === undefined ? 0 : passed(run, next, ns, this.isEven);
        if (before > beyond) sum += (before - beyond) * (run.logComplete[y] as number);
        before = beyond;
      }
    }
    return sum;
  }

  /** The times at which a run begins or ends to take a step, from the last injection on, ascending. */
  private boundaries(): number[] {
    const times = [this.endNs];
    for (const run of this.runs)
      for (const delayNs of this.delaysNs) {
        times.push(run.firstNs + delayNs, lastNs(run) + delayNs);
      }
    return times.filter((ns) => ns >= this.endNs).sort((a, b) => a - b);
  }

  /** Integral of 1 - F from the last injection on. */
  waitNs(): number {
    const times = this.boundaries();
    let sum = 0;
    for (let i = 0; i + 1 < times.length; i++) {
      const fromNs = times[i] as number;
      const toNs = times[i + 1] as number;
      if (toNs > fromNs) sum += toNs - fromNs - this.integral(fromNs, toNs);
    }
    return sum;
  }

  /** Integral of F between neighbouring boundaries. */
  private integral(fromNs: number, toNs: number): number {
    const log = this.logCdf(fromNs);
    const steps: { readonly atNs: number; readonly gain: number; readonly stepNs: number }[] = [];
    for (const run of this.runs) {
      if (run.count < 2 || run.stepNs <= 0) continue;
      for (let y = 1; y < this.delaysNs.length; y++) {
        const delayNs = this.delaysNs[y] as number;
        if (run.firstNs + delayNs > fromNs || lastNs(run) + delayNs <= fromNs) continue;
        const taken = passed(run, delayNs, fromNs, this.isEven);
        const gain = (run.logComplete[y] as number) - (run.logComplete[y - 1] as number);
        const atNs = run.firstNs + taken * run.stepNs + delayNs - fromNs;
        steps.push({ atNs: Math.max(0, atNs), gain, stepNs: run.stepNs });
      }
    }
    const lengthNs = toNs - fromNs;
    if (steps.length === 0) return lengthNs * Math.exp(log);
    if (this.isEven)
      return staircase(log, steps, (steps[0] as { stepNs: number }).stepNs, lengthNs);
    const slope = steps.reduce((sum, { gain, stepNs }) => sum + gain / stepNs, 0);
    return ramp(log, slope, lengthNs);
  }
}

/** Integral of e^(log + slope u) over 0 <= u <= length; slope >= 0. */
function ramp(log: number, slope: number, lengthNs: number): number {
  const rise = slope * lengthNs;
  const top = Math.exp(log + rise);
  if (rise < 1e-8) return top * lengthNs * (1 - rise / 2);
  return (top * -Math.expm1(-rise)) / slope;
}

/**
 * Integral over 0 <= u < length of e^(log + gains of the steps taken by u); each of `steps` is taken at its `atNs`,
 * less than a `stepNs` away, and again every `stepNs`. So the staircase repeats itself, each time higher by the same
 * factor.
 */
function staircase(
  log: number,
  steps: readonly { readonly atNs: number; readonly gain: number }[],
  stepNs: number,
  lengthNs: number,
): number {
  const inOrder = [...steps].sort((a, b) => a.atNs - b.atNs);
  const rise = inOrder.reduce((sum, { gain }) => sum + gain, 0);
  const cycles = Math.floor(lengthNs / stepNs);
  const top = log + cycles * rise;
  let sum = 0;
  if (cycles > 0) {
    // Sum over k < cycles of e^(log + k rise), from above so that nothing overflows.
    const series =
      rise > 0
        ? (Math.exp(top) * -Math.expm1(-cycles * rise)) / Math.expm1(rise)
        : cycles * Math.exp(top);
    sum += series > 0 ? cycle(inOrder, stepNs) * series : 0;
  }
  return sum + (top < LOG_ZERO ? 0 : Math.exp(top) * cycle(inOrder, lengthNs - cycles * stepNs));
}

/** Integral of e^(gains) over the first `lengthNs` of a cycle. */
function cycle(
  inOrder: readonly { readonly atNs: number; readonly gain: number }[],
  lengthNs: number,
): number {
  let sum = 0;
  let fromNs = 0;
  let height = 0;
  for (const { atNs, gain } of inOrder) {
    if (atNs >= lengthNs) break;
    sum += (atNs - fromNs) * Math.exp(height);
    fromNs = atNs;
    height += gain;
  }
  return sum + (lengthNs - fromNs) * Math.exp(height);
}

/** When all chunks have come through, from the first injection on. Errors: INVALID_ARGUMENT when there is none. */
export function completionOfRounds(options: RoundsOptions): Completion {
  const rounds = new Rounds(options);
  return {
    leastNs: rounds.endNs,
    meanNs: rounds.endNs + rounds.waitNs(),
    cdf: (ns) => Math.exp(rounds.logCdf(ns)),
  };
}
