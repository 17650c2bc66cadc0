/**
 * What predict() says, within a few per cent and a few microseconds: enough to rank schemes by. The same waits, fewer
 * details: repairs are spread evenly over the wire, blocks of an erasure code fail as bursts' runs fall on them, and
 * only the failures of the last RTT are waited for.
 */
import { binomial, binomialAbove } from "./binomial.ts";
import { estimateHybrid, pathViewOf } from "./hybrid.ts";
import { incompleteAfter, logCompleteEach } from "./loss.ts";
import { blockFailure, blockFailures, leastWhole, type PathView, type RunLoss } from "./parity.ts";
import { repairDelaysNs } from "./selective-repeat.ts";
import { fallbackNs, type MessageShape, messageShape } from "./timing.ts";
import type { Scheme, Setting } from "./types.ts";

/** A setting, and what follows from it for any scheme. */
export class EstimateBasis {
  readonly setting: Setting;
  readonly shape: MessageShape;
  readonly view: PathView;
  /** By sends, from 1. */
  private readonly logs: number[] = [];
  private readonly missing: number[] = [1];

  constructor(setting: Setting) {
    this.setting = setting;
    this.shape = messageShape(setting);
    this.view = pathViewOf(setting);
  }

  /** ln of what one chunk of many contributes to the probability that all are complete after so many sends. */
  logCompleteEach(sends: number): number {
    const { setting, shape, logs } = this;
    for (let next = logs.length + 1; next <= sends; next++) {
      const log =
        next <= EXACT_SENDS
          ? logCompleteEach(setting.loss, shape.packets, next)
          : Math.min(0, (logs[next - 2]! * logs[next - 2]!) / logs[next - 3]! || 0);
      logs.push(log);
    }
    return logs[sends - 1]!;
  }

  /** Probability that a chunk is incomplete after so many sends. */
  incompleteAfter(sends: number): number {
    const { setting, shape, missing } = this;
    for (let next = missing.length; next <= sends; next++) {
      const share =
        next <= EXACT_SENDS
          ? incompleteAfter(setting.loss, shape.packets, next)
          : missing[next - 1]! ** 2 / missing[next - 2]! || 0;
      missing.push(share);
    }
    return missing[sends]!;
  }

  /** Expected sends of a chunk beyond the first: as often as it was incomplete before. */
  repeats(): number {
    let sum = 0;
    for (let sends = 1; sends <= SENDS_MAX; sends++) {
      const more = this.incompleteAfter(sends);
      sum += more;
      if (more <= NEGLIGIBLE * sum) break;
    }
    return sum;
  }
}

export interface Estimate {
  readonly meanNs: number;
  readonly wireOverhead: number;
  /** Share of messages of which parity did not save all; 0 for schemes without. */
  readonly fallbackProbability: number;
  /** The least time within which a share `q` of messages completes, 0 < q < 1. */
  quantileNs(q: number): number;
}

/** Sends of a chunk that are looked at. */
const SENDS_MAX = 200;
/** From there on each send helps as much as the last of them did. */
const EXACT_SENDS = 4;
/** Chances this small, summed over all chunks, are left out. */
const NEGLIGIBLE = 1e-9;
/** Looks at the distribution a repair period. */
const LOOKS = 32;
const BISECTIONS = 40;
/** Failures so many RTTs before the end are repaired by then. */
const OPEN_RTTS = 1.5;

function logNone(probability: number): number {
  return Math.log1p(-Math.min(probability, 1 - 1e-16));
}

type Coding = Extract<Scheme, { kind: "ec-mds" | "ec-xor" }>;
type Repeating = Extract<Scheme, { kind: "sr-rto" | "sr-nack" }>;

/** Paper section 5: ln F(t) is the sum over chunks of ln(1 - S(y)), y the sends that were done by t. */
function estimateRepeating(scheme: Repeating, basis: EstimateBasis): Estimate {
  const { setting, shape } = basis;
  const { chunks, chunkNs, injectionNs } = shape;
  const { first, later } = repairDelaysNs(scheme, shape, setting.rttNs);
  // At index y - 1.
  const logs: number[] = [];
  for (let sends = 1; sends <= SENDS_MAX; sends++) {
    const log = basis.logCompleteEach(sends);
    logs.push(log);
    if (-log * chunks < NEGLIGIBLE) break;
  }
  const delayNs = (sends: number) => (sends <= 1 ? 0 : first + (sends - 2) * later);
  const chunksAfter = (waitNs: number, sends: number) =>
    chunkNs > 0
      ? Math.min(chunks, Math.max(0, chunks + (waitNs - delayNs(sends)) / chunkNs))
      : waitNs >= delayNs(sends)
        ? chunks
        : 0;
  /** All is through `waitNs` after the last first injection. */
  const through = (waitNs: number) => {
    let log = 0;
    let before = chunks;
    for (let sends = 1; sends <= logs.length && before > 0; sends++) {
      const beyond = sends === logs.length ? 0 : chunksAfter(waitNs, sends + 1);
      if (before > beyond) log += (before - beyond) * logs[sends - 1]!;
      before = beyond;
    }
    return Math.exp(log);
  };
  const repeats = basis.repeats();
  const head = chunkNs > 0 ? Math.max(0, chunks - first / chunkNs) : 0;
  const leastNs = injectionNs + head * repeats * chunkNs + setting.rttNs;
  let waitNs = 0;
  for (let sends = 1, missed = 1; sends <= logs.length && missed >= NEGLIGIBLE; sends++) {
    const fromNs = delayNs(sends);
    const stepNs = (delayNs(sends + 1) - fromNs) / LOOKS;
    for (let look = 0; look < LOOKS && missed >= NEGLIGIBLE; look++) {
      missed = 1 - through(fromNs + (look + 1 / 2) * stepNs);
      waitNs += missed * stepNs;
    }
  }
  const quantileNs = (q: number) => {
    if (through(0) >= q) return leastNs;
    let low = 0;
    let high = delayNs(logs.length + 1);
    for (let i = 0; i < BISECTIONS; i++) {
      const middle = (low + high) / 2;
      if (through(middle) >= q) high = middle;
      else low = middle;
    }
    return leastNs + high;
  };
  return {
    meanNs: leastNs + waitNs,
    wireOverhead: repeats,
    fallbackProbability: 0,
    quantileNs,
  };
}

