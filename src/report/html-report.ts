/** The report on experiments: what was run, its pictures, and every row in a table. */
import { formatProbability, formatRate, formatSize, formatTime } from "../base/units.ts";
import { chartSections } from "./charts.ts";
import {
  burstOf,
  formatDifference,
  formatLoss,
  formatRatio,
  methodLabel,
} from "./charts-format.ts";
import {
  type Cell,
  type Facts,
  type Page,
  pageData,
  pageOf,
  type Section,
  type Table,
  writeWhole,
} from "./html.ts";
import { hasTimes } from "./parse-rows.ts";
import type { ResultRow } from "./row.ts";

export interface ReportOptions {
  readonly title: string;
  /** The program's version. */
  readonly version: string;
  /** What the reader should know of the rows: some left out, some cut off. */
  readonly notices?: readonly string[];
  /** The charts' sections, where the caller has them already. */
  readonly sections?: readonly Section[];
}

/** Values listed one by one in the summary; more are given as a range. */
const LISTED_MAX = 8;

function listed<T extends number | string>(
  rows: readonly ResultRow[],
  value: (row: ResultRow) => T,
  format: (value: T) => string,
): string {
  const values = [...new Set(rows.map(value))].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  if (values.length <= LISTED_MAX) return [...new Set(values.map((one) => format(one)))].join(", ");
  return `${format(values[0]!)} … ${format(values.at(-1)!)} (${values.length} values)`;
}

/** One link in full; of more, the first and how many. */
function linksOf(rows: readonly ResultRow[], link: (row: ResultRow) => string): string {
  const links = new Set(rows.map(link));
  const [first = ""] = links;
  return links.size === 1 ? first : `${first}; and ${links.size - 1} others, in the downloads`;
}

function runFacts(rows: readonly ResultRow[], version: string): Facts {
  const trials = rows.reduce((sum, row) => sum + row.trials, 0);
  const words = (value: string) => value;
  return {
    kind: "facts",
    facts: [
      ["Experiments", listed(rows, (row) => row.experiment, words)],
      ["Rows, trials", `${rows.length}, ${trials}`],
      ["Methods", listed(rows, methodLabel, words)],
      ["Policies", listed(rows, (row) => row.policy, words)],
      ["Message sizes", listed(rows, (row) => row.bytes, formatSize)],
      ["Chunk loss", listed(rows, (row) => row.chunkLoss, formatLoss)],
      ["Packet loss", listed(rows, (row) => row.packetLoss, formatLoss)],
      ["Loss burst, packets", listed(rows, burstOf, String)],
      ["Link rate", listed(rows, (row) => row.rateBps, formatRate)],
      ["Round-trip time", listed(rows, (row) => row.rttNs, formatTime)],
      ["Packet payload", listed(rows, (row) => row.packetBytes, formatSize)],
      ["Chunk", listed(rows, (row) => row.chunkBytes, formatSize)],
      ["Trials of a row", listed(rows, (row) => row.trials, String)],
      ["Seeds", listed(rows, (row) => row.seed, String)],
      ["Links", linksOf(rows, (row) => row.link)],
      ["Reverse links", linksOf(rows, (row) => row.reverseLink)],
      ["Version of the rows", listed(rows, (row) => row.version, words)],
      ["Version of this report", version],
    ],
  };
}

interface RowColumn {
  readonly title: string;
  readonly numeric?: boolean;
  /** Left out of the table when it says the same in all rows. */
  readonly ifVaried?: boolean;
  cell(row: ResultRow): Cell;
}

const number = (title: string, cell: RowColumn["cell"], ifVaried = false): RowColumn => ({
  ...{ title, cell, numeric: true, ifVaried },
});
const time = (title: string, ns: (row: ResultRow) => number): RowColumn =>
  number(title, (row) => (hasTimes(row) ? [formatTime(ns(row)), ns(row)] : ["", -1]));
const ratio = (title: string, value: (row: ResultRow) => number): RowColumn =>
  number(title, (row) => (hasTimes(row) ? [formatRatio(value(row)), value(row)] : ["", -1]));
const share = (title: string, value: (row: ResultRow) => number): RowColumn =>
  number(title, (row) => (hasTimes(row) ? [formatDifference(value(row)), value(row)] : ["", -1]));

