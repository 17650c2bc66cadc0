/**
 * Completion time of erasure coding as our policies do it (src/reliability/erasure-coding.ts), which differs from the
 * paper's scheme (section 5): the receiver is told when everything has been sent, and once an RTT how far a long
 * injection has come; it waits beta RTT for stragglers, then asks for what is missing of blocks that cannot be made,
 * and again every RTT (1 + beta).
 *
 * Blocks succeed independently, so F(t) is a product of powers: of each epoch's blocks (those that one word of the
 * sender's covers), by the repair rounds that have come in by t. The order on the wire is D0 D1 P0 D2 P1 ... D(L-1)
 * P(L-2) P(L-1), so that only the last two blocks can wait for parity after the last data chunk.
 */
import { binomials } from "./binomial.ts";
import { type BlockFailure, BlockLoss, type BlockShape, parityOf } from "./block-loss.ts";
import { type Completion, certainly, later, predictionOf } from "./completion.ts";
import { spellsOf } from "./loss.ts";
import { neverDone } from "./rounds.ts";
import { CAVEATS, caveatOf, predictSelectiveRepeat } from "./selective-repeat.ts";
import { fallbackNs, type MessageShape, messageShape } from "./timing.ts";
import type { Prediction, Scheme, Setting } from "./types.ts";

type Coding = Extract<Scheme, { kind: "ec-mds" | "ec-xor" }>;

/** Epochs that are looked at one by one; those before them are long over when a message ends. */
const EPOCHS_MAX = 64;
/** Repair rounds looked at; each loses at least something. */
const ROUNDS_MAX = 400;
/** Times are right to this. */
const DIGITS_NS = 1e-3;
const LAST_DIGITS = 1e-14;
/** What no longer changes ln F. */
const NEGLIGIBLE = 1e-17;
/** The sender's word is given no more often than this. */
const WORD_FLOOR_NS = 100_000;
/** A repair waits behind so much data that is queued already, while there is any. */
const QUEUE_AHEAD_NS = 40_000;

/** ln of the probability that all of `count` succeed, of none too. */
function logAll(count: number, logEach: number): number {
  return count === 0 ? 0 : count * logEach;
}

/** Blocks of a message: all but the last have k data chunks. */
interface Blocks {
  readonly count: number;
  readonly whole: BlockShape;
  readonly last: BlockShape;
  /** Parity chunks of all. */
  readonly parity: number;
}

function blocksOf({ kind, k, m }: Coding, chunks: number): Blocks {
  const count = Math.ceil(chunks / k);
  const whole: BlockShape = { kind, m, data: Math.min(k, chunks) };
  const last: BlockShape = { kind, m, data: chunks - (count - 1) * k };
  return { count, whole, last, parity: (count - 1) * parityOf(whole) + parityOf(last) };
}

/** Repairs of one round: when the first and the last of them are injected, and how many they are expected to be. */
interface Repairs {
  readonly fromNs: number;
  readonly toNs: number;
  readonly chunks: number;
}

/** Blocks that the same word of the sender's covers, and the rounds of their repair. */
interface Epoch {
  readonly blocks: number;
  readonly rounds: readonly Repairs[];
}

/** What follows from a setting and a scheme; failures by sends of the data are worked out once each. */
class Coder {
  readonly scheme: Coding;
  readonly setting: Setting;
  readonly shape: MessageShape;
  readonly blocks: Blocks;
  readonly loss: BlockLoss;
  /** From a SENT to the repairs asked for because of it, and from those to the next. */
  readonly roundNs: number;
  private readonly failures: BlockFailure[] = [];

  constructor(scheme: Coding, setting: Setting) {
    this.scheme = scheme;
    this.setting = setting;
    this.shape = messageShape(setting);
    this.blocks = blocksOf(scheme, this.shape.chunks);
    const { chunks, packets, lastPackets } = this.shape;
    this.loss = new BlockLoss(setting, chunks === 1 ? lastPackets : packets);
    this.roundNs = fallbackNs(scheme.beta, setting.rttNs);
  }

  /** Of a whole block with all its parity, after so many repair rounds. */
  afterRounds(rounds: number): BlockFailure {
    const { whole } = this.blocks;
    for (let made = this.failures.length; made <= rounds; made++)
      this.failures.push(this.failureAfter(made, whole));
    return this.failures[rounds] as BlockFailure;
  }

