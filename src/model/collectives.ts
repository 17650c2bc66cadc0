/**
 * Collective operations over N datacenters as rounds of dependent messages (paper section 5, appendix C), drawn at
 * random. A message's time is a draw of a sampler of completion times; what a datacenter does next waits for the
 * messages that it receives and, where it sends several, for the one before to be known as delivered.
 *
 * Reductions at the ends take `computeNs` a step. Messages of one step, and of different pairs, are independent.
 */

import { check } from "../base/errors.ts";
import type { Random } from "../base/random.ts";
import { type Summary, summarize } from "../base/statistics.ts";
import { createSampler } from "./sample.ts";
import type { Sampler } from "./sample-repeat.ts";
import type { Scheme, Setting } from "./types.ts";

export const COLLECTIVES = ["ring", "recursive-doubling", "tree"] as const;
export type CollectiveKind = (typeof COLLECTIVES)[number];

export const DATACENTERS_MAX = 1024;

export interface CollectiveOptions {
  readonly kind: CollectiveKind;
  readonly datacenters: number;
  /** The buffer that every datacenter brings. */
  readonly bytes: number;
  /** The path from one datacenter to another; `bytes` of what it returns is replaced by those of a step. */
  readonly link: (from: number, to: number) => Setting;
  /** Of each step, beside its message; default 0. */
  readonly computeNs?: number;
}

export interface CollectiveResult {
  /** Time until the last datacenter is done, trial by trial. */
  readonly makespanNs: Float64Array;
  readonly summary: Summary;
  /** The same operation where nothing is lost. */
  readonly idealNs: number;
  /** Mean makespan over that. */
  readonly slowdown: number;
}

/** Draws one message's time from one datacenter to another. */
type Step = (from: number, to: number, bytes: number) => number;

/** Errors: INVALID_ARGUMENT for sizes that no such operation has. */
function checkOptions({ kind, datacenters, bytes, computeNs = 0 }: CollectiveOptions): void {
  const isPower = Number.isInteger(Math.log2(datacenters));
  check(
    Number.isInteger(datacenters) && datacenters >= 2 && datacenters <= DATACENTERS_MAX,
    `${datacenters} datacenters are out of range`,
    `give a whole number from 2 to ${DATACENTERS_MAX}`,
  );
  check(
    kind !== "recursive-doubling" || isPower,
    `${datacenters} datacenters cannot double recursively`,
    "give a power of two",
  );
  check(Number.isSafeInteger(bytes) && bytes >= 0, `${bytes} B is out of range`, "give 0 or more");
  check(computeNs >= 0 && computeNs < Infinity, `compute time ${computeNs}`, "give nanoseconds");
}

/**
 * Ring Allreduce: 2N - 2 rounds, in each of which everyone passes a chunk of 1/N of the buffer on:
 * T(i, r) = max(T(i-1, r-1), T(i, r-1)) + C + X. Returns when the last is done.
 */
function ring({ bytes, computeNs = 0, datacenters: n }: CollectiveOptions, step: Step): number {
  const each = Math.ceil(bytes / n);
  let times = new Float64Array(n);
  for (let round = 0; round < 2 * n - 2; round++) {
    times = times.map((own, to) => {
      const from = (to + n - 1) % n;
      return Math.max(times[from]!, own) + computeNs + step(from, to, each);
    });
  }
  return Math.max(...times);
}

/** Allreduce by recursive doubling: in round r everyone exchanges the whole buffer with its partner 2^r away. */
function doubling({ bytes, computeNs = 0, datacenters: n }: CollectiveOptions, step: Step): number {
  let times = new Float64Array(n);
  for (let distance = 1; distance < n; distance *= 2) {
    times = times.map((own, to) => {
      const from = to ^ distance;
      return Math.max(times[from]!, own) + computeNs + step(from, to, bytes);
    });
  }
  return Math.max(...times);
}

/**
 * Binomial tree: reduction to datacenter 0, then broadcast from it, of the whole buffer each. A datacenter takes its
 * messages in one after another.
 */
function tree({ bytes, computeNs = 0, datacenters: n }: CollectiveOptions, step: Step): number {
  const times = new Float64Array(n);
  let distance = 1;
  for (; distance < n; distance *= 2) {
    for (let to = 0; to + distance < n; to += 2 * distance) {
      const from = to + distance;
      times[to] = Math.max(times[from]!, times[to]!) + computeNs + step(from, to, bytes);
      times[from] = times[to]!;
    }
  }
  // Those that have sent their part wait for the sum; whoever has it passes it on, the farthest first.
  for (distance /= 2; distance >= 1; distance /= 2) {
    for (let from = 0; from + distance < n; from += 2 * distance) {
      const done = times[from]! + step(from, from + distance, bytes);
      times[from] = done;
      times[from + distance] = done;
    }
  }
  return Math.max(...times);
}

const RUNS = { ring, "recursive-doubling": doubling, tree } as const;

/** Time until the last datacenter is done, of messages whose times `step` tells. Errors: INVALID_ARGUMENT. */
export function makespanNs(options: CollectiveOptions, step: Step): number {
  checkOptions(options);
  return RUNS[options.kind](options, step);
}

/** Steps whose messages are drawn from a scheme's sampler, one for each pair. */
function sampledSteps(scheme: Scheme, { datacenters, link }: CollectiveOptions) {
  const samplers = new Map<number, { sampler: Sampler; bytes: number }>();
  return (random: Random): Step =>
    (from, to, bytes) => {
      const pair = from * datacenters + to;
      let known = samplers.get(pair);
      if (known === undefined || known.bytes !== bytes) {
        known = { sampler: createSampler(scheme, { ...link(from, to), bytes }), bytes };
        samplers.set(pair, known);
      }
      return known.sampler.draw(random).completionNs;
    };
}

/** `trials` operations drawn one after another from `random`. Errors: INVALID_ARGUMENT, also createSampler's. */
export function sampleCollective(
  scheme: Scheme,
  options: CollectiveOptions,
  random: Random,
  trials: number,
): CollectiveResult {
  const steps = sampledSteps(scheme, options)(random);
  const makespans = new Float64Array(trials);
  for (let trial = 0; trial < trials; trial++) makespans[trial] = makespanNs(options, steps);
  const idealNs = makespanNs(options, sampledSteps({ kind: "ideal" }, options)(random));
  const summary = summarize(makespans);
  return { makespanNs: makespans, summary, idealNs, slowdown: summary.mean / idealNs };
}
