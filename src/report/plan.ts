/** A plan's fields as they are printed: the schemes beside each other, and their table. */
import { formatProbability, formatTime } from "../base/units.ts";
import type { PlanEntry } from "../model/planner.ts";
import { predict } from "../model/predict.ts";
import { formatScheme, SCHEME_DEFAULTS } from "../model/scheme.ts";
import type { Scheme, Setting } from "../model/types.ts";
import { type Column, renderTable } from "./table.ts";

export interface PlanResult {
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, number>>;
  /** The sender's timeout; of schemes with parity, that of their safety net. */
  readonly rtoNs: number;
  readonly completionNs: { readonly mean: number; readonly p99: number; readonly p999: number };
  /** The same over the bound, less 1. */
  readonly overBound: { readonly mean: number; readonly p99: number; readonly p999: number };
  readonly overhead: number;
  readonly fallbackProbability: number;
  readonly isWithinOverhead: boolean;
  readonly exact: boolean;
}

function parametersOf(scheme: Scheme): Record<string, number> {
  if (scheme.kind === "hybrid") return { ...scheme.shape };
  const { kind: _, ...parameters } = scheme;
  return parameters as Record<string, number>;
}

/** What predict() says of a plan's entry. */
export function planResult(entry: PlanEntry, setting: Setting, boundNs: number): PlanResult {
  const { scheme, isWithinOverhead } = entry;
  const prediction = predict(scheme, setting);
  const mean = prediction.meanNs;
  const p99 = prediction.quantileNs(0.99);
  const p999 = prediction.quantileNs(0.999);
  const over = (ns: number) => ns / boundNs - 1;
  const alpha = "alpha" in scheme ? scheme.alpha : SCHEME_DEFAULTS.alpha;
  return {
    scheme: formatScheme(scheme),
    parameters: parametersOf(scheme),
    rtoNs: (1 + alpha) * setting.rttNs,
    completionNs: { mean, p99, p999 },
    overBound: { mean: over(mean), p99: over(p99), p999: over(p999) },
    overhead: prediction.wireOverhead,
    fallbackProbability: prediction.fallbackProbability,
    isWithinOverhead,
    exact: prediction.exact,
  };
}

const share = (value: number) => `${(Math.max(0, value) * 100).toFixed(2)} %`;

const COLUMNS: readonly Column<PlanResult>[] = [
  { title: "scheme\n", align: "left", cell: (row) => row.scheme },
  { title: "completion\nmean", cell: (row) => formatTime(row.completionNs.mean) },
  { title: "\np99", cell: (row) => formatTime(row.completionNs.p99) },
  { title: "\np99.9", cell: (row) => formatTime(row.completionNs.p999) },
  { title: "over bound\nmean", cell: (row) => share(row.overBound.mean) },
  { title: "\np99.9", cell: (row) => share(row.overBound.p999) },
  {
    title: "wire\noverhead",
    cell: (row) => `${share(row.overhead)}${row.isWithinOverhead ? "" : " !"}`,
  },
  { title: "fall-\nbacks", cell: (row) => formatProbability(row.fallbackProbability) },
  { title: "\ntimeout", cell: (row) => formatTime(row.rtoNs) },
];

/** The best first; an overhead above what is allowed is marked. */
export function planTable(results: readonly PlanResult[]): string {
  return renderTable(COLUMNS, results);
}
