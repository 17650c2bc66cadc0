/** Spreads the trials of `sdr emulate` over this thread or several; the results are the same. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { COLUMNS, runTrials, type TrialSetting } from "./emulate-trial.ts";
import type { Block } from "./emulate-worker.ts";
import { toSdrError } from "./failure.ts";

/** Trials a thread takes at a time: few enough that all end together, enough that handing out costs nothing. */
const BLOCK_TRIALS_MAX = 16;
const BLOCKS_PER_JOB = 8;

export interface JobsOptions {
  readonly policies: readonly string[];
  readonly trials: number;
  readonly jobs: number;
  readonly signal: AbortSignal;
  /** Trials done, of all policies. */
  readonly onProgress: (done: number) => void;
}

function blocksOf({ policies, trials, jobs }: JobsOptions): Block[] {
  const size = Math.max(
    1,
    Math.min(BLOCK_TRIALS_MAX, Math.floor(trials / (jobs * BLOCKS_PER_JOB))),
  );
  const blocks: Block[] = [];
  for (const policy of policies) {
    for (let first = 0; first < trials; first += size) {
      blocks.push({ policy, first, count: Math.min(size, trials - first) });
    }
  }
  return blocks;
}

/** Rows of every policy's trials, in order of trial. */
export async function runJobs(
  setting: TrialSetting,
  options: JobsOptions,
): Promise<Map<string, Float64Array>> {
  const { policies, trials, jobs, signal, onProgress } = options;
  const results = new Map(policies.map((policy) => [policy, new Float64Array(trials * COLUMNS)]));
  const blocks = blocksOf(options);
  let next = 0;
  let done = 0;
  const work = async (run: (block: Block) => Promise<Float64Array>): Promise<void> => {
    for (let block = blocks[next++]; block !== undefined; block = blocks[next++]) {
      signal.throwIfAborted();
      results.get(block.policy)?.set(await run(block), block.first * COLUMNS);
      done += block.count;
      onProgress(done);
    }
  };
  const threads = Math.min(jobs, blocks.length);
  if (threads <= 1) {
    await work(({ policy, first, count }) => runTrials(setting, policy, first, count));
  } else {
    await Promise.all(Array.from({ length: threads }, () => withWorker(setting, signal, work)));
  }
  return results;
}

async function withWorker(
  setting: TrialSetting,
  signal: AbortSignal,
  work: (run: (block: Block) => Promise<Float64Array>) => Promise<void>,
): Promise<void> {
  const worker = new Worker(new URL("./emulate-worker.js", import.meta.url), {
    workerData: setting,
  });
  try {
    await work(async (block) => {
      worker.postMessage(block);
      // once() rejects with the worker's error.
      const [rows] = await once(worker, "message", { signal });
      return rows as Float64Array;
    });
  } catch (error) {
    throw signal.aborted ? toSdrError(signal.reason) : error;
  } finally {
    await worker.terminate();
  }
}
