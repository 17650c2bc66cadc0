/**
 * A folder of results: what was run (run.json, experiment.yaml), rows by line (results.jsonl), a table (results.csv).
 * Rows are appended whole, so that a run may be killed at any time and resumed; a line that was cut off is dropped by
 * writing the others anew beside it. Files of another experiment or version are never touched.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { check, SdrError } from "../../base/errors.ts";
import type { ResultRow } from "../../report/row.ts";
import { fileError } from "../failure.ts";
import { csvText } from "./csv.ts";
import { FolderLock, LOCK_NAME } from "./lock.ts";

export const FILES = {
  run: "run.json",
  experiment: "experiment.yaml",
  results: "results.jsonl",
  table: "results.csv",
} as const;

/** Of run.json and of what it goes with; another one is of a program that writes otherwise. */
const FORMAT = 1;
const RUN_BYTES_MAX = 64 << 10;
const RESULTS_BYTES_MAX = 256 << 20;
/** Rows are on the disk at the latest so long after they are written. */
const SYNC_MS = 1000;

export interface Shard {
  /** From 1. */
  readonly index: number;
  readonly count: number;
}

/** What a folder's rows belong to. */
export interface RunIdentity {
  readonly version: string;
  readonly experiment: string;
  /** Of all cells (Experiment.digest). */
  readonly digest: string;
  /** Of the whole experiment. */
  readonly cells: number;
  readonly shard: Shard;
}

/** A row as it stands in the file. */
export interface Line {
  readonly key: string;
  readonly text: string;
}

export interface StoredRun {
  readonly identity: RunIdentity;
  /** As it was given. */
  readonly experiment: string;
  readonly lines: readonly Line[];
  /** A last line that was cut off is not among them. */
  readonly isTorn: boolean;
}

function onDisk<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw fileError(path, error);
  }
}

function readText(path: string, bytesMax: number): string {
  return onDisk(path, () => {
    const { size } = statSync(path);
    if (size > bytesMax) throw new SdrError("TOO_LARGE", `${path} has ${size} B`, "is it ours?");
    return readFileSync(path, "utf8");
  });
}

