/**
 * What the loss of control frames costs every message, to first order: START and the final ACK go out three times, a
 * part of an RTT apart, so losing the first copy costs that much. Frames that ask for repairs are the schemes' affair.
 */
import { type Completion, quantileNs } from "./completion.ts";
import { CAVEATS } from "./selective-repeat.ts";
import type { Prediction, Setting } from "./types.ts";

/** Copies are this part of an RTT apart, and at least so much. */
const SPACING_RTTS = 1 / 32;
const SPACING_MIN_NS = 20_000;
const COPIES = 3;
/** Looks at F within the time in which copies of START come in. */
const LOOKS = 32;

/** `prediction`, whose times count from the first injection to the final ACK, with those frames lost now and then. */
export function withControlLoss(prediction: Prediction, setting: Setting): Prediction {
  const { controlLoss: lost, rttNs } = setting;
  if (lost === 0 || setting.bytes === 0) return prediction;
  const spacingNs = Math.max(SPACING_MIN_NS, rttNs * SPACING_RTTS);
  const answered = Array.from({ length: COPIES }, (_, copy) =>
    copy === COPIES - 1 ? lost ** copy : (1 - lost) * lost ** copy,
  );
  /** F, were the receiver told of the message by START alone. */
  const started = (ns: number) => {
    const copies = Math.floor((ns - rttNs) / spacingNs) + 1;
    return copies <= 0 ? 0 : copies >= COPIES ? 1 : 1 - lost ** copies;
  };
  const cdf = (ns: number) =>
    answered.reduce((sum, share, copy) => {
      const atNs = ns - copy * spacingNs;
      return sum + share * prediction.cdf(atNs) * started(atNs);
    }, 0);
  let lateNs = 0;
  for (let look = 0; look < LOOKS; look++) {
    const atNs = rttNs + ((look + 1 / 2) / LOOKS) * (COPIES - 1) * spacingNs;
    lateNs += prediction.cdf(atNs) * (1 - started(atNs));
  }
  lateNs *= ((COPIES - 1) * spacingNs) / LOOKS;
  for (const [copy, share] of answered.entries()) lateNs += share * copy * spacingNs;
  const caveat =
    prediction.caveat === undefined
      ? CAVEATS.control
      : prediction.caveat.includes(CAVEATS.control)
        ? prediction.caveat
        : `${prediction.caveat}; ${CAVEATS.control}`;
  const meanNs = prediction.meanNs + lateNs;
  const completion: Completion = { leastNs: rttNs, meanNs, cdf };
  return {
    ...prediction,
    exact: false,
    caveat,
    meanNs,
    cdf,
    quantileNs: (q) => quantileNs(completion, q),
  };
}
