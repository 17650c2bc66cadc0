/**
 * What is known of one path, shared by all sessions of a queue pair: round-trip time (RFC 6298), and the losses of what
 * this end sends.
 */
import { check } from "../base/errors.ts";
import { LossEstimator } from "./loss-estimate.ts";
import type { PathEstimate } from "./policy.ts";

/** Samples above this are a fault of a clock or a peer, not a path; the longest terrestrial RTT is under 1 s. */
export const RTT_MAX_NS = 60e9;
/** Gains of RFC 6298 section 2.3. */
const SRTT_GAIN = 1 / 8;
const RTTVAR_GAIN = 1 / 4;

export interface RttEstimatorOptions {
  /** What `rttNs` and `rttMinNs` say until a sample arrives. */
  readonly initialRttNs: number;
  /** Rate the sender is paced to in bit/s; default Infinity. */
  readonly rateBps?: number;
}

/** Times are whole nanoseconds; the averages behind them are kept as they are. */
function wholeNs(ns: number): number {
  return Math.max(1, Math.round(ns));
}

export class RttEstimator implements PathEstimate {
  /** May be changed when the pacing rate does. */
  rateBps: number;
  readonly loss = new LossEstimator();
  private smoothedNs: number;
  private varianceNs: number;
  private leastNs: number;
  private count = 0;

  /** Errors: INVALID_ARGUMENT for an initial RTT outside (0, 60 s] or a rate that is not positive. */
  constructor(options: RttEstimatorOptions) {
    const { initialRttNs, rateBps = Infinity } = options;
    check(
      initialRttNs > 0 && initialRttNs <= RTT_MAX_NS,
      `initial RTT of ${initialRttNs} ns`,
      "give more than 0 and at most 60 s",
    );
    check(rateBps > 0, `rate of ${rateBps} bit/s`, "give a positive rate, or Infinity");
    this.rateBps = rateBps;
    this.smoothedNs = initialRttNs;
    this.varianceNs = initialRttNs / 2;
    this.leastNs = initialRttNs;
  }

  get rttNs(): number {
    return wholeNs(this.smoothedNs);
  }

  get rttVarNs(): number {
    return Math.round(this.varianceNs);
  }

  get rttMinNs(): number {
    return wholeNs(this.leastNs);
  }

  /** Samples taken so far; 0 means that all values are the configured guess. */
  get sampleCount(): number {
    return this.count;
  }

  /** Takes a sample; one that is not in (0, 60 s] is ignored. */
  sampleRtt(rttNs: number): void {
    if (!(rttNs > 0 && rttNs <= RTT_MAX_NS)) return;
    if (this.count === 0) {
      this.smoothedNs = rttNs;
      this.varianceNs = rttNs / 2;
      this.leastNs = rttNs;
    } else {
      const errorNs = rttNs - this.smoothedNs;
      this.varianceNs += RTTVAR_GAIN * (Math.abs(errorNs) - this.varianceNs);
      this.smoothedNs += SRTT_GAIN * errorNs;
      this.leastNs = Math.min(this.leastNs, rttNs);
    }
    this.count++;
  }
}
