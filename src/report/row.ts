/**
 * One row of results: one policy on one cell of a sweep, summed up over its trials. Plain JSON; every row says by
 * itself what was run, so that rows of several runs can be put together. Written by experiments, read by reports.
 */

/** Where the figures come from. */
export const METHODS = ["analytic", "sampled", "emulated", "measured"] as const;
export type Method = (typeof METHODS)[number];

/** Shares of messages whose completion times a row lists in `quantilesNs`. */
export const QUANTILE_LEVELS: readonly number[] = [
  ...[
    0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999, 1,
  ],
];

/** Messages of one connection over the same links, where those change from phase to phase. */
export interface PhaseResult {
  readonly link: string;
  readonly reverseLink: string;
  readonly messages: number;
  readonly idealNs: number;
  readonly boundNs: number;
  readonly meanNs: number;
  readonly p99Ns: number;
  readonly p999Ns: number;
  /** Of all its messages, one after the other: mean over the trials. */
  readonly totalNs: number;
  readonly wireOverhead: number;
}

export interface ResultRow {
  /** The program's version. */
  readonly version: string;
  readonly experiment: string;
  /** Names the row within its experiment: the same parameters have the same key, others another. */
  readonly key: string;
  readonly transport: "model" | "emulated" | "udp";
  readonly method: Method;
  /** Of the model: whether it is neither bound nor approximation. Others: true. */
  readonly exact: boolean;
  readonly policy: string;
  /** The links' text; what follows from them and from the sizes comes after it. */
  readonly link: string;
  readonly reverseLink: string;
  readonly rateBps: number;
  readonly rttNs: number;
  readonly packetLoss: number;
  readonly chunkLoss: number;
  /** Mean length of a run of lost packets. */
  readonly burstPackets: number;
  readonly bytes: number;
  readonly packetBytes: number;
  readonly chunkBytes: number;
  readonly trials: number;
  readonly seed: number;
  /** Of the messages sent before those that count, for policies that learn. */
  readonly warmup: number;
  /** That count, in each trial's connection; absent: 1. */
  readonly messages?: number;
  /** For collectives: which, and over how many datacenters; the times are of the whole operation. */
  readonly collective?: "ring" | "recursive-doubling" | "tree";
  readonly datacenters?: number;
  /** M T_inj + RTT: nothing is lost. */
  readonly idealNs: number;
  /** M T_inj / (1 - P) + RTT: the erasure channel's limit. */
  readonly boundNs: number;
  readonly meanNs: number;
  /** Half the width of the mean's 95 % confidence interval; 0 where nothing was sampled. */
  readonly meanCi95Ns: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly p999Ns: number;
  readonly minNs: number;
  readonly maxNs: number;
  /** Completion times at QUANTILE_LEVELS; of the model, levels 0 and 1 are those of 0.001 and 0.999. */
  readonly quantilesNs: readonly number[];
  /** Bytes on the wire over the message's own, less 1. */
  readonly wireOverhead: number;
  /**
   * Trials of which a message was not delivered; the times are of the messages that were. Where all trials failed there
   * are none: NaN, in JSON null.
   */
  readonly failed: number;
  /** Where links change: each phase by itself, and the time of all messages of a trial; other figures are over all. */
  readonly phases?: readonly PhaseResult[];
  readonly totalNs?: number;
}
