/**
 * The paper's completion time of Selective Repeat (section 5), exactly: T = max X_i + RTT over chunks i = 1..M,
 * X_i = i t + O (Y_i - 1), O = RTO + t, t a chunk's time on the wire, Y_i the trips that chunk i takes. Holds while
 * M t <= RTO, where repairs do not compete with first transmissions.
 */
export interface SelectiveRepeatModel {
  readonly chunks: number;
  /** t. */
  readonly chunkNs: number;
  readonly rttNs: number;
  readonly rtoNs: number;
  /**
   * P(Y > n): that n trips were not enough. The paper's model has each trip lose the chunk anew: P^n. A receiver that
   * keeps what it has of a chunk needs each packet once: 1 - (1 - p^n)^N.
   */
  readonly notIn: (trips: number) => number;
}

/** The paper's: a trip loses the chunk with probability P, whatever came before. */
export function chunkwise(chunkLoss: number): (trips: number) => number {
  return (trips) => chunkLoss ** trips;
}

/** Of N packets, each lost with probability p on every trip, some are still missing. */
export function packetwise(packetLoss: number, packets: number): (trips: number) => number {
  return (trips) => -Math.expm1(packets * Math.log1p(-(packetLoss ** trips)));
}

/** Below this share of the mean nothing more is summed. */
const NEGLIGIBLE = 1e-12;

/** P(max X_i <= q) for j t + k O <= q < (j + 1) t + k O, 0 <= j <= M: of j chunks k trips may fail, of others k - 1. */
function distribution(model: SelectiveRepeatModel, j: number, k: number): number {
  const { chunks, notIn } = model;
  return (1 - notIn(k + 1)) ** j * (1 - notIn(k)) ** (chunks - j);
}

/** E[T], ns: E[max X] is the integral of 1 - P(max X <= q), which is constant between the points j t + k O. */
export function meanCompletionNs(model: SelectiveRepeatModel): number {
  const { chunks, chunkNs, rttNs, rtoNs } = model;
  if (chunks * chunkNs > rtoNs) throw new Error("outside the regime in which the formula is exact");
  const tripNs = rtoNs + chunkNs;
  let meanNs = chunks * chunkNs;
  for (let k = 1; ; k++) {
    // From the last chunk's k-th trip to the first chunk's next one nothing can complete.
    const restNs = tripNs + chunkNs - chunks * chunkNs;
    let roundNs = restNs * (1 - distribution(model, chunks, k - 1));
    for (let j = 1; j < chunks; j++) roundNs += chunkNs * (1 - distribution(model, j, k));
    meanNs += roundNs;
    if (roundNs < meanNs * NEGLIGIBLE) return meanNs + rttNs;
  }
}
