/**
 * Completion time of Selective Repeat (paper section 5, appendix A): chunk i, injected at i T, is done at
 * X_i = i T + O (Y_i - 1), and the message at max X_i + RTT. By timeout O = RTO + T; by gaps about RTT: what our
 * policies take, from selective-repeat.ts and gap-detector.ts of the reliability layer.
 */
import { binomials } from "./binomial.ts";
import { certainly, later, predictionOf } from "./completion.ts";
import { incompleteAfter, logCompleteEach, spellsOf } from "./loss.ts";
import { completionOfRounds, logCompleteSeries, type Run } from "./rounds.ts";
import { askedRepairNs, type MessageShape, messageShape, timeoutNs } from "./timing.ts";
import type { Prediction, Scheme, Setting } from "./types.ts";

/** While chunks arrive, gaps are looked at 8 times in a window and asked for up to one look early: half of that. */
const EARLY_LOOK = 1 / 16;
/** Rates of first injection settle within so many periods; from there on they stay as they are. */
const PERIODS_MAX = 64;
const SETTLED = 1e-9;

export const CAVEATS = {
  wire: "repairs compete with first sends for the wire: approximation",
  paper: "the paper's bound: repairs take no part of the wire",
  asked: "when a loss is noticed is taken as an average",
  bursts: "runs of losses reach neighbouring chunks: approximation",
  control: "loss of control frames: first-order approximation",
} as const;

/** What makes a prediction inexact, said as one. */
export function caveatOf(...reasons: (string | false | undefined)[]): string | undefined {
  const given = reasons.filter((reason) => typeof reason === "string");
  return given.length === 0 ? undefined : given.join("; ");
}

type SelectiveRepeat = Extract<Scheme, { kind: "sr-rto" | "sr-nack" }>;

/** Time from a chunk's injection to that of its first repair, and from that one to each later one, with its own. */
export function repairDelaysNs(scheme: SelectiveRepeat, { chunkNs }: MessageShape, rttNs: number) {
  const rtoNs = timeoutNs(scheme.alpha, rttNs) + chunkNs;
  if (scheme.kind === "sr-rto") return { first: rtoNs, later: rtoNs };
  const askedNs = askedRepairNs(scheme.reorder, rttNs);
  // The next chunk shows the gap; the repair takes its own time on the wire.
  const first = askedNs - (askedNs - rttNs) * EARLY_LOOK + 2 * chunkNs;
  return { first: Math.min(first, rtoNs), later: Math.min(askedNs, rtoNs) };
}

/**
 * S(y) for chunks of which a repair is asked for only if the asking arrives: of y - 1 rounds each was asked for with
 * probability 1 - `askLoss`.
 */
function withLostAsks(logAfter: (sends: number) => number, sends: number, askLoss: number): number {
  if (askLoss === 0 || sends <= 1) return logAfter(sends);
  let missing = 0;
  for (const [lost, share] of binomials(sends - 1, askLoss).entries())
    if (share > 0) missing += share * -Math.expm1(logAfter(sends - lost));
  return Math.log1p(-Math.min(1, missing));
}

/**
 * First injections while repairs take their share of a wire that is always full: in period j of O, a share rho_j of it
 * goes to chunks sent a first time, where sum over y of rho_(j-y) S(y) = 1, S(0) = 1.
 */
