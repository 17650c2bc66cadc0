/** A thread of runJobs: does the parts of tasks that it is given, one at a time. */
import { parentPort } from "node:worker_threads";
import { runTask, type Task } from "./task.ts";

export interface Part {
  /** Absent: the same as before. */
  readonly task?: Task;
  readonly first: number;
  readonly count: number;
}

let task: Task | undefined;

parentPort?.on("message", async (part: Part) => {
  task = part.task ?? task;
  if (task === undefined) throw new Error("invariant broken: the first part brings its task");
  const rows = await runTask(task, part.first, part.count);
  parentPort?.postMessage(rows, [rows.buffer as ArrayBuffer]);
});