  /** A round takes place if its NACK arrives. */
  private failureAfter(rounds: number, block: BlockShape): BlockFailure {
    const parity = parityOf(block);
    const sure = this.loss.failure(block, rounds + 1, parity);
    const { controlLoss } = this.setting;
    if (controlLoss === 0 || rounds === 0) return sure;
    let fails = 0;
    for (const [lost, share] of binomials(rounds, controlLoss).entries()) {
      if (share === 0) continue;
      const { logSuccess } = this.loss.failure(block, rounds + 1 - lost, parity);
      fails += share * -Math.expm1(logSuccess);
    }
    return { logSuccess: Math.log1p(-Math.min(1, fails)), missing: sure.missing };
  }

  /** Expected chunks that `blocks` of them ask for after so many rounds; of one at least, where any is stuck. */
  asked(blocks: number, rounds: number): number {
    const { logSuccess, missing } = this.afterRounds(rounds);
    return blocks * -Math.expm1(logSuccess) * missing;
  }

  /** Time to inject what a round asks for, given that it asks for anything. */
  private askedNs(blocks: number, rounds: number): number {
    const { logSuccess, missing } = this.afterRounds(rounds);
    const any = -Math.expm1(logAll(blocks, logSuccess));
    const chunks = any > 0 ? this.asked(blocks, rounds) / any : 0;
    return Math.max(chunks, missing > 0 ? 1 : 0) * this.shape.chunkNs;
  }

  /**
   * The rounds of so many blocks, the first of them injected at `fromNs`, while they change anything.
   * Errors: UNSUPPORTED when those are too many.
   */
  epoch(blocks: number, fromNs: number): Epoch {
    const rounds: Repairs[] = [];
    for (let askNs = fromNs; ; askNs += this.roundNs) {
      const round = rounds.length;
      if (-logAll(blocks, this.afterRounds(round).logSuccess) < NEGLIGIBLE) break;
      if (round === ROUNDS_MAX) throw neverDone(`${this.shape.chunks} chunks`, ROUNDS_MAX);
      const toNs = askNs + this.askedNs(blocks, round);
      rounds.push({ fromNs: askNs, toNs, chunks: this.asked(blocks, round) });
    }
    return { blocks, rounds };
  }
}

/** The epochs of a message, and when all has been injected. */
interface Course {
  readonly epochs: readonly Epoch[];
  readonly endNs: number;
}

/**
 * Goes through the injection from word to word. Repairs of early epochs go out before new chunks and put off the end.
 * A word that the next one follows before the wait for stragglers is over counts for nothing: that one covers it too.
 */
function courseOf(coder: Coder): Course {
  const { blocks, shape, setting, scheme, roundNs } = coder;
  const { rttNs } = setting;
  const all = blocks.count - 1;
  const totalNs = shape.injectionNs + blocks.parity * shape.chunkNs;
  const blockNs = (blocks.whole.data + parityOf(blocks.whole)) * shape.chunkNs;
  const waitNs = roundNs - rttNs;
  // The word goes with the first parity after an RTT, and says what lies below the block of that: one before the last.
  const periodNs = Math.ceil(Math.max(rttNs, WORD_FLOOR_NS) / blockNs) * blockNs;
  const lagNs = blockNs + (scheme.k * shape.chunkNs) / 2;
  if (!(blockNs > 0) || periodNs >= totalNs || waitNs >= periodNs)
    return { epochs: [coder.epoch(all, totalNs + roundNs)], endNs: totalNs };
  // Of a message of very many epochs the last are walked through; what came before has taken its share of the wire.
  const skippedNs = Math.max(0, Math.floor(totalNs / periodNs) - EPOCHS_MAX) * periodNs;
  const epochs: Epoch[] = [];
  let covered = skippedNs / blockNs;
  let repairsNs = repairNs(coder, covered);
  let repairedTo = -Infinity;
  const repairsUntil = (ns: number) => {
    for (const { rounds } of epochs)
      for (const { fromNs, chunks } of rounds)
        if (fromNs >= repairedTo && fromNs < ns) repairsNs += chunks * shape.chunkNs;
    repairedTo = Math.max(repairedTo, ns);
  };
  let saidNs = skippedNs + repairsNs + periodNs;
  for (; ; saidNs += periodNs) {
    repairsUntil(saidNs);
    if (totalNs + repairsNs - saidNs < waitNs) break;
    const upTo = Math.min(all, Math.max(covered, (saidNs - repairsNs - lagNs) / blockNs));
    const fromNs = putOff(saidNs + roundNs, epochs, setting.rttNs, waitNs) + QUEUE_AHEAD_NS;
    epochs.push(coder.epoch(upTo - covered, fromNs));
    covered = upTo;
  }
  // Repairs that go out before the end put it off, perhaps by so much that others do too.
  for (let endNs = 0; endNs < totalNs + repairsNs; repairsUntil(endNs)) endNs = totalNs + repairsNs;
  const endNs = totalNs + repairsNs;
  const fromNs = putOff(endNs + roundNs, epochs, setting.rttNs, waitNs);
  epochs.push(coder.epoch(all - covered, fromNs));
  return { epochs, endNs };
}