function sharedRuns(
  shape: MessageShape,
  periodNs: number,
  logs: readonly number[],
): Omit<Run, "logComplete">[] {
  const { chunkNs, lastNs } = shape;
  const missing = [1, ...logs.map((log) => -Math.expm1(log))];
  const shares: number[] = [];
  const runs: Omit<Run, "logComplete">[] = [];
  let left = shape.chunks - 1;
  let fromNs = 0;
  let share = 1;
  for (let period = 0; left > 0; period++) {
    share = 1;
    for (let y = 1; y <= period && y < missing.length; y++)
      share -= (shares[period - y] as number) * (missing[y] as number);
    const steady = 1 / missing.reduce((sum, part) => sum + part, 0);
    const isSettled = period >= PERIODS_MAX || Math.abs(share - steady) < SETTLED;
    share = Math.max(isSettled ? steady : share, 1e-9);
    shares.push(share);
    const stepNs = chunkNs / share;
    const untilNs = (period + 1) * periodNs;
    const fit = isSettled ? left : Math.floor((untilNs - fromNs) / stepNs);
    const room = Math.min(left, Math.max(0, fit));
    if (room > 0) runs.push({ firstNs: fromNs + stepNs, stepNs, count: room });
    left -= room;
    // What is left of a period goes to a chunk that ends in the next.
    fromNs += room * stepNs;
  }
  runs.push({ firstNs: fromNs + lastNs / share, stepNs: 0, count: 1 });
  return runs;
}

/** Of whole messages: all chunks first, the last of them short perhaps. */
function evenRuns({ chunks, chunkNs, injectionNs }: MessageShape): Omit<Run, "logComplete">[] {
  const last = { firstNs: injectionNs, stepNs: 0, count: 1 };
  return chunks > 1 ? [{ firstNs: chunkNs, stepNs: chunkNs, count: chunks - 1 }, last] : [last];
}

export interface SelectiveRepeatOptions {
  /** The paper's form: repairs take no part of the wire. A lower bound where the message is longer than the RTO. */
  readonly paper?: boolean;
}

export function predictSelectiveRepeat(
  scheme: SelectiveRepeat,
  setting: Setting,
  options: SelectiveRepeatOptions = {},
): Prediction {
  const shape = messageShape(setting);
  const { chunks, packets, lastPackets, injectionNs } = shape;
  const { loss, controlLoss, rttNs } = setting;
  if (chunks === 0) return predictionOf(certainly(rttNs), { wireOverhead: 0 });
  const delays = repairDelaysNs(scheme, shape, rttNs);
  const askLoss = scheme.kind === "sr-nack" ? controlLoss : 0;
  const after = (count: number) => {
    const known: number[] = [];
    const logAfter = (sends: number) => (known[sends] ??= logCompleteEach(loss, count, sends));
    return (sends: number) => withLostAsks(logAfter, sends, askLoss);
  };
  const logs = logCompleteSeries(chunks, after(packets));
  const afterLast = after(lastPackets);
  const lastLogs = logs.map((_, index) => afterLast(index + 1));
  const delaysNs = logs.map((_, index) =>
    index === 0 ? 0 : delays.first + (index - 1) * delays.later,
  );
  const isLong = injectionNs > delays.first && loss.probability > 0;
  const isShared = isLong && options.paper !== true;
  const shared = isShared ? sharedRuns(shape, delays.first, logs) : [];
  const runs = (isShared ? shared : evenRuns(shape)).map((run) => ({
    ...run,
    logComplete: run.stepNs === 0 ? lastLogs : logs,
  }));
  const completion = completionOfRounds({ runs, delaysNs });
  const caveat = caveatOf(
    isLong && (isShared ? CAVEATS.wire : CAVEATS.paper),
    spellsOf(loss) !== undefined && CAVEATS.bursts,
    scheme.kind === "sr-nack" && loss.probability > 0 && options.paper !== true && CAVEATS.asked,
    controlLoss > 0 && CAVEATS.control,
  );
  const wireOverhead = repeats(setting, shape);
  return predictionOf(later(completion, rttNs), {
    wireOverhead,
    ...(caveat === undefined ? {} : { caveat }),
  });
}

/** Expected sends of a chunk beyond its first. */
function repeats({ loss }: Setting, { packets, chunks, lastPackets }: MessageShape): number {
  if (loss.probability === 0) return 0;
  const sum = (count: number) => {
    let total = 0;
    for (let sends = 1; ; sends++) {
      const missing = incompleteAfter(loss, count, sends);
      total += missing;
      if (missing < 1e-15 * (1 + total) || sends > 10_000) return total;
    }
  };
  return (sum(packets) * (chunks - 1) + sum(lastPackets)) / chunks;
}
