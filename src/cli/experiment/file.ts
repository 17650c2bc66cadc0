/** An experiment from its YAML file: every cell of the sweep, checked, in its canonical order. Does no I/O. */
import { createHash } from "node:crypto";
import { basename } from "node:path";
import { check, SdrError } from "../../base/errors.ts";
import { parseLink } from "../../link/profile.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import { checkSetting as checkEmulated, phasesOf } from "../emulate/trial.ts";
import {
  AXES,
  type AxisName,
  type Choice,
  checkContradictions,
  EXPERIMENT_LIMITS,
  type PhaseChoice,
  type Placed,
  readAxis,
  readPhases,
  readWord,
  refuseUnknown,
  type TransportName,
} from "./axes.ts";
import { CELL_CHECKS, type Cell, cellKey, isPredicted } from "./cell.ts";
import { type Links, linksOf } from "./link.ts";
import { type Entry, type Place, readYaml, refuseAt, withPlace } from "./yaml.ts";

export interface Experiment {
  readonly name: string;
  readonly about: string;
  readonly cells: readonly Cell[];
  /** Equal for experiments whose cells are equal: comments and the order of keys say nothing. */
  readonly digest: string;
}

const OTHER_KEYS = ["name", "about", "phases"];
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/;
const NAME_FORM = "up to 80 letters, digits, dots, dashes and underscores";
const ABOUT = /^[^\p{Cc}]{1,500}$/u;
const AXIS_NAMES = Object.keys(AXES) as AxisName[];

type Values = Partial<Record<AxisName, readonly Placed<unknown>[]>>;

interface Read {
  readonly values: Values;
  readonly phases: readonly PhaseChoice[] | undefined;
  readonly name: string;
  readonly about: string;
}

function readEntries(entries: readonly Entry[], fileName: string): Read {
  const known = [...OTHER_KEYS, ...AXIS_NAMES];
  const values: Values = {};
  let phases: readonly PhaseChoice[] | undefined;
  let name = fileName;
  let about = "";
  for (const entry of entries) {
    const { key } = entry;
    if (key === "name") name = readWord(entry, NAME, NAME_FORM);
    else if (key === "about") about = readWord(entry, ABOUT, "one sentence");
    else if (key === "phases") phases = readPhases(entry);
    else if (Object.hasOwn(AXES, key))
      values[key as AxisName] = readAxis<unknown>(entry, AXES[key as AxisName]);
    else refuseUnknown(entry, known);
  }
  checkContradictions(entries);
  check(NAME.test(name), `"${name}" is no name for an experiment`, `add name: with ${NAME_FORM}`);
  return { values, phases, name, about };
}

/** Every combination of the axes' values, the last axis changing fastest. */
function* choicesOf(values: Values): Generator<Choice> {
  const given = AXIS_NAMES.filter((axis) => values[axis] !== undefined);
  const lists = given.map((axis) => values[axis] ?? []);
  const at = given.map(() => 0);
  for (;;) {
    yield Object.fromEntries(given.map((axis, i) => [axis, lists[i]?.[at[i] ?? 0]])) as Choice;
    let axis = given.length - 1;
    for (; axis >= 0; axis--) {
      at[axis] = (at[axis] ?? 0) + 1;
      if ((at[axis] ?? 0) < (lists[axis]?.length ?? 0)) break;
      at[axis] = 0;
    }
    if (axis < 0) return;
  }
}

const PACKET_BYTES = 4096;
const CHUNK_BYTES = 65_536;
const TRIALS = 1000;

function cellOf(choice: Choice, phases: readonly PhaseChoice[] | undefined): Cell {
  const value = <K extends AxisName>(axis: K) => choice[axis]?.value;
  const shape = {
    packetBytes: (value("packet") as number | undefined) ?? PACKET_BYTES,
    chunkBytes: (value("chunk") as number | undefined) ?? CHUNK_BYTES,
  };
  const none = parseLink("none");
  const links: Links = linksOf({ forward: none, reverse: none }, choice, shape);
  const transport = (value("transport") ?? "emulated") as TransportName;
  const collective = value("collective");
  const cell: Cell = {
    transport,
    policy: value("policy") as string,
    bytes: value("size") as number,
    ...shape,
    ...links,
    trials: value("trials") ?? TRIALS,
    seed: value("seed") ?? 1,
    warmup: value("warmup") ?? 0,
    messages: value("messages") ?? 1,
    ...(collective === undefined
      ? {}
      : { collective: { kind: collective, datacenters: value("datacenters") ?? 2 } }),
    ...(phases === undefined
      ? {}
      : {
          phases: phases.map((phase) => ({
            messages: phase.messages.value,
            ...linksOf(links, phase, shape),
          })),
        }),
  };
  return isPredicted(cell) ? predicted(cell) : cell;
}

