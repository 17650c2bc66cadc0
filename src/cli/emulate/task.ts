/** What threads are given to do: the trials of one policy in one setting, in parts. Plain data in, numbers out. */
import { Random } from "../../base/random.ts";
import {
  type CollectiveKind,
  type CollectiveOptions,
  sampleCollective,
} from "../../model/collectives.ts";
import { predict } from "../../model/predict.ts";
import { type Samples, sampleTrials, TRIALS_PER_STREAM } from "../../model/sample.ts";
import { parseScheme } from "../../model/scheme.ts";
import { settingOf } from "../../model/setting.ts";
import type { Scheme } from "../../model/types.ts";
import { COLUMN, COLUMNS, messagesOf, runTrials, type TrialSetting } from "./trial.ts";

export interface Task {
  /** Messages sent in an emulated world, or drawn from the model. */
  readonly kind: "emulated" | "sampled";
  readonly setting: TrialSetting;
  readonly policy: string;
  readonly trials: number;
  /** Of drawn ones: whole operations instead of messages; `setting.bytes` is the buffer of each datacenter. */
  readonly collective?: CollectiveShape;
}

export interface CollectiveShape {
  readonly kind: CollectiveKind;
  readonly datacenters: number;
}

/** Bytes of one message of a collective operation. */
export function stepBytes(bytes: number, { kind, datacenters }: CollectiveShape): number {
  return kind === "ring" ? Math.ceil(bytes / datacenters) : bytes;
}

/** An operation between datacenters that are all as far from each other, and the scheme for its messages. */
export function collectiveOf(
  { setting, policy }: Pick<Task, "setting" | "policy">,
  shape: CollectiveShape,
): {
  readonly scheme: Scheme;
  readonly options: CollectiveOptions;
  readonly wireOverhead: number;
  /** Of each of its messages. */
  readonly fallbackProbability: number;
} {
  const { bytes, forward, reverse } = setting;
  const link = settingOf(forward, reverse, { ...setting, bytes: stepBytes(bytes, shape) });
  const scheme = parseScheme(policy, link);
  const { fallbackProbability, wireOverhead } = predict(scheme, link);
  const options = { ...shape, bytes, link: () => link };
  return { scheme, options, wireOverhead, fallbackProbability };
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
  const { completionNs, fallbackProbability, wireOverhead } = drawTrials(task, first, count);
  const rows = new Float64Array(count * COLUMNS);
  for (let i = 0; i < count; i++) {
    rows[i * COLUMNS + COLUMN.completionNs] = completionNs[i] as number;
    rows[i * COLUMNS + COLUMN.wireBytes] = setting.bytes * (1 + wireOverhead);
    rows[i * COLUMNS + COLUMN.fallbacks] = fallbackProbability;
  }
  return rows;
}

function drawTrials(task: Task, first: number, count: number): Samples {
  const { setting, policy, collective } = task;
  const { seed, forward, reverse } = setting;
  if (collective === undefined) {
    const model = settingOf(forward, reverse, setting);
    return sampleTrials(parseScheme(policy, model), model, { seed, first, count });
  }
  const { scheme, options, ...costs } = collectiveOf(task, collective);
  const random = new Random(seed, `collective ${first}`);
  const { makespanNs } = sampleCollective(scheme, options, random, count);
  return { completionNs: makespanNs, ...costs };
}
