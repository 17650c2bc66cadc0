/** The built-in policies by name, and policies from text. */
import { parseCall } from "../base/call-text.ts";
import { auto } from "./auto.ts";
import { erasureCodingMds, erasureCodingXor } from "./erasure-coding.ts";
import { goBackN } from "./go-back-n.ts";
import { hybrid } from "./hybrid.ts";
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
  {
    name: "hybrid",
    summary: "Repair inside the stream, parity for the last round trip, sized by the loss",
    options: ["target"],
    create: (options) => hybrid(options),
  },
  {
    name: "auto",
    summary: "Chooses between all of these, message by message, by what the path has shown",
    options: ["objective", "overhead"],
    create: (options) => auto(options),
  },
];

/**
 * A policy from text: a name, or a name with options in parentheses, by position or by name:
 * "sr-rto", "sr-rto(1)", "sr-nack(alpha=2, reorder=0.05)", "ec-mds(32,8)".
 * Errors: INVALID_ARGUMENT that names the value and lists what is known.
 */
export function parsePolicy(text: string): Policy {
  const { entry, options } = parseCall(text, POLICIES, { one: "policy", many: "policies" });
  return entry.create(options);
}
