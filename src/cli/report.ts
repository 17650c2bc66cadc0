/** sdr report: results of experiments as a page of pictures and tables that opens from disk. */
import { mkdir, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import { check, SdrError } from "../base/errors.ts";
import { formatSize } from "../base/units.ts";
import { mergeRows, type ParsedRows, parseRows } from "../report/parse-rows.ts";
import { fileError } from "./failure.ts";
import { note, print, printJson } from "./terminal.ts";
import { version } from "./version.ts";

const RESULTS = "results.jsonl";
/** Folders below a given one that are looked into: figures have one folder each, with one more for shards. */
const DEPTH_MAX = 3;
/** Of one file of results, and files of one report. */
const FILE_BYTES_MAX = 256 << 20;
const FILES_MAX = 1000;

interface Settings {
  readonly out: string;
  readonly title?: string;
  readonly png?: string;
  readonly json?: true;
}

async function resultsBelow(folder: string, depth: number): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.map((entry) => entry.name);
  if (names.includes(RESULTS)) return [join(folder, RESULTS)];
  if (depth === 0) return [];
  const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  const found = await Promise.all(
    folders.sort().map((name) => resultsBelow(join(folder, name), depth - 1)),
  );
  return found.flat();
}

/** The files of results that were meant: files as given, of folders those in them. */
async function findResults(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) {
    try {
      const files = (await stat(path)).isDirectory() ? await resultsBelow(path, DEPTH_MAX) : [path];
      if (files.length === 0) {
        throw new SdrError("NOT_FOUND", `${path} has no ${RESULTS}`, "give an experiment's folder");
      }
      found.push(...files);
    } catch (error) {
      throw fileError(path, error);
    }
  }
  check(found.length <= FILES_MAX, `${found.length} files of results`, `give up to ${FILES_MAX}`);
  return [...new Set(found)];
}

async function readResults(path: string): Promise<ParsedRows> {
  let text: string;
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const most = formatSize(FILE_BYTES_MAX);
      check(size <= FILE_BYTES_MAX, `${path} has ${formatSize(size)}`, `${most} is the most`);
      text = await file.readFile("utf8");
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError(path, error);
  }
  return parseRows(text, path, version());
}

/** The pictures as files named after them. */
async function writePictures(charts: readonly Drawn[], folder: string): Promise<string[]> {
  const [{ chartPng }, { writeWhole }] = await Promise.all([
    import("../report/png.ts"),
    import("../report/html.ts"),
  ]);
  const written: string[] = [];
  try {
    await mkdir(folder, { recursive: true });
    for (const chart of charts) {
      const path = join(folder, `${chart.id}.png`);
      await writeWhole(path, await chartPng(chart));
      written.push(path);
    }
  } catch (error) {
    throw fileError(folder, error);
  }
  return written;
}

type Drawn = Parameters<typeof import("../report/png.ts").chartPng>[0];

async function run(paths: string[], options: object): Promise<void> {
  const settings = options as Settings;
  const parts = [];
  for (const file of await findResults(paths)) parts.push(await readResults(file));
  const { rows, notices } = mergeRows(parts);
  // Vega takes a while to load: only now, for what is known to be worth it.
  const { chartSections } = await import("../report/charts.ts");
  const { writeReport } = await import("../report/html-report.ts");
  const sections = chartSections(rows);
  const title = settings.title ?? [...new Set(rows.map((row) => row.experiment))].join(", ");
  try {
    await writeReport(rows, settings.out, { title, version: version(), notices, sections });
  } catch (error) {
    throw error instanceof Error && "code" in error ? fileError(settings.out, error) : error;
  }
  const charts = sections.flatMap(({ blocks }) =>
    blocks.flatMap((block) => (block.kind === "chart" ? [block.chart] : [])),
  );
  const pictures = settings.png === undefined ? [] : await writePictures(charts, settings.png);
  for (const notice of notices) note(notice);
  const report = { report: settings.out, rows: rows.length, charts: charts.length };
  if (settings.json) printJson({ ...report, notices, pictures });
  else print(`${settings.out}: ${rows.length} rows, ${charts.length} charts\n`);
}

export function reportCommand(): Command {
  return new Command("report")
    .description("write experiments' results as a page of charts and tables that opens from disk")
    .argument("<results...>", `folders of experiments, or ${RESULTS} files`)
    .option("--out <file>", "the page", "report.html")
    .option("--title <text>", "its title (default: the experiments' names)")
    .option("--png <folder>", "each chart as an image besides, at twice its size")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
