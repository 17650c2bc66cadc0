/**
 * The words of the model: one message over one path, the schemes that may carry it, and what is predicted of them.
 * Pure numbers: knows no policy, transport or clock. Formulas: paper section 5 (arXiv 2505.05366, section 4.2 and
 * appendices A to C).
 */

/** Loss of packets on the way there. */
export interface PacketLoss {
  /** Long-run share of packets that are lost, 0 <= p < 1. */
  readonly probability: number;
  /** Mean length of a run of lost packets; absent: they are lost independently, 1 / (1 - p). */
  readonly burstPackets?: number;
  /** The chain behind the two above, where it is known; absent: bad spells of that length lose every packet. */
  readonly spells?: LossSpells;
}

/** Gilbert and Elliott's chain of two states, a step a packet; the words of tc-netem's gemodel. All from 0 to 1. */
export interface LossSpells {
  /** From good to bad, and from bad to good. */
  readonly enter: number;
  readonly leave: number;
  /** Loss in the bad and in the good state. */
  readonly lossBad: number;
  readonly lossGood: number;
}

/** One message over one path. */
export interface Setting {
  readonly bytes: number;
  readonly packetBytes: number;
  readonly chunkBytes: number;
  /** bit/s of the way there. */
  readonly rateBps: number;
  /** Added to every packet's bytes for serialisation. */
  readonly packetOverheadBytes: number;
  readonly rttNs: number;
  readonly loss: PacketLoss;
  /** Share of control datagrams lost, each way; 0: the paper's assumption. */
  readonly controlLoss: number;
}

/** A reliability scheme with all its parameters. */
export type Scheme =
  | { readonly kind: "ideal" | "bound" }
  | { readonly kind: "gbn" }
  | { readonly kind: "sr-rto"; readonly alpha: number }
  | { readonly kind: "sr-nack"; readonly alpha: number; readonly reorder: number }
  | {
      readonly kind: "ec-mds" | "ec-xor";
      readonly k: number;
      readonly m: number;
      readonly beta: number;
    }
  | { readonly kind: "hybrid"; readonly shape: HybridShape };

/**
 * How the hybrid scheme protects one message: blocks of data chunks, each with parity of its own. Without parity it is
 * Selective Repeat, with parity for every block Reed-Solomon coding.
 */
export interface HybridShape {
  /** Most data chunks a block. */
  readonly k: number;
  /** Parity chunks that may be made for a block, at first and in repair; k + rows <= 256. */
  readonly rows: number;
  /** Parity chunks that go out at once with a block whose losses could not be repaired in time. At most `rows`. */
  readonly parity: number;
  /** So many blocks take turns, so that a run of lost chunks falls on as many; at least 1. */
  readonly interleave: number;
}

/** What a sender knows of chunk loss: reliability's LossEstimate is one. */
export interface ChunkLossView {
  /** Share of chunks lost, and what it is not above with a confidence of 95 %. */
  readonly probability: number;
  readonly upper: number;
  /** Mean length of a run of lost chunks; at least 1. */
  readonly burstChunks: number;
}

export interface Prediction {
  readonly method: "analytic" | "sampled";
  /** False when it is a bound, an approximation, or rests on samples. */
  readonly exact: boolean;
  /** What makes it inexact, in a few words; absent when exact. */
  readonly caveat?: string;
  readonly meanNs: number;
  /** The least time within which a share `q` of messages completes, 0 < q < 1. */
  quantileNs(q: number): number;
  /** Share of messages complete within `ns`. */
  cdf(ns: number): number;
  /** Expected chunks sent over the message's own, less 1. */
  readonly wireOverhead: number;
  /** Share of messages of which parity did not save all; 0 for schemes without. */
  readonly fallbackProbability: number;
}
