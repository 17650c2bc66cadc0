/**
 * The keys of an experiment and what their values may be: one or a list each, of which the sweep is the product. They
 * are named as the options of `sdr emulate` are.
 */
import { check } from "../../base/errors.ts";
import { parseProbability, parseRate, parseTime } from "../../base/units.ts";
import { type LinkProfile, parseLink } from "../../link/profile.ts";
import { COLLECTIVES, DATACENTERS_MAX } from "../../model/collectives.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import { parseSizeWithin, parseWhole } from "../options.ts";
import { type Entry, type Place, refuseAt, type Value, withPlace } from "./yaml.ts";

export const EXPERIMENT_LIMITS = {
  /** What a report takes. */
  cells: 50_000,
  listItems: 1000,
  trials: 1_000_000,
  /** Messages of one cell: trials x messages. */
  cellMessages: 1_000_000,
  /** Messages of one connection. */
  connectionMessages: 100_000,
  phases: 100,
  messageBytes: 2 ** 44,
  /** A row carries its links. */
  linkText: 1000,
  burstPackets: 1e6,
} as const;

export const TRANSPORTS = ["model", "sampled", "emulated", "udp"] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** A value with the place where it was written. */
export interface Placed<T> {
  readonly value: T;
  readonly at: Place;
}

function oneOf<T extends string>(names: readonly T[]) {
  return (text: string): T => {
    check(
      (names as readonly string[]).includes(text),
      `"${text}" is not known`,
      `give ${names.join(", ")}`,
    );
    return text as T;
  };
}

function whole(name: string, least: number, most: number) {
  return (text: string): number => parseWhole(name, text, least, most);
}

function readLink(text: string): LinkProfile {
  const most = EXPERIMENT_LIMITS.linkText;
  check(text.length <= most, `the link has ${text.length} characters`, `give at most ${most}`);
  return parseLink(text);
}

function readRate(text: string): number {
  const bps = parseRate(text);
  check(bps > 0, "rate 0 is no limit, which takes no time", "give a rate above 0");
  return bps;
}

/** A share of lost packets or chunks. */
function readLoss(text: string): number {
  const share = parseProbability(text, "loss");
  check(share < 1, `loss ${text} delivers nothing`, "give less than 1");
  return share;
}

function readBurst(text: string): number {
  const packets = /^\d+(\.\d+)?(e\d+)?$/i.test(text) ? Number(text) : Number.NaN;
  const most = EXPERIMENT_LIMITS.burstPackets;
  check(
    packets >= 1 && packets <= most,
    `burst "${text}" is not valid`,
    `give 1 to ${most} packets`,
  );
  return packets;
}

/** A policy's canonical text, or that of what only the model knows (the lossless ideal, the bound). */
function readPolicy(text: string): string {
  const cut = text.includes("(") && !text.includes(")");
  check(!cut, `policy "${text}" is cut at its comma`, `within [ ] write "ec-mds(32,8)" in quotes`);
  if (/^(ideal|bound)$/.test(text)) return text;
  return parsePolicy(text).name;
}

const LIMITS = EXPERIMENT_LIMITS;

/** What a link is made of besides its text; also of each phase. */
export const LINK_KEYS = {
  link: readLink,
  "reverse-link": readLink,
  rate: readRate,
  delay: (text: string) => parseTime(text, "delay"),
  loss: readLoss,
  "chunk-loss": readLoss,
  burst: readBurst,
} as const;

/** In the order of the sweep: what comes last changes fastest. */
export const AXES = {
  seed: whole("seed", 0, 2 ** 53 - 1),
  packet: (text: string) => parseSizeWithin("packet", text, 64, 2 ** 30),
  chunk: (text: string) => parseSizeWithin("chunk", text, 64, 2 ** 30),
  collective: oneOf(COLLECTIVES),
  datacenters: whole("datacenters", 2, DATACENTERS_MAX),
  ...LINK_KEYS,
  size: (text: string) => parseSizeWithin("size", text, 1, LIMITS.messageBytes),
  trials: whole("trials", 1, LIMITS.trials),
  warmup: whole("warmup", 0, LIMITS.connectionMessages),
  messages: whole("messages", 1, LIMITS.connectionMessages),
  policy: readPolicy,
  transport: oneOf(TRANSPORTS),
} as const;

