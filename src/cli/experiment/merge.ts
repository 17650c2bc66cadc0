/** Puts the folders of an experiment's shards together, to what one run of all would have left. */
import { SdrError } from "../../base/errors.ts";
import type { ResultRow } from "../../report/row.ts";
import { cellKey } from "./cell.ts";
import { parseExperiment } from "./file.ts";
import { type Line, ResultsFolder, readRun, type StoredRun } from "./folder.ts";

interface Part extends StoredRun {
  readonly folder: string;
}

function checkAlike(first: Part, other: Part): void {
  const refuse = (what: string): never => {
    const folders = `${first.folder} and ${other.folder}`;
    throw new SdrError("INVALID_ARGUMENT", `${folders} ${what}`, "merge folders of one experiment");
  };
  const [a, b] = [first.identity, other.identity];
  if (a.experiment !== b.experiment) refuse(`are of ${a.experiment} and ${b.experiment}`);
  if (a.version !== b.version) refuse(`are of versions ${a.version} and ${b.version}`);
  if (a.digest !== b.digest) refuse(`are of different files named ${a.experiment}`);
}

/** Every row once; the same cell with other figures is refused. */
function collectLines(parts: readonly Part[]): Map<string, Line> {
  const lines = new Map<string, Line>();
  const origin = new Map<string, string>();
  for (const { folder, lines: own } of parts) {
    for (const line of own) {
      const before = lines.get(line.key);
      if (before !== undefined && before.text !== line.text) {
        const what = `${origin.get(line.key)} and ${folder} differ in ${line.key}`;
        throw new SdrError("INVALID_ARGUMENT", what, "leave one of the two out");
      }
      lines.set(line.key, line);
      origin.set(line.key, folder);
    }
  }
  return lines;
}

/** Shards of which a row is missing, to say what is to be run. */
function missingText(parts: readonly Part[], missing: readonly string[], cells: number): string {
  const shards = parts.map(
    ({ folder, identity: { shard } }) => `${folder} is ${shard.index}/${shard.count}`,
  );
  return `${missing.length} of ${cells} rows are missing, ${missing[0]} first; ${shards.join(", ")}`;
}

export interface Merged {
  readonly experiment: string;
  readonly rows: readonly ResultRow[];
}

/**
 * Merges `folders` into the new folder `out`; they stay as they are. Errors: INVALID_ARGUMENT (of different experiments
 * or versions, rows that differ, rows missing, `out` is no new folder), those of readRun.
 */
export function mergeRuns(folders: readonly string[], out: string, version: string): Merged {
  const parts = folders.map((folder): Part => ({ folder, ...readRun(folder) }));
  const first = parts[0] as Part;
  for (const other of parts) checkAlike(first, other);
  const { identity, experiment: text } = first;
  if (identity.version !== version) {
    const what = `${first.folder} is of version ${identity.version}, this is version ${version}`;
    throw new SdrError("UNSUPPORTED", what, "merge with that version");
  }
  const { cells, digest } = parseExperiment(
    text,
    `${first.folder}/experiment.yaml`,
    identity.experiment,
  );
  if (digest !== identity.digest) {
    const what = `${first.folder}/experiment.yaml is not what was run`;
    throw new SdrError("FILE", what, "put back the file that was");
  }
  const lines = collectLines(parts);
  const order = cells.map(cellKey);
  const known = new Set(order);
  const stranger = [...lines.keys()].find((key) => !known.has(key));
  if (stranger !== undefined) {
    throw new SdrError(
      "FILE",
      `a row is of no cell of the experiment: ${stranger}`,
      "leave it out",
    );
  }
  const missing = order.filter((key) => !lines.has(key));
  if (missing.length > 0) {
    const what = missingText(parts, missing, order.length);
    throw new SdrError("INVALID_ARGUMENT", what, "run what is missing and merge again");
  }
  const whole = { ...identity, shard: { index: 1, count: 1 } };
  using folder = new ResultsFolder(out, whole, text, known);
  const has = folder.keys;
  if (has.size > 0) {
    throw new SdrError(
      "INVALID_ARGUMENT",
      `${out} has rows already`,
      "give a new or an empty folder",
    );
  }
  for (const key of order) folder.append(lines.get(key) as Line);
  return { experiment: identity.experiment, rows: folder.finish(order) };
}
