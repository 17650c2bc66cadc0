/** sdr experiment: the sweep that a file describes, into a folder, resumed where it was left. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { check, SdrError } from "../../base/errors.ts";
import { formatSize, formatTime } from "../../base/units.ts";
import type { ResultRow } from "../../report/row.ts";
import { renderTable } from "../../report/table.ts";
import { fileError, usage } from "../failure.ts";
import { parseJobs } from "../options.ts";
import { Progress } from "../progress.ts";
import { interruptible, note, print, printJson } from "../terminal.ts";
import { version } from "../version.ts";
import { cellCost, cellKey } from "./cell.ts";
import { type Experiment, parseExperiment } from "./file.ts";
import { FILES, lineOf, ResultsFolder, type Shard } from "./folder.ts";
import { mergeRuns } from "./merge.ts";
import { runCells, shardCells } from "./run.ts";
import { YAML_LIMITS } from "./yaml.ts";

const SHARDS_MAX = 10_000;
/** More rows are no table to look at: they are in the files. */
const TABLE_ROWS_MAX = 60;

export function readExperiment(path: string): { text: string; experiment: Experiment } {
  let text: string;
  try {
    const { size } = statSync(path);
    const most = YAML_LIMITS.fileBytes;
    if (size > most)
      throw new SdrError("TOO_LARGE", `${path} has ${size} B`, `give at most ${most}`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw fileError(path, error);
  }
  return { text, experiment: parseExperiment(text, path) };
}

export interface RunFolderOptions {
  readonly text: string;
  readonly experiment: Experiment;
  readonly out: string;
  readonly shard: Shard;
  readonly jobs: number;
  readonly signal: AbortSignal;
}

export interface RanFolder {
  readonly rows: readonly ResultRow[];
  /** Of them, those that were there already. */
  readonly kept: number;
}

/** Runs what a folder lacks of an experiment's shard. Errors: those of ResultsFolder and runCells; rows so far stay. */
export async function runFolder(options: RunFolderOptions): Promise<RanFolder> {
  const { text, experiment, out, shard, jobs, signal } = options;
  const origin = { version: version(), experiment: experiment.name };
  const cells = shardCells(experiment.cells, shard);
  const order = cells.map(cellKey);
  const { digest } = experiment;
  const identity = { ...origin, digest, cells: experiment.cells.length, shard };
  using folder = new ResultsFolder(out, identity, text, new Set(order));
  const has = folder.keys;
  const left = cells.filter((_, index) => !has.has(order[index] as string));
  const total = left.reduce((sum, cell) => sum + cellCost(cell), 0);
  let rows = has.size;
  let cost = 0;
  const format = (amount: number) => `${amount === total ? cells.length : rows}`;
  using progress = new Progress({ label: `${experiment.name} rows`, total, format });
  await runCells(left, {
    ...{ origin, jobs, signal },
    onRow: (row) => {
      folder.append(lineOf(row));
      rows++;
    },
    onCost: (more) => progress.update(Math.min((cost += more), total * (1 - Number.EPSILON))),
  });
  return { rows: folder.finish(order), kept: has.size };
}

/** "2/4": the second of four. */
export function parseShard(text: string): Shard {
  const parts = /^(\d{1,6})\/(\d{1,6})$/.exec(text);
  const index = Number(parts?.[1]);
  const count = Number(parts?.[2]);
  check(
    index >= 1 && index <= count && count <= SHARDS_MAX,
    `shard "${text}" is not valid`,
    `give I/N, from 1/N to N/N, N at most ${SHARDS_MAX}`,
  );
  return { index, count };
}

interface Texts {
  readonly out?: string;
  readonly jobs?: string;
  readonly shard: string;
  readonly json?: true;
}

function rowsTable(rows: readonly ResultRow[]): string {
  return renderTable<ResultRow>(
    [
      { title: "method", align: "left", cell: ({ method }) => method },
      { title: "policy", align: "left", cell: ({ policy }) => policy },
      { title: "size", cell: ({ bytes }) => formatSize(bytes) },
      { title: "chunk loss", cell: ({ chunkLoss }) => chunkLoss.toPrecision(3) },
      { title: "RTT", cell: ({ rttNs }) => formatTime(rttNs) },
      { title: "mean", cell: ({ meanNs }) => shownTime(meanNs) },
      { title: "p99.9", cell: ({ p999Ns }) => shownTime(p999Ns) },
      { title: "slowdown", cell: (row) => shownRatio(row.meanNs / row.idealNs) },
      { title: "p99.9", cell: (row) => shownRatio(row.p999Ns / row.idealNs) },
      { title: "wire", cell: (row) => `${(row.wireOverhead * 100).toFixed(2)} %` },
      { title: "failed", cell: ({ failed, trials }) => `${failed} of ${trials}` },
    ],
    rows,
  );
}

function shownTime(ns: number | null): string {
  return ns === null || Number.isNaN(ns) ? "-" : formatTime(ns);
}

function shownRatio(value: number): string {
  return value > 0 ? value.toFixed(3) : "-";
}

function tell(out: string, experiment: string, rows: readonly ResultRow[], json: boolean): void {
  const failed = rows.filter((row) => row.failed > 0).length;
  const results = join(out, FILES.results);
  const table = join(out, FILES.table);
  if (json)
    return printJson({ experiment, version: version(), rows: rows.length, failed, results, table });
  if (rows.length <= TABLE_ROWS_MAX) print(rowsTable(rows));
  note(`${rows.length} rows in ${results} and ${table}`);
  if (failed > 0) note(`${failed} of them have messages that were not delivered`);
}

function needed(out: string | undefined): string {
  check(out !== undefined && out !== "", "no folder for the results", "add --out FOLDER");
  return out;
}

async function run(file: string, given: Texts): Promise<void> {
  const { text, experiment } = usage(() => readExperiment(file));
  const { jobs, shard, out } = usage(() => ({
    out: needed(given.out),
    shard: parseShard(given.shard),
    jobs: parseJobs(given.jobs),
  }));
  const ran = await interruptible((signal) =>
    runFolder({ text, experiment, out, shard, jobs, signal }),
  );
  if (ran.kept > 0 && given.json !== true) note(`${ran.kept} rows were there already`);
  tell(out, experiment.name, ran.rows, given.json === true);
}

function merge(folders: readonly string[], given: Partial<Texts>): void {
  const out = usage(() => needed(given.out));
  const { experiment, rows } = mergeRuns(folders, out, version());
  tell(out, experiment, rows, given.json === true);
}

export function experimentCommand(): Command {
  const command = new Command("experiment")
    .description("run the sweep that a YAML file describes into a folder; run again, it goes on")
    .argument("<file>", "the experiment")
    // Of merge too, whose options the parser gives to this command; so it is asked for in needed().
    .option("--out <folder>", "where results.jsonl and results.csv go")
    .option("--shard <i/n>", "only the i-th of n parts; see experiment merge", "1/1")
    .option("--jobs <number>", "threads (default: one a core); results do not depend on it")
    .option("--json", "print one JSON document on stdout")
    .action(run);
  command
    .command("merge")
    .description("put the folders of all shards together")
    .argument("<folder...>", "one of each shard")
    .option("--out <folder>", "a new folder")
    .option("--json", "print one JSON document on stdout")
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .action((folders: string[], _, merging: Command) => merge(folders, merging.optsWithGlobals()));
  return command;
}