const ROW_COLUMNS: readonly RowColumn[] = [
  { title: "experiment", ifVaried: true, cell: (row) => row.experiment },
  { title: "policy", cell: (row) => row.policy },
  { title: "method", cell: methodLabel },
  { title: "collective", ifVaried: true, cell: (row) => row.collective ?? "" },
  number("datacenters", (row) => [String(row.datacenters ?? ""), row.datacenters ?? 0], true),
  number("size", (row) => [formatSize(row.bytes), row.bytes]),
  number("chunk loss", (row) => [formatLoss(row.chunkLoss), row.chunkLoss]),
  number("packet loss", (row) => [formatLoss(row.packetLoss), row.packetLoss], true),
  number("burst, packets", (row) => [String(burstOf(row)), burstOf(row)], true),
  number("rate", (row) => [formatRate(row.rateBps), row.rateBps], true),
  number("RTT", (row) => [formatTime(row.rttNs), row.rttNs], true),
  number("packet", (row) => [formatSize(row.packetBytes), row.packetBytes], true),
  number("chunk", (row) => [formatSize(row.chunkBytes), row.chunkBytes], true),
  number("trials", (row) => [String(row.trials), row.trials]),
  number("seed", (row) => [String(row.seed), row.seed], true),
  number("warm-up", (row) => [String(row.warmup), row.warmup], true),
  time("mean", (row) => row.meanNs),
  time("± 95 %", (row) => row.meanCi95Ns),
  time("p50", (row) => row.p50Ns),
  time("p99", (row) => row.p99Ns),
  time("p99.9", (row) => row.p999Ns),
  ratio("slowdown, mean", (row) => row.meanNs / row.idealNs),
  ratio("slowdown, p99.9", (row) => row.p999Ns / row.idealNs),
  share("over bound, mean", (row) => row.meanNs / row.boundNs - 1),
  share("over bound, p99.9", (row) => row.p999Ns / row.boundNs - 1),
  number("wire overhead", (row) => [formatDifference(row.wireOverhead), row.wireOverhead]),
  number("failed", (row) => [String(row.failed), row.failed], true),
];

function rowTable(rows: readonly ResultRow[]): Table {
  const varies = ({ cell }: RowColumn) => new Set(rows.map((row) => String(cell(row)))).size > 1;
  const columns = ROW_COLUMNS.filter((column) => !column.ifVaried || varies(column));
  return {
    kind: "table",
    caption:
      "Every row of the results. Columns that would say the same in all rows are left out: see the summary. " +
      "Slowdown: over the time without loss; bound: the erasure channel's limit.",
    columns: columns.map(({ title, numeric = false }) => ({ title, numeric })),
    rows: rows.map((row) => columns.map((column) => column.cell(row))),
  };
}

function failures(rows: readonly ResultRow[]): string[] {
  const failed = rows.filter((row) => row.failed > 0);
  if (failed.length === 0) return [];
  const trials = failed.reduce((sum, row) => sum + row.failed, 0);
  const of = failed.reduce((sum, row) => sum + row.trials, 0);
  return [
    `${trials} of ${of} messages (${formatProbability(trials / of)}) of ${failed.length} rows were not delivered: ` +
      "the times are those of the others.",
  ];
}

export function reportPage(rows: readonly ResultRow[], options: ReportOptions): Page {
  const { title, version, notices = [], sections = chartSections(rows) } = options;
  const trials = rows.reduce((sum, row) => sum + row.trials, 0);
  return {
    title,
    subtitle: `sdr-rdma ${version}: ${rows.length} rows, ${trials} trials`,
    notices: [...notices, ...failures(rows)],
    sections: [
      { title: "What was run", blocks: [runFacts(rows, version)] },
      ...sections,
      { title: "All results", blocks: [rowTable(rows)] },
    ],
    data: pageData("results", rows),
  };
}

/** Writes the report on `rows` as one HTML file, whole or not at all. Errors: the file system's. */
export async function writeReport(
  rows: readonly ResultRow[],
  path: string,
  options: ReportOptions,
): Promise<void> {
  await writeWhole(path, pageOf(reportPage(rows, options)));
}
