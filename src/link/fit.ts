/**
 * A loss model from a loss record: independent losses, Gilbert's chain (two parameters) and Gilbert and Elliott's
 * (three or four) by maximum likelihood, and the one with the least BIC. Deterministic.
 */
import { check } from "../base/errors.ts";
import {
  type Chain,
  logLikelihood,
  lostRuns,
  type Runs,
  runsOf,
  runTail,
  varianceFactor,
} from "./chain.ts";
import { LINK_LIMITS, type LinkProfile, meanBurstPackets } from "./model.ts";
import { minimize } from "./simplex.ts";

export const FIT_LIMITS = {
  packetsMax: LINK_LIMITS.lossTracePacketsMax,
  /** The four-parameter search looks at so many runs of the record, from its beginning. */
  searchRunsMax: 1 << 15,
  /** Likelihoods computed in one search. */
  searchStepsMax: 300,
  /** With fewer runs of losses, three or four parameters would be told by chance alone. */
  burstsMin: 10,
} as const;

const NORMAL_975 = 1.96;
/** Of the Kolmogorov distance times the root of the sample's size, at 5 %; cautious where values are whole. */
const KOLMOGOROV_95 = 1.358;

export type FittedModel = "bernoulli" | "gilbert" | "gilbert-elliott-3" | "gilbert-elliott-4";

export interface Candidate {
  readonly model: FittedModel;
  readonly parameters: number;
  readonly logLikelihood: number;
  /** parameters x ln packets - 2 log-likelihood: the least wins. */
  readonly bic: number;
  readonly link: LinkProfile;
}

export interface RunLengthBin {
  readonly from: number;
  /** The last bin has all that is longer, too. */
  readonly to: number;
  /** Runs of lost packets of such a length, and how many the model expects. */
  readonly observed: number;
  readonly expected: number;
}

export interface LossFit {
  readonly packets: number;
  readonly lost: number;
  /** Runs of lost packets, their mean length and the longest; 0 when none was lost. */
  readonly bursts: number;
  readonly meanBurst: number;
  readonly longestBurst: number;
  /** Share lost, and its 95 % confidence interval, widened for what bursts tell less. */
  readonly loss: number;
  readonly lossLow: number;
  readonly lossHigh: number;
  /** The best first; empty when none or all were lost: nothing tells models apart. */
  readonly candidates: readonly Candidate[];
  /** The loss of a link; clear when none was lost. */
  readonly link: LinkProfile;
  /** Mean burst of that link. */
  readonly fittedBurst: number;
  readonly runLengths: readonly RunLengthBin[];
  /** Largest difference between the observed and the fitted distribution of run lengths, and what chance explains. */
  readonly distance: number;
  readonly distanceMax: number;
}

interface Counts {
  readonly packets: number;
  readonly lost: number;
  readonly bursts: Uint32Array;
  readonly runs: Runs;
}

function count(trace: Uint8Array): Counts {
  const runs = runsOf(trace);
  const bursts = lostRuns(runs);
  return { packets: trace.length, lost: bursts.reduce((sum, n) => sum + n, 0), bursts, runs };
}

/** Independent losses as a chain: both states alike. */
function bernoulliChain(loss: number): Chain {
  return { p: 0.5, r: 0.5, lossBad: loss, lossGood: loss };
}

/** Gilbert's chain: as often from good to bad and back as the record shows it (the maximum of its likelihood). */
function gilbertChain({ packets, lost, bursts, runs }: Counts): Chain {
  const { firstLost, lengths } = runs;
  const lastLost = (lengths.length % 2 === 1) === firstLost;
  const begun = bursts.length - (firstLost ? 1 : 0);
  const ended = bursts.length - (lastLost ? 1 : 0);
  const p = begun / Math.max(1, packets - lost - (lastLost ? 0 : 1));
  const r = ended / Math.max(1, lost - (lastLost ? 1 : 0));
  // A state that the record never leaves: less than one such step in all of it.
  const least = 1 / (2 * packets);
  return { p: Math.max(p, least), r: Math.max(r, least), lossBad: 1, lossGood: 0 };
}

const logit = (x: number) => Math.log(x / (1 - x));
const logistic = (x: number) => 1 / (1 + Math.exp(-x));
const inside = (x: number) => Math.min(1 - 1e-9, Math.max(1e-9, x));