/**
 * Repairs due at `fromNs` are asked for later when others have just come in, or come in: what is due may be behind
 * them.
 */
function putOff(fromNs: number, epochs: readonly Epoch[], rttNs: number, waitNs: number): number {
  let atNs = fromNs;
  for (const { rounds } of epochs)
    for (const repairs of rounds) {
      const isNews = repairs.fromNs <= atNs - rttNs && repairs.toNs > atNs - rttNs - waitNs;
      if (isNews && repairs.chunks >= 1 / 2) atNs = repairs.toNs + rttNs + waitNs;
    }
  return atNs;
}

/** Injection time of all repairs of so many blocks. */
function repairNs(coder: Coder, blocks: number): number {
  let chunks = 0;
  for (let round = 0; round < ROUNDS_MAX && blocks > 0; round++) {
    const asked = coder.asked(blocks, round);
    chunks += asked;
    if (asked < 1e-9 * chunks || asked === 0) break;
  }
  return chunks * coder.shape.chunkNs;
}

interface Step {
  readonly ns: number;
  readonly logCdf: number;
}

/** ln F at each time at which it rises, ascending. Times of the sender's, without the answer's way. */
function stepsOf(coder: Coder, course: Course): Step[] {
  const { blocks, loss, shape } = coder;
  const { last, whole } = blocks;
  const mWhole = blocks.count > 1 ? parityOf(whole) : 0;
  const mLast = parityOf(last);
  const dataEndNs = course.endNs - (mWhole + mLast) * shape.chunkNs;
  // The short last block goes the way of the last epoch.
  const fromNs = course.epochs.at(-1)?.rounds[0]?.fromNs ?? course.endNs + coder.roundNs;
  const alone = coder.epoch(1, fromNs).rounds;
  const together = course.epochs.at(-1)?.rounds ?? [];
  const lastRounds = together.length > alone.length ? together : alone;
  const times = new Set<number>([dataEndNs]);
  for (let parity = 1; parity <= mWhole + mLast; parity++)
    times.add(dataEndNs + parity * shape.chunkNs);
  for (const { rounds } of course.epochs) for (const { toNs } of rounds) times.add(toNs);
  for (const { toNs } of lastRounds) times.add(toNs);
  const done = (rounds: readonly Repairs[], ns: number) =>
    rounds.reduce((count, { toNs }) => count + (toNs <= ns ? 1 : 0), 0);
  const lastLogs = lastRounds.map((_, i) => loss.failure(last, i + 2, mLast).logSuccess);
  const steps: Step[] = [];
  for (const ns of [...times].sort((a, b) => a - b)) {
    if (ns < dataEndNs) continue;
    let sent = mWhole + mLast;
    while (sent > 0 && dataEndNs + sent * shape.chunkNs > ns) sent--;
    let log = 0;
    for (const [i, epoch] of course.epochs.entries()) {
      const isFinal = i === course.epochs.length - 1;
      // The last whole block's parity comes after the last data chunk.
      const apart = isFinal && blocks.count > 1 ? Math.min(1, epoch.blocks) : 0;
      const after = done(epoch.rounds, ns);
      log += logAll(epoch.blocks - apart, coder.afterRounds(after).logSuccess);
      if (apart === 0) continue;
      const isIn = after > 0 || sent >= mWhole;
      const last = isIn ? coder.afterRounds(after) : loss.failure(whole, 1, Math.min(sent, mWhole));
      log += logAll(apart, last.logSuccess);
    }
    const after = done(lastRounds, ns);
    log +=
      after > 0
        ? (lastLogs[after - 1] as number)
        : loss.failure(last, 1, Math.min(mLast, Math.max(0, sent - mWhole))).logSuccess;
    steps.push({ ns, logCdf: Math.min(0, log) });
  }
  return steps;
}

