/** A thread of `sdr emulate --jobs`: runs the blocks of trials that it is given. */
import { parentPort, workerData } from "node:worker_threads";
import { runTrials, type TrialSetting } from "./emulate-trial.ts";

export interface Block {
  readonly policy: string;
  readonly first: number;
  readonly count: number;
}

const setting = workerData as TrialSetting;

parentPort?.on("message", async ({ policy, first, count }: Block) => {
  const rows = await runTrials(setting, policy, first, count);
  parentPort?.postMessage(rows, [rows.buffer as ArrayBuffer]);
});
