/** What no scheme can be better than: the lossless message, and the erasure channel's limit. */
import { certainly, predictionOf } from "./completion.ts";
import { chunkLoss } from "./loss.ts";
import { messageShape } from "./timing.ts";
import type { Prediction, Setting } from "./types.ts";

/** M T_inj + RTT, with the packets' overhead. */
export function idealNs(setting: Setting): number {
  return messageShape(setting).injectionNs + setting.rttNs;
}

/** M T_inj / (1 - P) + RTT: of chunks through an erasure channel that loses a share P of them. */
export function boundNs(setting: Setting): number {
  return messageShape(setting).injectionNs / (1 - chunkLoss(setting)) + setting.rttNs;
}

/** The lossless message: what the path's loss costs is left out. */
export function predictIdeal(setting: Setting): Prediction {
  return predictionOf(certainly(idealNs(setting)), { wireOverhead: 0 });
}

/** The erasure channel's limit, as if it were met by every message. */
export function predictBound(setting: Setting): Prediction {
  const loss = chunkLoss(setting);
  return predictionOf(certainly(boundNs(setting)), {
    wireOverhead: loss / (1 - loss),
    caveat: "a lower bound on the mean of every scheme",
  });
}
