/** Rows of results as a table of comma-separated values (RFC 4180), for spreadsheets. */
import { QUANTILE_LEVELS, type ResultRow } from "../../report/row.ts";

type Field = Exclude<keyof ResultRow, "quantilesNs" | "phases">;

const FIELDS: readonly Field[] = [
  ...(["version", "experiment", "key", "transport", "method", "exact", "policy"] as const),
  ...(["link", "reverseLink", "rateBps", "rttNs", "packetLoss", "chunkLoss"] as const),
  ...(["burstPackets", "bytes", "packetBytes", "chunkBytes", "trials", "seed", "warmup"] as const),
  ...(["messages", "collective", "datacenters", "idealNs", "boundNs", "meanNs"] as const),
  ...(["meanCi95Ns", "p50Ns", "p99Ns", "p999Ns", "minNs", "maxNs", "wireOverhead"] as const),
  ...(["failed", "totalNs"] as const),
];

/** Quoted where it must be; what is absent is empty. */
export function csvField(value: unknown): string {
  if (value === undefined || value === null) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** One line of titles, one a row; quantiles have a column each, phases are JSON in one. */
export function csvText(rows: readonly ResultRow[]): string {
  const quantiles = QUANTILE_LEVELS.map((level) => `q${level}Ns`);
  const lines = rows.map((row) => [
    ...FIELDS.map((field) => row[field]),
    ...QUANTILE_LEVELS.map((_, index) => row.quantilesNs[index]),
    row.phases,
  ]);
  return [[...FIELDS, ...quantiles, "phases"], ...lines]
    .map((fields) => `${fields.map(csvField).join(",")}\r\n`)
    .join("");
}
