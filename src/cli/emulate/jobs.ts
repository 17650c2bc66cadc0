/** Spreads trials over this thread or several; the results are the same. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { toSdrError } from "../failure.ts";
import { partTrials, runTask, type Task, trialSize } from "./task.ts";
import type { Part } from "./worker.ts";

export interface JobsOptions {
  readonly jobs: number;
  readonly signal: AbortSignal;
  /** So many more trials of a task are done. */
  readonly onTrials: (task: number, trials: number) => void;
  /** All trials of a task are done: their numbers, in order of trial. Tasks may be done out of order. */
  readonly onDone: (task: number, rows: Float64Array) => void;
}

interface Pending {
  readonly index: number;
  readonly task: Task;
  readonly rows: Float64Array;
  next: number;
  left: number;
}

/** Hands out parts of tasks, in order, and puts their results together. */
class Parts {
  private readonly tasks: readonly Task[];
  private readonly options: JobsOptions;
  private at = 0;
  private current: Pending | undefined;

  constructor(tasks: readonly Task[], options: JobsOptions) {
    this.tasks = tasks;
    this.options = options;
  }

  take():
    | { readonly pending: Pending; readonly first: number; readonly count: number }
    | undefined {
    if (this.current === undefined || this.current.next === this.current.task.trials) {
      const index = this.at++;
      const task = this.tasks[index];
      if (task === undefined) return undefined;
      const rows = new Float64Array(task.trials * trialSize(task));
      this.current = { index, task, rows, next: 0, left: task.trials };
    }
    const { current: pending } = this;
    const first = pending.next;
    const size = partTrials(pending.task, this.options.jobs);
    const count = Math.min(size, pending.task.trials - first);
    pending.next += count;
    return { pending, first, count };
  }

  put(pending: Pending, first: number, count: number, rows: Float64Array): void {
    pending.rows.set(rows, first * trialSize(pending.task));
    pending.left -= count;
    this.options.onTrials(pending.index, count);
    if (pending.left === 0) this.options.onDone(pending.index, pending.rows);
  }

  async work(
    run: (task: Task, first: number, count: number) => Promise<Float64Array>,
  ): Promise<void> {
    for (let part = this.take(); part !== undefined; part = this.take()) {
      this.options.signal.throwIfAborted();
      const { pending, first, count } = part;
      this.put(pending, first, count, await run(pending.task, first, count));
    }
  }
}

/** Does all tasks. Rejects with the signal's reason when it is aborted; what was done by then has been told. */
export async function runJobs(tasks: readonly Task[], options: JobsOptions): Promise<void> {
  const parts = new Parts(tasks, options);
  const trials = tasks.reduce((sum, task) => sum + task.trials, 0);
  const threads = Math.min(options.jobs, trials);
  if (threads <= 1) await parts.work(runTask);
  else {
    const one = () => withWorker(options.signal, (run) => parts.work(run));
    await Promise.all(Array.from({ length: threads }, one));
  }
}

async function withWorker(
  signal: AbortSignal,
  work: (run: (task: Task, first: number, count: number) => Promise<Float64Array>) => Promise<void>,
): Promise<void> {
  const worker = new Worker(new URL("./worker.js", import.meta.url));
  let known: Task | undefined;
  try {
    await work(async (task, first, count) => {
      const part: Part = task === known ? { first, count } : { task, first, count };
      known = task;
      worker.postMessage(part);
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
