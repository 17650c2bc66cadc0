/** Runs cells of a sweep and tells their rows, each as soon as it is there. */
import { setImmediate as turn } from "node:timers/promises";
import { predict } from "../../model/predict.ts";
import { parseScheme } from "../../model/scheme.ts";
import type { ResultRow } from "../../report/row.ts";
import { runJobs } from "../emulate/jobs.ts";
import type { Task } from "../emulate/task.ts";
import { type Cell, cellCost } from "./cell.ts";
import type { Shard } from "./folder.ts";
import { modelSetting, predictedRow, type RowOrigin, sentRow } from "./row.ts";
import { runUdpCell } from "./udp.ts";

export interface RunOptions {
  readonly origin: RowOrigin;
  readonly jobs: number;
  readonly signal: AbortSignal;
  readonly onRow: (row: ResultRow) => void;
  /** So much more of the cells' cost is done. */
  readonly onCost: (cost: number) => void;
}

/**
 * The cells of one shard, in the order of the experiment. Which shard a cell is in depends on the experiment alone; the
 * dearest cells are dealt out first, each to the shard that has least, so that all take about as long.
 */
export function shardCells(cells: readonly Cell[], { index, count }: Shard): Cell[] {
  if (count === 1) return [...cells];
  const costs = cells.map(cellCost);
  const order = cells.map((_, i) => i).sort((a, b) => (costs[b] ?? 0) - (costs[a] ?? 0) || a - b);
  const loads = new Array<number>(count).fill(0);
  const mine = new Set<number>();
  for (const cell of order) {
    const least = loads.indexOf(Math.min(...loads));
    loads[least] = (loads[least] ?? 0) + (costs[cell] ?? 0);
    if (least === index - 1) mine.add(cell);
  }
  return cells.filter((_, i) => mine.has(i));
}

/** Errors: the signal's reason; those of a cell that cannot be run. Rows told before that stand. */
export async function runCells(cells: readonly Cell[], options: RunOptions): Promise<void> {
  const ofKind = (...names: readonly string[]) =>
    cells.filter(({ transport }) => names.includes(transport));
  for (const cell of ofKind("model")) {
    options.signal.throwIfAborted();
    options.onRow(predictCell(cell, options.origin));
    options.onCost(cellCost(cell));
    await turn();
  }
  await runTrialCells(ofKind("sampled", "emulated"), options);
  // Last and one at a time: their times are real, and nothing else of ours should run beside them.
  for (const cell of ofKind("udp")) {
    const cost = cellCost(cell) / cell.trials;
    const rows = await runUdpCell(cell, options.signal, (trials) => options.onCost(trials * cost));
    options.onRow(sentRow(cell, options.origin, rows));
  }
}

function predictCell(cell: Cell, origin: RowOrigin): ResultRow {
  const setting = modelSetting(cell);
  return predictedRow(cell, origin, predict(parseScheme(cell.policy, setting), setting));
}

async function runTrialCells(cells: readonly Cell[], options: RunOptions): Promise<void> {
  const { origin, jobs, signal, onRow, onCost } = options;
  const tasks = cells.map((cell): Task => {
    const kind = cell.transport === "sampled" ? "sampled" : "emulated";
    const { policy, trials, collective } = cell;
    return { kind, setting: cell, policy, trials, ...(collective ? { collective } : {}) };
  });
  await runJobs(tasks, {
    jobs,
    signal,
    onTrials: (index, trials) => {
      const cell = cells[index] as Cell;
      onCost((cellCost(cell) * trials) / cell.trials);
    },
    onDone: (index, rows) => onRow(sentRow(cells[index] as Cell, origin, rows)),
  });
}