/** The likeliest chain near `starts`; `free` parameters of p, r, 1-h, 1-k are searched for, the rest stay 0. */
function search(runs: Runs, starts: readonly Chain[], free: 3 | 4): Chain {
  const chainOf = (point: readonly number[]): Chain => {
    const [p, r, lossBad, lossGood = 0] = point.map(logistic) as [number, number, number, number?];
    return { p, r, lossBad, lossGood };
  };
  const pointOf = ({ p, r, lossBad, lossGood }: Chain) =>
    [p, r, lossBad, lossGood].slice(0, free).map((x) => logit(inside(x)));
  const cost = (point: readonly number[]) => -logLikelihood(chainOf(point), runs);
  const ranked = starts
    .map((start) => ({ point: pointOf(start), cost: cost(pointOf(start)) }))
    .sort((a, b) => a.cost - b.cost);
  // A second hill now and then is the higher one.
  const found = ranked
    .slice(0, 2)
    .map(({ point }) => minimize(cost, point, FIT_LIMITS.searchStepsMax))
    .sort((a, b) => a.cost - b.cost);
  return chainOf(found[0]!.point);
}

/** Where a search for bad spells begins: some lengths of spells, some shares lost in them, all with the seen loss. */
function spells(loss: number, meanBurst: number): Chain[] {
  return [0.9, 0.5, 0.15].flatMap((lossBad) =>
    [2, 8, 40].map((times) => {
      const r = inside(1 / (times * meanBurst));
      const bad = Math.min(0.9, loss / lossBad);
      return { p: inside((r * bad) / (1 - bad)), r, lossBad, lossGood: 0 };
    }),
  );
}

function chainLink({ p, r, lossBad, lossGood }: Chain): LinkProfile {
  const rounded = (x: number) => Number(x.toPrecision(6));
  return {
    loss: "gilbert_elliott",
    geP: rounded(p),
    geR: rounded(r),
    geLossBad: rounded(lossBad),
    geLossGood: rounded(lossGood),
  };
}

function fitChains(counts: Counts): { model: FittedModel; parameters: number; chain: Chain }[] {
  const { runs, bursts, packets, lost } = counts;
  const gilbert = gilbertChain(counts);
  const simple: { model: FittedModel; parameters: number; chain: Chain }[] = [
    { model: "bernoulli", parameters: 1, chain: bernoulliChain(lost / packets) },
    { model: "gilbert", parameters: 2, chain: gilbert },
  ];
  if (bursts.length < FIT_LIMITS.burstsMin) return simple;
  const part: Runs = { ...runs, lengths: runs.lengths.subarray(0, FIT_LIMITS.searchRunsMax) };
  const loss = lost / packets;
  const three = search(part, spells(loss, lost / bursts.length), 3);
  const background = [0.1, 0.5].map((share) => ({ ...three, lossGood: share * loss }));
  const four = search(part, [...background, { ...gilbert, lossGood: loss / 2 }], 4);
  return [
    ...simple,
    { model: "gilbert-elliott-3", parameters: 3, chain: three },
    { model: "gilbert-elliott-4", parameters: 4, chain: four },
  ];
}

