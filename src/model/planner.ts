/**
 * The model asked the other way round: for a path, a message and an objective, the scheme and its parameters. A fixed,
 * small number of candidates is predicted, so that the answer is there before the message is.
 */
import { check } from "../base/errors.ts";
import { boundNs, idealNs } from "./bounds.ts";
import { type Estimate, EstimateBasis, estimate } from "./estimate.ts";
import { estimateHybrid } from "./hybrid.ts";
import {
  BLOCK_CHUNKS_MAX,
  blockFailure,
  hybridShape,
  leastWhole,
  type PathView,
} from "./parity.ts";
import { SCHEME_DEFAULTS } from "./scheme.ts";
import { checkSetting } from "./timing.ts";
import type { HybridShape, Scheme, Setting } from "./types.ts";

/** What is to be small: the mean completion time, or the time within which this share of messages completes. */
export type Objective = "mean" | number;

export const PLAN_SCHEMES = ["sr-rto", "sr-nack", "ec-mds", "ec-xor", "hybrid"] as const;
export type PlanScheme = (typeof PLAN_SCHEMES)[number];

export interface Question {
  readonly setting: Setting;
  readonly objective: Objective;
  /** Most expected chunks sent over the message's own, less 1. Default: any. */
  readonly overheadMax?: number;
  /** Default: all. */
  readonly schemes?: readonly PlanScheme[];
  /** What is said of each candidate. Default: estimate(), which is quick; predict() is slower and nearer. */
  readonly judge?: (scheme: Scheme, setting: Setting) => Estimate;
}

export interface PlanEntry {
  readonly scheme: Scheme;
  /** What the question's judge says of it. */
  readonly estimate: Estimate;
  /** The objective's value. */
  readonly valueNs: number;
  /** The same over the bound, less 1; 0 where the bound is none. */
  readonly overBound: number;
  readonly isWithinOverhead: boolean;
}

export interface Plan {
  /** The scheme to take; when none is within the overhead, the one that is nearest to it. */
  readonly best: PlanEntry;
  readonly isWithinOverhead: boolean;
  /** The best parameters of the other schemes, best first; those beyond the overhead last. */
  readonly runnersUp: readonly PlanEntry[];
  /** M T_inj / (1 - P) + RTT. */
  readonly boundNs: number;
  readonly idealNs: number;
  /** Of this view chunk loss was taken. */
  readonly view: PathView;
}

/** Times this close are the same: then the lesser overhead decides. */
export const SAME_TIME = 1e-3;
/** The same of overheads, where all are too much. */
const SAME_OVERHEAD = 1e-3;
/**
 * A quantile is kept with so much room: of the share of messages that it leaves out, parity may fail to save this part.
 * The rest is for lost control frames, which nothing makes up for, and for being wrong about the loss. It is cheap: a
 * row or two more in a block.
 */
const TARGET_SHARE = 1 / 20;
/** Without a quantile to keep, the expected time alone decides. */
const NO_TARGET = 1;
/** Data chunks a block of the erasure codes that are looked at, besides the policies' default. */
const CODE_WIDTHS = [32, 128, 240] as const;
/** Part of a block that parity may be at most: more is never worth it below a loss that nothing survives. */
const CODE_PARITY_PART = 1 / 2;
/** Timeouts that are looked at: (1 + alpha) RTT. ACKs may be late by a quarter of an RTT. */
const ALPHAS = [SCHEME_DEFAULTS.alpha, 1, 0.5] as const;

/** Share of messages that may wait for a repair so that the objective's quantile does not. */
export function targetOf(objective: Objective): number {
  return objective === "mean" ? NO_TARGET : (1 - objective) * TARGET_SHARE;
}

/** What the objective looks at. */
function objectiveNs(estimate: Estimate, objective: Objective): number {
  return objective === "mean" ? estimate.meanNs : estimate.quantileNs(objective);
}

function isBetter(a: PlanEntry, b: PlanEntry): boolean {
  if (a.isWithinOverhead !== b.isWithinOverhead) return a.isWithinOverhead;
  const more = a.estimate.wireOverhead - b.estimate.wireOverhead;
  if (!a.isWithinOverhead && Math.abs(more) > SAME_OVERHEAD) return more < 0;
  const longer = Math.max(a.valueNs, b.valueNs);
  if (Math.abs(a.valueNs - b.valueNs) > SAME_TIME * longer) return a.valueNs < b.valueNs;
  return more < 0;
}

function bestOf(entries: readonly PlanEntry[]): PlanEntry {
  return entries.reduce((best, entry) => (isBetter(entry, best) ? entry : best));
}

/**
 * The hybrid scheme's shape for a message over a path of which a sender knows this much: what the objective asks for,
 * by the upper bound of the loss, and within the overhead as much of it as that allows.
 */