/** What the model does not know is left out, so that cells that differ in that alone are one: it learns nothing. */
function predicted(cell: Cell): Cell {
  const { phases, warmup: _, ...rest } = cell;
  const alone = { ...rest, ...(phases ? { phases } : {}), warmup: 0, messages: 1 };
  if (cell.transport === "model") return { ...alone, trials: 0, seed: 0 };
  return { ...alone, trials: cell.trials * cell.messages };
}

/** Where a choice's value was written; else the file's beginning. */
function placeOf(choice: Choice, axis: AxisName, path: string): Place {
  return choice[axis]?.at ?? { path, line: 1, column: 1 };
}

/** Asks the SDK whether it would make such queue pairs, once for all cells that are alike in this. */
class EmulatedChecks {
  private readonly done = new Set<string>();

  check(cell: Cell): void {
    const { policy, bytes, packetBytes, chunkBytes } = cell;
    const isAlone = cell.warmup + cell.messages === 1 && cell.phases === undefined;
    const same = JSON.stringify([policy, bytes, packetBytes, chunkBytes, isAlone]);
    if (this.done.has(same)) return;
    this.done.add(same);
    checkEmulated(cell, [parsePolicy(policy)]);
  }
}

function checkCounts(cell: Cell): void {
  if (cell.transport === "model") return;
  const counted = phasesOf(cell).reduce((sum, { messages }) => sum + messages, 0);
  const most = EXPERIMENT_LIMITS.connectionMessages;
  const sent = cell.warmup + counted;
  check(sent <= most, `${sent} messages a connection`, `give at most ${most}`);
  const all = cell.trials * counted;
  const limit = EXPERIMENT_LIMITS.cellMessages;
  check(all <= limit, `${all} messages a cell`, `give at most ${limit}: trials x messages`);
}

/** Required, and what goes with what. */
function checkValues({ values }: Read, path: string): void {
  for (const axis of ["size", "policy"] as const) {
    if (values[axis] !== undefined) continue;
    throw new SdrError("INVALID_ARGUMENT", `${path} has no ${axis}`, `add a line "${axis}: …"`);
  }
  const { datacenters, collective } = values;
  const [many, kind] = [datacenters?.[0], collective?.[0]];
  if (many !== undefined && kind === undefined) {
    refuseAt(many.at, "datacenters without collective", 'add "collective: ring"');
  }
  if (kind !== undefined && many === undefined) {
    refuseAt(kind.at, "collective without datacenters", 'add "datacenters: 4"');
  }
  const cells = AXIS_NAMES.reduce((product, axis) => product * (values[axis]?.length ?? 1), 1);
  const most = EXPERIMENT_LIMITS.cells;
  if (cells > most) {
    const what = `${path} has ${cells} cells`;
    throw new SdrError("TOO_LARGE", what, `sweep at most ${most}: write several experiments`);
  }
}

/** What an experiment is called that does not say so. */
function nameOf(path: string): string {
  return basename(path).replace(/\.ya?ml$/i, "");
}

/**
 * The experiment in `text`; `path` names it in complaints, and if `name` is not given and it does not say otherwise,
 * itself. Errors: INVALID_ARGUMENT and TOO_LARGE, with line and column
 * where a value is at fault.
 */
export function parseExperiment(text: string, path: string, name = nameOf(path)): Experiment {
  const read = readEntries(readYaml(text, path), name);
  checkValues(read, path);
  const cells = new Map<string, Cell>();
  const emulated = new EmulatedChecks();
  for (const choice of choicesOf(read.values)) {
    const cell = cellOf(choice, read.phases);
    const key = cellKey(cell);
    if (cells.has(key)) {
      if (isPredicted(cell)) continue;
      const where = placeOf(choice, "link", path);
      refuseAt(where, `two cells are the same: ${key}`, "leave out what changes nothing");
    }
    const run = (axis: AxisName, check: (cell: Cell) => void) =>
      withPlace(placeOf(choice, axis, path), axis, () => check(cell));
    for (const [axis, check] of Object.entries(CELL_CHECKS)) run(axis as AxisName, check);
    run("trials", checkCounts);
    if (cell.transport === "emulated") run("chunk", (one) => emulated.check(one));
    cells.set(key, cell);
  }
  const digest = createHash("sha256").update(JSON.stringify([...cells]));
  const { name: called, about } = read;
  return { name: called, about, cells: [...cells.values()], digest: digest.digest("hex") };
}
