/** Completion times from formulas and samples, and the planner: usable alone, without the native addon. */
export { boundNs, idealNs } from "./bounds.ts";
export {
  COLLECTIVES,
  type CollectiveKind,
  type CollectiveOptions,
  type CollectiveResult,
  sampleCollective,
} from "./collectives.ts";
export { reasonFor } from "./plan-text.ts";
export { type Objective, type Plan, type PlanEntry, plan, type Question } from "./planner.ts";
export { type PredictOptions, predict } from "./predict.ts";
export { predictionOfSamples, type Samples, sampleTrials, type TrialRange } from "./sample.ts";
export { formatScheme, parseScheme, SCHEME_NAMES } from "./scheme.ts";
export { type SettingSizes, settingOf, settingOfText } from "./setting.ts";
export type * from "./types.ts";
