/** The built-in policies by name, and policies from text. */
import { check, SdrError } from "../base/errors.ts";
import { erasureCodingMds, erasureCodingXor } from "./erasure-coding.ts";
import { goBackN } from "./go-back-n.ts";
import type { Policy } from "./policy.ts";
import { selectiveRepeatNack, selectiveRepeatRto } from "./selective-repeat.ts";

export interface PolicyEntry {
  readonly name: string;
  /** One line for a help text. */
  readonly summary: string;
  /** Names of the numeric options, in the order in which they may be given without their names. */
  readonly options: readonly string[];
  create(options: Readonly<Record<string, number>>): Policy;
}

export const POLICIES: readonly PolicyEntry[] = [
  {
    name: "gbn",
    summary: "Go-Back-N, the commodity NIC's scheme: the baseline",
    options: [],
    create: () => goBackN(),
  },
  {
    name: "sr-rto",
    summary: "Selective Repeat by timeout, RTO = RTT (1 + alpha), default 3 RTT",
    options: ["alpha"],
    create: (options) => selectiveRepeatRto(options),
  },
  {
    name: "sr-nack",
    summary: "Selective Repeat by bitmap gaps, with the timeout as the safety net",
    options: ["alpha", "reorder"],
    create: (options) => selectiveRepeatNack(options),
  },
  {
    name: "ec-mds",
    summary: "Reed-Solomon erasure coding, k data and m parity chunks: default (32,8)",
    options: ["k", "m", "beta"],
    create: (options) => erasureCodingMds(options),
  },
  {
    name: "ec-xor",
    summary: "Erasure coding by modulo groups, one loss in each of m: default (32,8)",
    options: ["k", "m", "beta"],
    create: (options) => erasureCodingXor(options),
  },
];

const POLICY_TEXT_MAX = 200;

/**
 * A policy from text: a name, or a name with options in parentheses, by position or by name:
 * "sr-rto", "sr-rto(1)", "sr-nack(alpha=2, reorder=0.05)", "ec-mds(32,8)".
 * Errors: INVALID_ARGUMENT that names the value and lists what is known.
 */
export function parsePolicy(text: string): Policy {
  const known = POLICIES.map((entry) => entry.name).join(", ");
  const shape = /^\s*([a-z0-9-]+)\s*(?:\(([^()]*)\))?\s*$/i.exec(text.slice(0, POLICY_TEXT_MAX));
  const entry = POLICIES.find((candidate) => candidate.name === shape?.[1]?.toLowerCase());
  if (entry === undefined || text.length > POLICY_TEXT_MAX) {
    const shown = JSON.stringify(text.slice(0, POLICY_TEXT_MAX));
    throw new SdrError("INVALID_ARGUMENT", `unknown policy ${shown}`, `known policies: ${known}`);
  }
  return entry.create(parseOptions(entry, shape?.[2] ?? ""));
}

function parseOptions(entry: PolicyEntry, text: string): Record<string, number> {
  const options: Record<string, number> = {};
  if (text.trim() === "") return options;
  const takes =
    entry.options.length === 0 ? "takes no options" : `takes ${entry.options.join(", ")}`;
  for (const [position, part] of text.split(",").entries()) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? entry.options[position] : part.slice(0, equals).trim();
    const digits = part.slice(equals + 1).trim();
    check(
      key !== undefined && entry.options.includes(key) && !Object.hasOwn(options, key),
      `option ${JSON.stringify(part.trim())} of policy ${entry.name} is unknown or given twice`,
      `${entry.name} ${takes}`,
    );
    check(
      /^[0-9]*\.?[0-9]+(e-?[0-9]+)?$/i.test(digits),
      `option ${key} of policy ${entry.name} is not a number: ${JSON.stringify(digits)}`,
      `${entry.name} ${takes}`,
    );
    options[key] = Number(digits);
  }
  return options;
}
