/** What threads are given to do: the trials of one policy in one setting, in parts. Plain data in, numbers out. */
import { COLUMNS, messagesOf, runTrials, type TrialSetting } from "./emulate-trial.ts";

export interface Task {
  readonly setting: TrialSetting;
  readonly policy: string;
  readonly trials: number;
}

/** Numbers that one trial gives. */
export function trialSize({ setting }: Task): number {
  return messagesOf(setting) * COLUMNS;
}

/** Trials [first, first + count): `trialSize` numbers each. Does not depend on how trials are parted. */
export function runTask(
  { setting, policy }: Task,
  first: number,
  count: number,
): Promise<Float64Array> {
  return runTrials(setting, policy, first, count);
}