/** Puts a file in place whole: whoever looks sees the old one or the new one. */
function replaceFile(folder: string, name: string, text: string): void {
  const path = join(folder, name);
  onDisk(path, () => {
    const part = `${path}.tmp`;
    const file = openSync(part, "w");
    try {
      writeWhole(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(part, path);
    syncFolder(folder);
  });
}

function writeWhole(file: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Without a complaint: the folder is new, or was given up before anything was written. */
function isFresh(folder: string): boolean {
  const names = readdirSync(folder);
  if (names.includes(FILES.run)) return false;
  const other = names.find(
    (name) => name !== LOCK_NAME && name !== FILES.experiment && !name.endsWith(".tmp"),
  );
  check(
    other === undefined,
    `${folder} is no folder of results: it has ${other} and no ${FILES.run}`,
    "give a new or an empty one",
  );
  return true;
}

function readIdentity(folder: string): RunIdentity {
  const path = join(folder, FILES.run);
  const text = readText(path, RUN_BYTES_MAX);
  const remedy = "give another folder; this one stays as it is";
  let run: Partial<RunIdentity> & { format?: unknown };
  try {
    run = Object(JSON.parse(text));
  } catch (cause) {
    throw new SdrError("FILE", `${path} is not JSON`, remedy, { cause });
  }
  const { format, version, experiment, digest, cells, shard } = run;
  const isKnown =
    format === FORMAT &&
    [version, experiment, digest].every((value) => typeof value === "string") &&
    [cells, shard?.index, shard?.count].every(Number.isSafeInteger);
  if (!isKnown) throw new SdrError("UNSUPPORTED", `${path} is not one of format ${FORMAT}`, remedy);
  return { version, experiment, digest, cells, shard } as RunIdentity;
}

function parseLine(text: string, identity: RunIdentity, place: string): Line {
  const remedy = "take that line out, or give another folder";
  let row: Partial<ResultRow>;
  try {
    row = Object(JSON.parse(text));
  } catch (cause) {
    throw new SdrError("FILE", `${place} is damaged`, remedy, { cause });
  }
  const { key, version, experiment } = row;
  const isOurs = version === identity.version && experiment === identity.experiment;
  if (typeof key !== "string" || !isOurs) {
    const what = `${place} is no row of ${identity.experiment}, version ${identity.version}`;
    throw new SdrError("FILE", what, remedy);
  }
  return { key, text };
}

/** What a folder holds; it is left as it is. Errors: NOT_FOUND, FILE, UNSUPPORTED. */
export function readRun(folder: string): StoredRun {
  const identity = readIdentity(folder);
  const experiment = readText(join(folder, FILES.experiment), RUN_BYTES_MAX);
  const path = join(folder, FILES.results);
  const names = onDisk(folder, () => readdirSync(folder));
  const text = names.includes(FILES.results) ? readText(path, RESULTS_BYTES_MAX) : "";
  const lines: Line[] = [];
  const seen = new Set<string>();
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  for (const [index, line] of whole.split("\n").slice(0, -1).entries()) {
    const place = `${path}:${index + 1}`;
    const parsed = parseLine(line, identity, place);
    if (seen.has(parsed.key)) {
      const what = `${place} is the second row of ${parsed.key}`;
      throw new SdrError("FILE", what, "take that line out, or give another folder");
    }
    seen.add(parsed.key);
    lines.push(parsed);
  }
  return { identity, experiment, lines, isTorn: whole.length < text.length };
}

function checkSame(folder: string, found: RunIdentity, wanted: RunIdentity): void {
  const remedy = "give another folder; this one stays as it is";
  const refuse = (what: string): never => {
    throw new SdrError("INVALID_ARGUMENT", `${folder} is of ${what}`, remedy);
  };
  if (found.version !== wanted.version) {
    refuse(`version ${found.version}, this is version ${wanted.version}`);
  }
  if (found.experiment !== wanted.experiment) {
    refuse(`experiment ${found.experiment}, not ${wanted.experiment}`);
  }
  if (found.digest !== wanted.digest) refuse(`another ${wanted.experiment}: the file has changed`);
  const [mine, its] = [wanted.shard, found.shard];
  if (its.index !== mine.index || its.count !== mine.count) {
    refuse(`shard ${its.index}/${its.count}, not ${mine.index}/${mine.count}`);
  }
}

/** One line of results.jsonl. */
export function lineOf(row: ResultRow): Line {
  return { key: row.key, text: JSON.stringify(row) };
}

/** A folder that is being written to, by nobody else. */
export class ResultsFolder implements Disposable {
  readonly path: string;
  private readonly lock: FolderLock;
  private readonly lines: Line[];
  private readonly file: number;
  private syncedMs = 0;

  /**
   * Makes the folder, or resumes: rows that it has are kept. `keys`: of all rows it may have. Errors: BUSY (another
   * run), INVALID_ARGUMENT (of another experiment, version or shard, or no folder of results), FILE (damaged).
   */
  constructor(path: string, identity: RunIdentity, experiment: string, keys: ReadonlySet<string>) {
    this.path = path;
    onDisk(path, () => {
      mkdirSync(path, { recursive: true });
      isFresh(path);
    });
    this.lock = new FolderLock(path);
    try {
      if (isFresh(path)) {
        replaceFile(path, FILES.experiment, experiment);
        replaceFile(
          path,
          FILES.run,
          `${JSON.stringify({ format: FORMAT, ...identity }, null, 2)}\n`,
        );
      }
      this.lines = this.resume(identity, keys);
      this.file = onDisk(path, () => openSync(join(path, FILES.results), "a"));
    } catch (error) {
      this.lock[Symbol.dispose]();
      throw error;
    }
  }

  private resume(identity: RunIdentity, keys: ReadonlySet<string>): Line[] {
    checkSame(this.path, readIdentity(this.path), identity);
    const { lines, isTorn } = readRun(this.path);
    const stranger = lines.find(({ key }) => !keys.has(key));
    if (stranger !== undefined) {
      const what = `${join(this.path, FILES.results)} has a row of another run: ${stranger.key}`;
      throw new SdrError("FILE", what, "give another folder; this one stays as it is");
    }
    if (isTorn) replaceFile(this.path, FILES.results, linesText(lines));
    return [...lines];
  }

  /** Keys of the rows that it has. */
  get keys(): ReadonlySet<string> {
    return new Set(this.lines.map(({ key }) => key));
  }

  /** In one write, on the disk within a second of others or at the end. Errors: NO_SPACE, FILE, BUSY. */
  append(line: Line): void {
    this.lock.check();
    onDisk(join(this.path, FILES.results), () => {
      writeWhole(this.file, `${line.text}\n`);
      this.lines.push(line);
      const nowMs = performance.now();
      if (nowMs < this.syncedMs + SYNC_MS) return;
      fsyncSync(this.file);
      this.syncedMs = nowMs;
    });
  }

  /** Rows in this order of keys, and the table of them. All rows are there. */
  finish(order: readonly string[]): readonly ResultRow[] {
    this.lock.check();
    const places = new Map(order.map((key, index) => [key, index]));
    const place = ({ key }: Line) => places.get(key) ?? 0;
    const sorted = [...this.lines].sort((a, b) => place(a) - place(b));
    const isSorted = this.lines.every((line, index) => line === sorted[index]);
    if (isSorted) onDisk(this.path, () => fsyncSync(this.file));
    else replaceFile(this.path, FILES.results, linesText(sorted));
    const rows = sorted.map(({ text }) => JSON.parse(text) as ResultRow);
    replaceFile(this.path, FILES.table, csvText(rows));
    return rows;
  }

  [Symbol.dispose](): void {
    try {
      fsyncSync(this.file);
      closeSync(this.file);
    } finally {
      this.lock[Symbol.dispose]();
    }
  }
}

function linesText(lines: readonly Line[]): string {
  return lines.map(({ text }) => `${text}\n`).join("");
}
