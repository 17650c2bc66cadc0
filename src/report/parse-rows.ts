/**
 * Result rows from the text of JSON Lines files, checked: what a report draws comes from files that anybody may have
 * written. A last line that was cut off (the writer was killed) is left out and said so; everything else that is no
 * row of ours is refused.
 */
import { check, SdrError } from "../base/errors.ts";
import { METHODS, QUANTILE_LEVELS, type ResultRow } from "./row.ts";

/** Rows one report takes: what a browser still sorts and draws at once. */
export const REPORT_ROWS_MAX = 50_000;
/** Longest policy, link or other text of a row. */
const TEXT_MAX = 4096;
/** Of a refused value, shown in the error. */
const SHOWN_MAX = 60;

/** Phases one row may have. */
const PHASES_MAX = 1000;
const PHASE_NUMBERS = [
  ...["messages", "idealNs", "boundNs", "meanNs", "p99Ns", "p999Ns", "totalNs", "wireOverhead"],
];

const TRANSPORTS = ["model", "emulated", "udp"];
const COLLECTIVES = ["ring", "recursive-doubling", "tree"];
const TEXTS = ["version", "experiment", "key", "policy", "link", "reverseLink"] as const;
/** Finite and not negative. */
const NUMBERS = [
  ...(["rateBps", "rttNs", "packetLoss", "chunkLoss", "burstPackets", "bytes"] as const),
  ...(["packetBytes", "chunkBytes", "trials", "seed", "warmup", "idealNs", "boundNs"] as const),
  "failed",
] as const;
/** The same, but nothing where no trial was delivered. */
const TIMES = [
  ...(["meanNs", "meanCi95Ns", "p50Ns", "p99Ns", "p999Ns", "minNs", "maxNs"] as const),
];
/** Numbers that divide others. */
const POSITIVE = ["rateBps", "idealNs", "boundNs", "packetBytes", "chunkBytes"] as const;

export interface ParsedRows {
  readonly rows: ResultRow[];
  /** For people: what was left out, and why. */
  readonly notices: string[];
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
}

/** Versions whose rows mean the same: equal but for the last number. */
function generation(version: string): string {
  return version.split(".").slice(0, 2).join(".");
}

function isQuantiles(value: unknown): boolean {
  const length = QUANTILE_LEVELS.length;
  return Array.isArray(value) && value.length === length && value.every(Number.isFinite);
}

function isPhases(value: unknown): boolean {
  if (!Array.isArray(value) || value.length > PHASES_MAX) return false;
  return value.every(
    (phase: Readonly<Record<string, unknown>> | null) =>
      typeof phase === "object" &&
      phase !== null &&
      ["link", "reverseLink"].every((name) => typeof phase[name] === "string") &&
      PHASE_NUMBERS.every((name) => Number.isFinite(phase[name])) &&
      Number(phase.boundNs) > 0,
  );
}

/** What is wrong with a value as a row; undefined: nothing. */
function complaint(row: Readonly<Record<string, unknown>>): string | undefined {
  const wrong = (name: string) => `${name} is ${shown(row[name])}`;
  for (const name of TEXTS) {
    const value = row[name];
    if (typeof value !== "string" || value.length > TEXT_MAX) return wrong(name);
  }
  const numbers = hasTimes(row) ? [...NUMBERS, ...TIMES] : NUMBERS;
  for (const name of numbers) {
    const value = row[name];
    if (typeof value !== "number" || !(value >= 0 && value < Number.POSITIVE_INFINITY)) {
      return wrong(name);
    }
  }
  for (const name of POSITIVE) if (row[name] === 0) return wrong(name);
  if (!TRANSPORTS.includes(row.transport as string)) return wrong("transport");
  if (!(METHODS as readonly unknown[]).includes(row.method)) return wrong("method");
  if (typeof row.exact !== "boolean") return wrong("exact");
  if (hasTimes(row)) {
    if (!isQuantiles(row.quantilesNs)) return wrong("quantilesNs");
    if (!Number.isFinite(row.wireOverhead)) return wrong("wireOverhead");
  }
  if (row.phases !== undefined && !isPhases(row.phases)) return wrong("phases");
  if (row.collective === undefined) return undefined;
  if (!COLLECTIVES.includes(row.collective as string)) return wrong("collective");
  return Number.isSafeInteger(row.datacenters) ? undefined : wrong("datacenters");
}

/** False of a row none of whose trials were delivered: there is nothing to draw. */
export function hasTimes(row: { readonly trials?: unknown; readonly failed?: unknown }): boolean {
  return !(Number(row.trials) > 0 && Number(row.failed) >= Number(row.trials));
}

interface Place {
  readonly name: string;
  readonly line: number;
}

function toRow(value: unknown, version: string, { name, line }: Place): ResultRow {
  const at = `${name}, line ${line}`;
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  check(isObject, `${at} is no row of results: ${shown(value)}`, "give a results.jsonl");
  const row = value as Readonly<Record<string, unknown>>;
  const theirs = row.version;
  if (typeof theirs === "string" && generation(theirs) !== generation(version)) {
    throw new SdrError(
      "UNSUPPORTED",
      `${at} was written by version ${shown(theirs)}, this is ${version}`,
      "make the report with that version, or run the experiment again into another folder",
    );
  }
  const what = complaint(row);
  check(what === undefined, `${at} is no row of results: ${what}`, "give a results.jsonl");
  return row as unknown as ResultRow;
}

/**
 * The rows of one file's `text`; `name` is the file's, for errors; `version` is the program's own.
 * Errors: INVALID_ARGUMENT (no JSON, no rows, a row without what rows have), UNSUPPORTED (another version's rows).
 */
export function parseRows(text: string, name: string, version: string): ParsedRows {
  const rows: ResultRow[] = [];
  const notices: string[] = [];
  const lines = text.split("\n");
  // After the last line break there is nothing, or a line whose writer did not finish it.
  const whole = lines.length - 1;
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "") continue;
    const place = { name, line: index + 1 };
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      const cutOff = index === whole && rows.length > 0;
      const at = `${name}, line ${index + 1}`;
      check(cutOff, `${at} is not JSON: ${shown(line)}`, "give a results.jsonl");
      notices.push(`${at} is cut off: the ${rows.length} rows before it are used.`);
      continue;
    }
    rows.push(toRow(value, version, place));
    check(rows.length <= REPORT_ROWS_MAX, `${name} has too many rows`, "report on fewer at a time");
  }
  check(rows.length > 0, `${name} has no rows of results`, "run the experiment first");
  return { rows, notices };
}

/** Rows of several files as one set: a row that comes twice (same experiment, same key) counts once. */
export function mergeRows(parts: readonly ParsedRows[]): ParsedRows {
  const rows = new Map<string, ResultRow>();
  let repeated = 0;
  for (const row of parts.flatMap((part) => part.rows)) {
    const identity = JSON.stringify([row.experiment, row.key]);
    if (rows.has(identity)) repeated++;
    else rows.set(identity, row);
  }
  const notices = parts.flatMap((part) => part.notices);
  if (repeated > 0)
    notices.push(`${repeated} rows came more than once: the first of each is used.`);
  const total = rows.size;
  check(total <= REPORT_ROWS_MAX, `${total} rows are too many`, "report on fewer at a time");
  return { rows: [...rows.values()], notices };
}
