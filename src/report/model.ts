/** The model's predictions beside each other: their fields, those of emulated trials, and their table. */
import { formatProbability, formatTime } from "../base/units.ts";
import type { Prediction } from "../model/types.ts";
import { type Column, renderTable } from "./table.ts";

/** Fields as in EmulationResult; null is what a prediction does not say. */
export interface ModelResult {
  readonly policy: string;
  readonly method: Prediction["method"];
  readonly exact: boolean;
  /** What makes it inexact; null when exact. */
  readonly caveat: string | null;
  /** Messages that it rests on; null for a formula. */
  readonly trials: number | null;
  readonly completionNs: {
    readonly mean: number;
    readonly p50: number;
    readonly p99: number;
    readonly p999: number;
    /** What one message in a million is within, and not within. */
    readonly min: number;
    readonly max: number;
    readonly ci95: number;
  };
  readonly slowdown: {
    readonly mean: number;
    readonly p50: number;
    readonly p99: number;
    readonly p999: number;
  } | null;
  /** Of chunks, with the packets' overhead left out, and without control frames. */
  readonly wireBytes: number;
  readonly overhead: number;
  readonly fallbackProbability: number;
}

const LEAST = 1e-6;

export interface ModelResultOptions {
  readonly policy: string;
  readonly bytes: number;
  readonly idealNs: number;
  /** Of sampled ones: messages, and half the width of the mean's 95 % confidence interval. */
  readonly samples?: { readonly trials: number; readonly ci95Ns: number };
}

export function modelResult(prediction: Prediction, options: ModelResultOptions): ModelResult {
  const { policy, bytes, idealNs, samples } = options;
  const { method, exact, caveat = null, meanNs, wireOverhead, fallbackProbability } = prediction;
  const quantile = (q: number) => prediction.quantileNs(q);
  const [p50, p99, p999] = [quantile(0.5), quantile(0.99), quantile(0.999)];
  const over = (ns: number) => ns / idealNs;
  return {
    policy,
    method,
    exact,
    caveat,
    trials: samples?.trials ?? null,
    completionNs: {
      mean: meanNs,
      p50,
      p99,
      p999,
      min: quantile(LEAST),
      max: quantile(1 - LEAST),
      ci95: samples?.ci95Ns ?? 0,
    },
    slowdown:
      idealNs === 0
        ? null
        : { mean: over(meanNs), p50: over(p50), p99: over(p99), p999: over(p999) },
    wireBytes: bytes * (1 + wireOverhead),
    overhead: wireOverhead,
    fallbackProbability,
  };
}

const time = (ns: number) => formatTime(ns);
const ratio = (value: number | undefined) => value?.toFixed(3) ?? "-";

const COLUMNS: readonly Column<ModelResult>[] = [
  { title: "policy\n", align: "left", cell: (row) => row.policy },
  { title: "completion\nmean", cell: (row) => time(row.completionNs.mean) },
  { title: "\np50", cell: (row) => time(row.completionNs.p50) },
  { title: "\np99", cell: (row) => time(row.completionNs.p99) },
  { title: "\np99.9", cell: (row) => time(row.completionNs.p999) },
  { title: "slowdown\nmean", cell: (row) => ratio(row.slowdown?.mean) },
  { title: "\np99.9", cell: (row) => ratio(row.slowdown?.p999) },
  { title: "wire\noverhead", cell: (row) => `${(row.overhead * 100).toFixed(2)} %` },
  { title: "fall-\nbacks", cell: (row) => formatProbability(row.fallbackProbability) },
  { title: "\nexact", align: "left", cell: (row) => (row.exact ? "yes" : "no") },
];

/** The table, and below it why rows are not exact, each reason once. */
export function modelTable(results: readonly ModelResult[]): string {
  const reasons = new Map<string, string[]>();
  for (const { policy, caveat } of results)
    if (caveat !== null) reasons.set(caveat, [...(reasons.get(caveat) ?? []), policy]);
  const notes = [...reasons].map(([caveat, policies]) => `${policies.join(", ")}: ${caveat}\n`);
  return renderTable(COLUMNS, results) + notes.join("");
}