/** Wilson's interval for a share of `n` independent packets; `n` need not be whole. */
function interval(share: number, n: number): [low: number, high: number] {
  const z2 = NORMAL_975 ** 2;
  const centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const half =
    (NORMAL_975 / (1 + z2 / n)) * Math.sqrt((share * (1 - share)) / n + z2 / (4 * n * n));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** Run lengths in bins 1, 2, 3-4, 5-8 ..., and the largest distance between the two distributions. */
function compareRuns(
  bursts: Uint32Array,
  chain: Chain,
): { bins: RunLengthBin[]; distance: number } {
  const tail = runTail(chain);
  const ascending = bursts.slice().sort();
  const longest = ascending[ascending.length - 1] ?? 0;
  const total = ascending.length;
  const bins: RunLengthBin[] = [];
  let distance = 0;
  let at = 0;
  for (let from = 1, to = 1; from <= longest; from = to + 1, to *= 2) {
    const first = at;
    while (at < total && ascending[at]! <= to) {
      const length = ascending[at]!;
      distance = Math.max(distance, Math.abs(at / total - (1 - tail(length))));
      while (at < total && ascending[at] === length) at++;
      distance = Math.max(distance, Math.abs(at / total - (1 - tail(length + 1))));
    }
    const expected = total * (tail(from) - (to < longest ? tail(to + 1) : 0));
    bins.push({ from, to, observed: at - first, expected });
  }
  return { bins, distance };
}

/** None or all were lost: bounds, by the rule of three, and nothing to choose between. */
function fitConstant({ packets, lost, bursts }: Counts): LossFit {
  const all = lost > 0;
  const rest = Math.min(1, 3 / packets);
  const link: LinkProfile = all ? { loss: "bernoulli", lossProbability: 1 } : {};
  return {
    packets,
    lost,
    bursts: bursts.length,
    meanBurst: lost,
    longestBurst: lost,
    loss: all ? 1 : 0,
    lossLow: all ? 1 - rest : 0,
    lossHigh: all ? 1 : rest,
    candidates: [],
    link,
    fittedBurst: meanBurstPackets(link, 1),
    runLengths: [],
    distance: 0,
    distanceMax: 0,
  };
}

/**
 * Fits a record with one byte a packet in the order of sending, non-zero is lost. When none is lost the interval ends
 * at 3 / packets. Errors: INVALID_ARGUMENT for an empty or too long record.
 */
export function fitLoss(trace: Uint8Array): LossFit {
  const { packetsMax } = FIT_LIMITS;
  check(
    trace.length >= 1 && trace.length <= packetsMax,
    `a loss record of ${trace.length} packets`,
    `give 1 to ${packetsMax} packets`,
  );
  const counts = count(trace);
  const { packets, lost, bursts, runs } = counts;
  if (lost === 0 || lost === packets) return fitConstant(counts);
  const fitted = fitChains(counts).map(({ model, parameters, chain }) => {
    const likelihood = logLikelihood(chain, runs);
    const link: LinkProfile =
      model === "bernoulli"
        ? { loss: "bernoulli", lossProbability: Number((lost / packets).toPrecision(6)) }
        : chainLink(chain);
    const bic = parameters * Math.log(packets) - 2 * likelihood;
    return { candidate: { model, parameters, logLikelihood: likelihood, bic, link }, chain };
  });
  fitted.sort((a, b) => a.candidate.bic - b.candidate.bic);
  const best = fitted[0]!;
  // Losses that repel each other are still not more certain than independent ones.
  const independent = packets / Math.max(1, varianceFactor(best.chain));
  const [lossLow, lossHigh] = interval(lost / packets, Math.max(1, independent));
  const { bins, distance } = compareRuns(bursts, best.chain);
  return {
    packets,
    lost,
    bursts: bursts.length,
    meanBurst: lost / bursts.length,
    longestBurst: bursts.reduce((most, n) => Math.max(most, n), 0),
    loss: lost / packets,
    lossLow,
    lossHigh,
    candidates: fitted.map(({ candidate }) => candidate),
    link: best.candidate.link,
    fittedBurst: meanBurstPackets(best.candidate.link, 1),
    runLengths: bins,
    distance,
    distanceMax: KOLMOGOROV_95 / Math.sqrt(bursts.length),
  };
}

/** Loss by payload size: what each size's record showed. */
export interface SizeRecord {
  readonly payloadBytes: number;
  readonly trace: Uint8Array;
}

/**
 * One loss model for records of several payload sizes: the chain or share fitted to all of them together, or a share
 * for each size, whichever has the least BIC. A link's loss can depend on size or come in bursts, not both.
 * Errors: as fitLoss's, for the records together.
 */
export function fitLossBySize(records: readonly SizeRecord[]): {
  readonly link: LinkProfile;
  readonly bySize: boolean;
} {
  const packets = records.reduce((sum, { trace }) => sum + trace.length, 0);
  check(packets <= FIT_LIMITS.packetsMax, `${packets} packets`, "measure fewer packets");
  const together = new Uint8Array(packets);
  let at = 0;
  for (const { trace } of records) {
    together.set(trace, at);
    at += trace.length;
  }
  const pooled = fitLoss(together);
  const best = pooled.candidates[0];
  if (best === undefined) return { link: pooled.link, bySize: false };
  let likelihood = 0;
  const lossBySize = records.map(({ payloadBytes, trace }): [number, number] => {
    const lost = trace.reduce((sum, bit) => sum + (bit !== 0 ? 1 : 0), 0);
    const share = lost / trace.length;
    const term = (n: number, p: number) => (n === 0 ? 0 : n * Math.log(p));
    likelihood += term(lost, share) + term(trace.length - lost, 1 - share);
    return [payloadBytes, Number(share.toPrecision(6))];
  });
  lossBySize.sort(([a], [b]) => a - b);
  const bic = records.length * Math.log(packets) - 2 * likelihood;
  if (records.length < 2 || bic >= best.bic) return { link: pooled.link, bySize: false };
  return { link: { loss: "by_size", lossBySize }, bySize: true };
}