export type AxisName = keyof typeof AXES;
/** One value of every axis that was given. */
export type Choice = { readonly [K in AxisName]?: Placed<ReturnType<(typeof AXES)[K]>> };
type LinkName = keyof typeof LINK_KEYS;
export type LinkChoice = Pick<Choice, LinkName>;

export interface PhaseChoice extends LinkChoice {
  readonly messages: Placed<number>;
}

/** Those that contradict each other. */
const CONTRADICTIONS: readonly (readonly [string, string, string])[] = [
  ["loss", "chunk-loss", "give one of the two"],
  ["phases", "messages", "give each phase its messages"],
  ["phases", "collective", "give one of the two"],
];

/** How many letters apart two words are (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const change = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

const NEAR = 2;

export function refuseUnknown({ key, at }: Entry, known: readonly string[]): never {
  const near = known.find((word) => distance(key, word) <= NEAR);
  const remedy = near === undefined ? `the keys are ${known.join(", ")}` : `did you mean ${near}?`;
  refuseAt(at, `key ${JSON.stringify(key.slice(0, 60))} is not known`, remedy);
}

export function checkContradictions(entries: readonly Entry[]): void {
  for (const [one, other, remedy] of CONTRADICTIONS) {
    const first = entries.find(({ key }) => key === one);
    const second = entries.find(({ key }) => key === other);
    if (first === undefined || second === undefined) continue;
    const later = first.at.line > second.at.line ? first : second;
    refuseAt(later.at, `${one} and ${other} contradict each other`, remedy);
  }
}

function readText<T>(key: string, value: Value, read: (text: string) => T): Placed<T> {
  const { at } = value;
  if (value.kind === "map") refuseAt(at, `${key} takes plain values`, "give one or a list");
  if (value.kind === "list") refuseAt(at, `${key}: a list within a list`, "give one list");
  if (value.text === "") refuseAt(at, `${key} has no value`, `give one, or leave ${key} out`);
  return { value: withPlace(at, key, () => read(value.text)), at };
}

/** The values of one axis; twice the same is refused. */
export function readAxis<T>({ key, at, value }: Entry, read: (text: string) => T): Placed<T>[] {
  const most = EXPERIMENT_LIMITS.listItems;
  const items = value.kind === "list" ? value.items : [value];
  if (items.length === 0) refuseAt(at, `${key} has no values`, `give some, or leave ${key} out`);
  if (items.length > most)
    refuseAt(at, `${key} has ${items.length} values`, `give at most ${most}`);
  const seen = new Map<string, Place>();
  return items.map((item) => {
    const placed = readText(key, item, read);
    const same = JSON.stringify(placed.value);
    const before = seen.get(same);
    if (before !== undefined) {
      const where = `line ${before.line}, column ${before.column}`;
      refuseAt(placed.at, `${key}: this value is given twice, first in ${where}`, "give it once");
    }
    seen.set(same, placed.at);
    return placed;
  });
}

/** One phase's keys, each with one value. */
function readPhase(value: Value): PhaseChoice {
  const { at } = value;
  const example = "write - { messages: 200, loss: 1e-3 }";
  if (value.kind !== "map") refuseAt(at, "a phase is no map", example);
  checkContradictions(value.entries);
  const known: Readonly<Record<string, (text: string) => unknown>> = {
    messages: AXES.messages,
    ...LINK_KEYS,
  };
  const phase: Record<string, Placed<unknown>> = {};
  for (const entry of value.entries) {
    const read = Object.hasOwn(known, entry.key) ? known[entry.key] : undefined;
    if (read === undefined) refuseUnknown(entry, Object.keys(known));
    phase[entry.key] = readText(entry.key, entry.value, read);
  }
  if (phase.messages === undefined)
    refuseAt(at, "the phase does not say how many messages", example);
  return phase as unknown as PhaseChoice;
}

export function readPhases({ at, value }: Entry): PhaseChoice[] {
  const most = EXPERIMENT_LIMITS.phases;
  if (value.kind !== "list")
    refuseAt(at, "phases is no list", "write - { messages: 200, loss: 1e-3 }");
  const count = value.items.length;
  if (count < 1 || count > most) refuseAt(at, `phases has ${count} items`, `give 1 to ${most}`);
  return value.items.map(readPhase);
}

/** A plain word for a name or a sentence. */
export function readWord({ key, value }: Entry, pattern: RegExp, what: string): string {
  return readText(key, value, (text) => {
    check(pattern.test(text), `"${text.slice(0, 60)}" is not valid`, `give ${what}`);
    return text;
  }).value;
}
