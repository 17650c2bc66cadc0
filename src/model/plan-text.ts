/** A plan in words: why the best scheme is the best, in one sentence that names the figures. */
import { formatProbability, formatTime } from "../base/units.ts";
import { type Objective, type Plan, type PlanEntry, SAME_TIME } from "./planner.ts";
import { formatScheme } from "./scheme.ts";
import type { Setting } from "./types.ts";

export function objectiveText(objective: Objective): string {
  return objective === "mean" ? "mean" : `p${Number((objective * 100).toPrecision(6))}`;
}

/** A share in per cent, to two digits that count. */
function percentText(share: number): string {
  return `${Number((share * 100).toPrecision(2))} %`;
}

/** Share of messages that lose a chunk. */
function touched({ view }: Plan, { bytes, chunkBytes }: Setting): number {
  const runs =
    Math.ceil(bytes / chunkBytes) / Math.max(1, view.burstChunks * (1 - view.probability));
  return -Math.expm1(runs * Math.log1p(-view.probability));
}

function parityText(count: number): string {
  return count === 1 ? "1 parity chunk" : `${count} parity chunks`;
}

/** What makes the best scheme fast. */
function strength(plan: Plan, setting: Setting): string {
  const { scheme, estimate } = plan.best;
  const { probability } = plan.view;
  const saved = (parity: number, failing: number) =>
    `${parity === 1 ? "leaves" : "leave"} ${formatProbability(failing)} of messages to a repair`;
  if (scheme.kind === "hybrid" && scheme.shape.parity > 0) {
    const { k, parity } = scheme.shape;
    return (
      `at a chunk loss of ${formatProbability(probability)}, ${parityText(parity)} for every ${k} of the last ` +
      `round trip's worth ${saved(parity, estimate.fallbackProbability)}`
    );
  }
  if (scheme.kind === "ec-mds" || scheme.kind === "ec-xor") {
    const { k, m } = scheme;
    return (
      `at a chunk loss of ${formatProbability(probability)}, ${parityText(m)} for every ${k} ` +
      saved(m, estimate.fallbackProbability)
    );
  }
  const lost = formatProbability(touched(plan, setting));
  return `it sends again only what is lost, and ${lost} of messages lose a chunk`;
}

/** How the next one falls behind. */
function weakness(plan: Plan, next: PlanEntry, setting: Setting, objective: Objective): string {
  const { best } = plan;
  const name = formatScheme(next.scheme);
  const { wireOverhead } = next.estimate;
  if (!next.isWithinOverhead) return `${name} would send ${percentText(wireOverhead)} more`;
  const longer = next.valueNs / best.valueNs - 1;
  if (Math.abs(longer) <= SAME_TIME) {
    const more = wireOverhead - best.estimate.wireOverhead;
    if (more < 1e-4) return `${name} is as good`;
    return `${name} is as fast but sends ${percentText(wireOverhead)} more than the message`;
  }
  const takes = `${name} takes ${formatTime(next.valueNs)} (+${percentText(longer)})`;
  const kind = next.scheme.kind;
  const isRepeating = kind === "sr-nack" || kind === "sr-rto";
  const share = isRepeating ? touched(plan, setting) : next.estimate.fallbackProbability;
  const isSeldom = objective !== "mean" && share < 1 - objective;
  if (isSeldom || share === 0) return `${takes}, its parity being ${percentText(wireOverhead)}`;
  const what = isRepeating ? "lose a chunk" : "have a block that parity does not save";
  return `${takes}, as ${formatProbability(share)} of messages ${what} and wait for its repair`;
}

/** Why `plan` says what it says; `setting` and `objective` are the question's. */
export function reasonFor(
  plan: Plan,
  {
    setting,
    objective,
    overheadMax = Infinity,
  }: {
    readonly setting: Setting;
    readonly objective: Objective;
    readonly overheadMax?: number;
  },
): string {
  const { best, runnersUp, isWithinOverhead } = plan;
  const name = formatScheme(best.scheme);
  if (!isWithinOverhead) {
    return (
      `No scheme keeps within an overhead of ${percentText(overheadMax)} at a chunk loss of ` +
      `${formatProbability(plan.view.probability)}: ${name} is nearest with ` +
      `${percentText(best.estimate.wireOverhead)}.`
    );
  }
  const wins = `${name} has the least ${objectiveText(objective)}, ${formatTime(best.valueNs)}`;
  const next = runnersUp[0];
  const behind = next === undefined ? "" : `; ${weakness(plan, next, setting, objective)}`;
  return `${wins}: ${strength(plan, setting)}${behind}.`;
}