export function planShape(
  chunks: number,
  view: PathView,
  objective: Objective,
  overheadMax = Infinity,
): HybridShape {
  const shape = hybridShape(chunks, view, targetOf(objective));
  if (overheadMax === Infinity) return shape;
  const message = { chunks, injectionNs: chunks * view.chunkNs };
  const isWithin = (parity: number) =>
    estimateHybrid(message, view, { ...shape, parity }).wireOverhead <= overheadMax;
  // Overhead may fall at first, as parity saves repairs; it is the most of it that is wanted.
  const fewer = leastWhole(0, shape.parity, (less) => isWithin(shape.parity - less));
  return { ...shape, parity: shape.parity - fewer };
}

/** Least parity for which the code saves all blocks of all but a share `target` of messages; and the usual shape. */
function codesFor(chunks: number, view: PathView, target: number): Scheme[] {
  const { beta, k: usualK, m: usualM } = SCHEME_DEFAULTS;
  const shapes = new Map<string, Scheme>();
  const add = (kind: "ec-mds" | "ec-xor", k: number, m: number) =>
    shapes.set(`${kind} ${k} ${m}`, { kind, k, m, beta });
  add("ec-mds", usualK, usualM);
  add("ec-xor", usualK, usualM);
  for (const width of CODE_WIDTHS) {
    const k = Math.min(width, chunks);
    const most = Math.min(BLOCK_CHUNKS_MAX - k, Math.max(usualM, Math.ceil(k * CODE_PARITY_PART)));
    const each = target / Math.ceil(chunks / k);
    add(
      "ec-mds",
      k,
      leastWhole(1, most, (m) => blockFailure(k, m, view) <= each),
    );
  }
  return [...shapes.values()];
}

function candidates({ objective, overheadMax, schemes }: Question, basis: EstimateBasis) {
  const {
    shape: { chunks },
    view,
  } = basis;
  // Without a quantile codes too need a share of failures that is no longer felt.
  const target = objective === "mean" ? 1e-2 : targetOf(objective);
  const all: Scheme[] = [
    ...ALPHAS.map((alpha): Scheme => ({ kind: "sr-rto", alpha })),
    { kind: "sr-nack", alpha: SCHEME_DEFAULTS.alpha, reorder: SCHEME_DEFAULTS.reorder },
    ...codesFor(chunks, view, target),
  ];
  const hybrid = planShape(chunks, view, objective, overheadMax);
  all.push({ kind: "hybrid", shape: hybrid });
  if (hybrid.parity > 0) all.push({ kind: "hybrid", shape: { ...hybrid, parity: 0 } });
  const wanted: readonly string[] = schemes ?? PLAN_SCHEMES;
  return all.filter(({ kind }) => wanted.includes(kind));
}

/**
 * Empty messages are planned as one of a byte would be.
 * Errors: INVALID_ARGUMENT for an objective or overhead that cannot be, a setting that cannot be, and no scheme;
 * UNSUPPORTED for chunk loss as good as 1.
 */
export function plan(question: Question): Plan {
  const { objective, overheadMax = Infinity, judge } = question;
  const setting = { ...question.setting, bytes: Math.max(1, question.setting.bytes) };
  check(
    objective === "mean" || (objective > 0 && objective < 1),
    `objective ${objective} is out of range`,
    'give "mean", or a share of messages between 0 and 1',
  );
  check(overheadMax >= 0, `overhead ${overheadMax} is out of range`, "give 0 or more");
  checkSetting(setting);
  const leastNs = boundNs(setting);
  const basis = new EstimateBasis(setting);
  const entries = candidates(question, basis).map((scheme): PlanEntry => {
    const made = judge?.(scheme, setting) ?? estimate(scheme, basis);
    const valueNs = objectiveNs(made, objective);
    const isWithinOverhead = made.wireOverhead <= overheadMax;
    return {
      scheme,
      estimate: made,
      valueNs,
      overBound: leastNs > 0 ? valueNs / leastNs - 1 : 0,
      isWithinOverhead,
    };
  });
  check(entries.length > 0, "no scheme to choose from", `give some of ${PLAN_SCHEMES.join(", ")}`);
  const best = bestOf(entries);
  const kinds = [...new Set(entries.map(({ scheme }) => scheme.kind))];
  const runnersUp = kinds
    .filter((kind) => kind !== best.scheme.kind)
    .map((kind) => bestOf(entries.filter(({ scheme }) => scheme.kind === kind)))
    .sort((a, b) => (isBetter(a, b) ? -1 : 1));
  const { isWithinOverhead } = best;
  return {
    best,
    isWithinOverhead,
    runnersUp,
    boundNs: leastNs,
    idealNs: idealNs(setting),
    view: basis.view,
  };
}
