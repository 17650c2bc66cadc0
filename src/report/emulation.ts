/** Results of many emulated trials: summaries, and their table. */
import { mean, type Summary, summarize } from "../base/statistics.ts";
import { formatTime } from "../base/units.ts";
import { type Column, renderTable } from "./table.ts";

/** Of the trials that delivered; null when none did. No slowdown either where the ideal takes no time. */
export interface EmulationResult {
  readonly policy: string;
  readonly trials: number;
  readonly completionNs: Omit<Summary, "count"> | null;
  readonly slowdown: {
    readonly mean: number;
    readonly p50: number;
    readonly p99: number;
    readonly p999: number;
  } | null;
  /** Sent by both ends, mean of a trial. */
  readonly wireBytes: number | null;
  /** Wire bytes over the message's bytes, minus 1. */
  readonly overhead: number | null;
  readonly chunksRetransmitted: number | null;
  readonly controlFrames: number | null;
  readonly parityChunks: number | null;
  readonly chunksRecovered: number | null;
  readonly parityWasted: number | null;
  readonly fallbacks: number | null;
  readonly delivered: number;
  readonly failed: number;
}

export interface TrialColumns {
  readonly completionNs: readonly number[];
  readonly wireBytes: readonly number[];
  readonly chunksRetransmitted: readonly number[];
  readonly controlFrames: readonly number[];
  /** Parity chunks sent; data chunks made from them; those that came for nothing; blocks that they did not save. */
  readonly parityChunks: readonly number[];
  readonly chunksRecovered: readonly number[];
  readonly parityWasted: readonly number[];
  readonly fallbacks: readonly number[];
}

export interface EmulationOptions {
  readonly policy: string;
  readonly trials: number;
  readonly messageBytes: number;
  readonly idealNs: number;
}

/** `columns` hold the trials that delivered, whatever they were in number. */
export function summarizeTrials(columns: TrialColumns, options: EmulationOptions): EmulationResult {
  const { policy, trials, messageBytes, idealNs } = options;
  const delivered = columns.completionNs.length;
  const counts = { policy, trials };
  const outcome = { delivered, failed: trials - delivered };
  if (delivered === 0) {
    const none = {
      wireBytes: null,
      overhead: null,
      chunksRetransmitted: null,
      controlFrames: null,
      parityChunks: null,
      chunksRecovered: null,
      parityWasted: null,
      fallbacks: null,
    };
    return { ...counts, completionNs: null, slowdown: null, ...none, ...outcome };
  }
  const { count: _, ...completionNs } = summarize(columns.completionNs);
  const over = (ns: number) => ns / idealNs;
  const wireBytes = mean(columns.wireBytes);
  return {
    ...counts,
    completionNs,
    slowdown:
      idealNs === 0
        ? null
        : {
            mean: over(completionNs.mean),
            p50: over(completionNs.p50),
            p99: over(completionNs.p99),
            p999: over(completionNs.p999),
          },
    wireBytes,
    overhead: messageBytes === 0 ? null : wireBytes / messageBytes - 1,
    chunksRetransmitted: mean(columns.chunksRetransmitted),
    controlFrames: mean(columns.controlFrames),
    parityChunks: mean(columns.parityChunks),
    chunksRecovered: mean(columns.chunksRecovered),
    parityWasted: mean(columns.parityWasted),
    fallbacks: mean(columns.fallbacks),
    ...outcome,
  };
}

function shown(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? "-" : format(value);
}

const time = (ns: number) => formatTime(ns);
const ratio = (value: number) => value.toFixed(3);

const COLUMNS: readonly Column<EmulationResult>[] = [
  { title: "policy\n", align: "left", cell: (row) => row.policy },
  { title: "completion\nmean", cell: (row) => shown(row.completionNs?.mean, time) },
  { title: "\n± 95 %", cell: (row) => shown(row.completionNs?.ci95, (ns) => formatTime(ns, 2)) },
  { title: "\np50", cell: (row) => shown(row.completionNs?.p50, time) },
  { title: "\np99", cell: (row) => shown(row.completionNs?.p99, time) },
  { title: "\np99.9", cell: (row) => shown(row.completionNs?.p999, time) },
  { title: "slowdown\nmean", cell: (row) => shown(row.slowdown?.mean, ratio) },
  { title: "\np99.9", cell: (row) => shown(row.slowdown?.p999, ratio) },
  {
    title: "wire\noverhead",
    cell: (row) => shown(row.overhead, (share) => `${(share * 100).toFixed(2)} %`),
  },
  {
    title: "chunks\nrepeated",
    cell: (row) => shown(row.chunksRetransmitted, (count) => count.toFixed(1)),
  },
  {
    title: "chunks\nrecovered",
    cell: (row) => shown(row.chunksRecovered, (count) => count.toFixed(1)),
  },
  { title: "fall-\nbacks", cell: (row) => shown(row.fallbacks, (count) => count.toFixed(2)) },
  {
    title: "control\nframes",
    cell: (row) => shown(row.controlFrames, (count) => count.toFixed(1)),
  },
  { title: "delivered\n", cell: (row) => `${row.delivered} of ${row.trials}` },
];

export function emulationTable(results: readonly EmulationResult[]): string {
  return renderTable(COLUMNS, results);
}
