/** What `sdr model` draws at random: messages or whole collective operations, over this thread or several. */
import { Random } from "../base/random.ts";
import { ci95, mean } from "../base/statistics.ts";
import { sampleCollective } from "../model/collectives.ts";
import { predictionOfSamples } from "../model/sample.ts";
import type { Prediction } from "../model/types.ts";
import { runJobs } from "./emulate/jobs.ts";
import { type CollectiveShape, collectiveOf, type Task } from "./emulate/task.ts";
import { COLUMN, COLUMNS, type TrialSetting } from "./emulate/trial.ts";
import { Progress } from "./progress.ts";

export interface Sampling {
  readonly setting: TrialSetting;
  readonly policies: readonly string[];
  readonly trials: number;
  readonly jobs: number;
  /** Absent: single messages. */
  readonly collective?: CollectiveShape;
}

export interface Sampled {
  readonly prediction: Prediction;
  readonly ci95Ns: number;
}

function columnOf(rows: Float64Array, column: number): Float64Array {
  const values = new Float64Array(rows.length / COLUMNS);
  for (let i = 0; i < values.length; i++) values[i] = rows[i * COLUMNS + column] as number;
  return values;
}

/** One for each policy, in their order; the same for any number of jobs. Rejects when `signal` is aborted. */
export async function samplePolicies(sampling: Sampling, signal: AbortSignal): Promise<Sampled[]> {
  const { setting, policies, trials, jobs, collective } = sampling;
  const tasks = policies.map((policy): Task => {
    const task = { kind: "sampled", setting, policy, trials } as const;
    return collective === undefined ? task : { ...task, collective };
  });
  const results: Sampled[] = [];
  using progress = new Progress({ label: "samples", total: trials * tasks.length, format: String });
  let done = 0;
  await runJobs(tasks, {
    jobs,
    signal,
    onTrials: (_, count) => progress.update((done += count)),
    onDone: (task, rows) => {
      const completionNs = columnOf(rows, COLUMN.completionNs);
      const wireBytes = mean(columnOf(rows, COLUMN.wireBytes));
      const samples = {
        completionNs,
        wireOverhead: setting.bytes === 0 ? 0 : wireBytes / setting.bytes - 1,
        fallbackProbability: mean(columnOf(rows, COLUMN.fallbacks)),
      };
      results[task] = { prediction: predictionOfSamples(samples), ci95Ns: ci95(completionNs) };
    },
  });
  return results;
}

/** A collective operation's time of messages that each take as long as `kind` says: lossless, or at the bound. */
export function referenceNs(
  setting: TrialSetting,
  shape: CollectiveShape,
  kind: "ideal" | "bound",
): number {
  const { scheme, options } = collectiveOf({ setting, policy: kind }, shape);
  return sampleCollective(scheme, options, new Random(setting.seed), 1).summary.mean;
}
