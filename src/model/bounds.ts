/** What no scheme can be better than: the lossless message, and the erasure channel's limit. */
import { certainly, predictionOf } from "./completion.ts";
import { logComplete } from "./loss.ts";
import { neverDone } from "./rounds.ts";
import { messageShape } from "./timing.ts";
import type { Prediction, Setting } from "./types.ts";

/** M T_inj + RTT, with the packets' overhead. */
export function idealNs(setting: Setting): number {
  return messageShape(setting).injectionNs + setting.rttNs;
}

/** Sends of a chunk, on average, beyond which nothing is worth a prediction. */
const SENDS_MAX = 1e9;

/**
 * 1 / (1 - P): sends of a chunk until one of them arrives whole; of a message of one chunk, of its own packets.
 * Errors: UNSUPPORTED when P is as good as 1.
 */
export function sendsPerChunk(setting: Setting): number {
  const { chunks, packets, lastPackets } = messageShape(setting);
  const sends = Math.exp(-logComplete(setting.loss, chunks <= 1 ? lastPackets : packets, 1));
  if (!(sends <= SENDS_MAX)) throw neverDone("chunks", SENDS_MAX);
  return sends;
}

/**
 * M T_inj / (1 - P) + RTT: of chunks through an erasure channel that loses a share P of them. Errors: as
 * sendsPerChunk's.
 */
export function boundNs(setting: Setting): number {
  return messageShape(setting).injectionNs * sendsPerChunk(setting) + setting.rttNs;
}

/** The lossless message: what the path's loss costs is left out. */
export function predictIdeal(setting: Setting): Prediction {
  return predictionOf(certainly(idealNs(setting)), { wireOverhead: 0 });
}

/** The erasure channel's limit, as if it were met by every message. */
export function predictBound(setting: Setting): Prediction {
  return predictionOf(certainly(boundNs(setting)), {
    wireOverhead: sendsPerChunk(setting) - 1,
    caveat: "a lower bound on the mean where chunks are lost as a whole",
  });
}