/** Probability that a code cannot make a block: of modulo groups, that one of them loses two chunks or more. */
function codeFailure(kind: Coding["kind"], k: number, m: number, loss: RunLoss): number {
  if (kind === "ec-mds") return blockFailure(k, m, loss);
  // Neighbours are in different groups.
  return -Math.expm1(m * logNone(blockFailure(Math.ceil(k / m), 1, loss, m)));
}

/** The same when data was repeated, which leaves chunks missing with a probability of `still`, but parity was not. */
function repeatedFailure(
  kind: Coding["kind"],
  k: number,
  m: number,
  still: number,
  once: number,
): number {
  if (kind === "ec-xor") {
    const group = Math.ceil(k / m);
    const saved = 1 - still + group * still * (1 - once);
    return -Math.expm1(m * Math.log(Math.min(1, (1 - still) ** (group - 1) * saved)));
  }
  let failure = 0;
  for (let missing = 1; missing <= k; missing++) {
    const more = binomial(k, missing, still);
    failure += more * (missing > m ? 1 : binomialAbove(m, m - missing, once));
    if (missing > k * still && more < NEGLIGIBLE * failure) break;
  }
  return Math.min(1, failure);
}

/** Paper section 5, with the repairs of failed blocks by rounds of asking. */
function estimateCoding(scheme: Coding, basis: EstimateBasis): Estimate {
  const { setting, shape, view } = basis;
  const { chunks, chunkNs, injectionNs } = shape;
  const { rttNs } = setting;
  const k = Math.min(scheme.k, chunks);
  const m = scheme.kind === "ec-mds" ? scheme.m : Math.min(scheme.m, k);
  const blocks = Math.ceil(chunks / k);
  const failures = scheme.kind === "ec-mds" ? blockFailures(k, m, view) : undefined;
  const failure = failures?.[m] ?? codeFailure(scheme.kind, k, m, view);
  const once = basis.incompleteAfter(1);
  // Data chunks of a block that parity did not save, and sends of each until it is in.
  const missing = scheme.kind === "ec-mds" ? Math.max(m + 1, k * once) * (k / (k + m)) : 2;
  const repairs = missing * (once > 0 ? basis.repeats() / once : 1);
  const blockNs = (k + m) * chunkNs;
  const open = blockNs > 0 ? Math.min(blocks, 1 + (OPEN_RTTS * rttNs) / blockNs) : blocks;
  const hiddenNs = (blocks - open) * failure * repairs * chunkNs;
  // Of the last two blocks parity comes behind the last data.
  const apart = Math.min(2, blocks);
  const leastNs = injectionNs + (blocks - apart) * m * chunkNs + hiddenNs + rttNs;
  const endNs = leastNs + apart * m * chunkNs;
  const stuck = -Math.expm1(open * logNone(failure));
  const shared = stuck > 0 ? (open * failure * missing) / stuck : 0;
  const roundNs = fallbackNs(scheme.beta, rttNs) + shared * chunkNs;
  const laterNs = fallbackNs(scheme.beta, rttNs);
  /** ln of the probability that no block is still short after so many rounds, each of which repeats missing data. */
  const after = (rounds: number) => {
    if (rounds === 0) return open * logNone(failure);
    const still = basis.incompleteAfter(rounds + 1);
    return open * logNone(repeatedFailure(scheme.kind, k, m, still, once));
  };
  const rowsFail = (rows: number) => failures?.[rows] ?? Math.min(1, (k + rows) * once);
  let meanNs = leastNs;
  for (let rows = 0; rows < m; rows++)
    meanNs -= Math.expm1(apart * logNone(rowsFail(rows))) * apart * chunkNs;
  for (let rounds = 0; rounds < SENDS_MAX; rounds++) {
    const waits = -Math.expm1(after(rounds));
    meanNs += waits * (rounds === 0 ? roundNs : laterNs);
    if (waits < NEGLIGIBLE) break;
  }
  const quantileNs = (q: number) => {
    const log = Math.log(q);
    if (after(0) >= log) {
      const others = after(0) * Math.max(0, 1 - apart / open);
      const rows = leastWhole(0, m, (count) => apart * logNone(rowsFail(count)) + others >= log);
      return leastNs + rows * apart * chunkNs;
    }
    let rounds = 1;
    while (rounds < SENDS_MAX && after(rounds) < log) rounds++;
    return endNs + roundNs + (rounds - 1) * laterNs;
  };
  const wireOverhead = (blocks * (m + failure * repairs)) / chunks;
  const fallbackProbability = 0 - Math.expm1(blocks * logNone(failure));
  return { meanNs, wireOverhead, fallbackProbability, quantileNs };
}

/** Schemes of the planner; of a message of at least one chunk. */
export function estimate(scheme: Scheme, basis: EstimateBasis): Estimate {
  switch (scheme.kind) {
    case "sr-rto":
    case "sr-nack":
      return estimateRepeating(scheme, basis);
    case "ec-mds":
    case "ec-xor":
      return estimateCoding(scheme, basis);
    case "hybrid":
      return estimateHybrid(basis.shape, basis.view, scheme.shape);
    default:
      throw new RangeError(`${scheme.kind} is not a scheme to choose`);
  }
}
