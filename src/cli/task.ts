/** What threads are given to do: the trials of one policy in one setting, in parts. Plain data in, numbers out. */
import { sampleTrials, TRIALS_PER_STREAM } from "../model/sample.ts";
import { parseScheme } from "../model/scheme.ts";
import { settingOf } from "../model/setting.ts";
import { COLUMN, COLUMNS, messagesOf, runTrials, type TrialSetting } from "./emulate-trial.ts";

export interface Task {
  /** Messages sent in an emulated world, or drawn from the model. */
  readonly kind: "emulated" | "sampled";
  readonly setting: TrialSetting;
  readonly policy: string;
  readonly trials: number;
}

/** Emulated trials that a thread takes at a time: few enough that all threads end together, enough to cost nothing. */
const PART_TRIALS_MAX = 16;
const PARTS_PER_JOB = 8;
/** Drawn ones have figures of a whole part too: it must not depend on the number of threads. */
const SAMPLED_TRIALS = 4 * TRIALS_PER_STREAM;

/** Numbers that one trial gives. */
export function trialSize({ kind, setting }: Task): number {
  return kind === "sampled" ? COLUMNS : messagesOf(setting) * COLUMNS;
}

/** Trials of a part. */
export function partTrials({ kind, trials }: Task, jobs: number): number {
  if (kind === "sampled") return SAMPLED_TRIALS;
  return Math.max(1, Math.min(PART_TRIALS_MAX, Math.floor(trials / (jobs * PARTS_PER_JOB))));
}

/** Trials [first, first + count): `trialSize` numbers each, the same for any number of threads. */
export async function runTask(task: Task, first: number, count: number): Promise<Float64Array> {
  const { kind, setting, policy } = task;
  if (kind === "emulated") return runTrials(setting, policy, first, count);
  const { bytes, seed, forward, reverse } = setting;
  const range = { seed, first, count };
  const samples = sampleTrials(parseScheme(policy), settingOf(forward, reverse, setting), range);
  const rows = new Float64Array(count * COLUMNS);
  for (let i = 0; i < count; i++) {
    rows[i * COLUMNS + COLUMN.completionNs] = samples.completionNs[i] as number;
    rows[i * COLUMNS + COLUMN.wireBytes] = bytes * (1 + samples.wireOverhead);
  }
  return rows;
}