function completionOfSteps(steps: readonly Step[]): Completion {
  const first = steps[0] as Step;
  let meanNs = first.ns;
  for (let i = 0; i + 1 < steps.length; i++) {
    const step = steps[i] as Step;
    meanNs += ((steps[i + 1] as Step).ns - step.ns) * -Math.expm1(step.logCdf);
  }
  return {
    leastNs: first.ns,
    meanNs,
    cdf(ns: number): number {
      let log = -Infinity;
      for (const step of steps) {
        if (step.ns > ns + Math.max(DIGITS_NS, LAST_DIGITS * ns)) break;
        log = Math.max(log, step.logCdf);
      }
      return Math.exp(log);
    },
  };
}

export interface ErasureCodingOptions {
  /** The paper's bound instead of what our policies do. */
  readonly paper?: boolean;
}

export function predictErasureCoding(
  scheme: Coding,
  setting: Setting,
  options: ErasureCodingOptions = {},
): Prediction {
  const { rttNs, loss, controlLoss, bytes } = setting;
  if (bytes === 0) return predictionOf(certainly(rttNs), { wireOverhead: 0 });
  const coder = new Coder(scheme, setting);
  const { blocks, shape } = coder;
  const logSuccess =
    logAll(blocks.count - 1, coder.afterRounds(0).logSuccess) +
    coder.loss.failure(blocks.last, 1, parityOf(blocks.last)).logSuccess;
  const fallbackProbability = -Math.expm1(logSuccess);
  const isBursty = spellsOf(loss) !== undefined;
  if (options.paper === true)
    return predictPaper(coder, scheme, setting, fallbackProbability, isBursty);
  const course = courseOf(coder);
  const completion = completionOfSteps(stepsOf(coder, course));
  const repairs = repairNs(coder, blocks.count) / Math.max(shape.chunkNs, 1e-300);
  const chunkRepairs = shape.chunkNs > 0 ? repairs : 0;
  const caveat = caveatOf(
    fallbackProbability > 1e-9 && "times of repair rounds are averages",
    isBursty && CAVEATS.bursts,
    controlLoss > 0 && CAVEATS.control,
  );
  return predictionOf(later(completion, rttNs), {
    wireOverhead: (blocks.parity + chunkRepairs) / shape.chunks,
    fallbackProbability,
    ...(caveat === undefined ? {} : { caveat }),
  });
}

/**
 * Paper section 5: (M + ceil(M / R)) T_inj + RTT, and with a fallback (1 + beta) RTT and Selective Repeat of the blocks
 * that are expected to fail. A lower bound.
 */
function predictPaper(
  coder: Coder,
  scheme: Coding,
  setting: Setting,
  fallback: number,
  isBursty: boolean,
): Prediction {
  const { blocks, shape } = coder;
  const { rttNs, chunkBytes, bytes } = setting;
  const cleanNs = shape.injectionNs + blocks.parity * shape.chunkNs;
  const failed = blocks.count * -Math.expm1(coder.afterRounds(0).logSuccess);
  const given = fallback > 0 ? Math.max(1, Math.round(failed / fallback)) : 0;
  const repairBytes = Math.min(bytes, given * scheme.k * chunkBytes);
  const repair = predictSelectiveRepeat(
    { kind: "sr-rto", alpha: 2 },
    { ...setting, bytes: repairBytes },
    { paper: true },
  );
  const fallenNs = cleanNs + (1 + scheme.beta) * rttNs;
  const completion: Completion = {
    leastNs: cleanNs + rttNs,
    meanNs: (1 - fallback) * (cleanNs + rttNs) + fallback * (fallenNs + repair.meanNs),
    cdf: (ns) => (ns >= cleanNs + rttNs ? 1 - fallback : 0) + fallback * repair.cdf(ns - fallenNs),
  };
  return predictionOf(completion, {
    wireOverhead: (blocks.parity + failed * scheme.k * (1 + repair.wireOverhead)) / shape.chunks,
    fallbackProbability: fallback,
    caveat: caveatOf(CAVEATS.paper, isBursty && CAVEATS.bursts) ?? CAVEATS.paper,
  });
}
