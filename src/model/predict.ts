/** A scheme's completion time on a setting, from formulas: what the planner, experiments and the command line ask. */
import { predictBound, predictIdeal } from "./bounds.ts";
import { withControlLoss } from "./control.ts";
import { predictErasureCoding } from "./erasure-coding.ts";
import { predictGoBackN } from "./go-back-n.ts";
import { predictHybrid } from "./hybrid.ts";
import { checkScheme } from "./scheme.ts";
import { predictSelectiveRepeat } from "./selective-repeat.ts";
import { checkSetting } from "./timing.ts";
import type { Prediction, Scheme, Setting } from "./types.ts";

export interface PredictOptions {
  /**
   * The paper's form where it differs from what our policies do: for long messages it is only a lower bound, because
   * repairs take no part of the wire.
   */
  readonly paper?: boolean;
}

/**
 * The completion time of one message, from first injection to the sender's learning that all is delivered. Work does
 * not depend on the number of chunks. `exact` says whether it is the distribution itself or an approximation or bound.
 * Formulas: paper section 5. Errors: INVALID_ARGUMENT for a setting or scheme that cannot be; UNSUPPORTED for chunk
 * loss so near to 1 that nothing is delivered in any time worth naming.
 */
export function predict(
  scheme: Scheme,
  setting: Setting,
  options: PredictOptions = {},
): Prediction {
  checkSetting(setting);
  checkScheme(scheme);
  switch (scheme.kind) {
    case "ideal":
      return predictIdeal(setting);
    case "bound":
      return predictBound(setting);
    default:
      return withControlLoss(predictPolicy(scheme, setting, options), setting);
  }
}

function predictPolicy(
  scheme: Exclude<Scheme, { kind: "ideal" | "bound" }>,
  setting: Setting,
  options: PredictOptions,
): Prediction {
  switch (scheme.kind) {
    case "gbn":
      return predictGoBackN(setting);
    case "sr-rto":
    case "sr-nack":
      return predictSelectiveRepeat(scheme, setting, options);
    case "ec-mds":
    case "ec-xor":
      return predictErasureCoding(scheme, setting, options);
    case "hybrid":
      return predictHybrid(setting, scheme.shape);
  }
}
