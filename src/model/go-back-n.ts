/**
 * Completion time of Go-Back-N as src/reliability/go-back-n.ts does it; an approximation. A lost chunk shows when the
 * next one arrives; an RTT later the sender is back at it, W = RTT / T chunks on, and sends those again: all that
 * follows is late by an RTT. None of the W chunks is asked for by itself, except when one soon after the first was lost
 * too: its report is taken for new, and the sender goes back once more. Nothing shows the last chunk's loss: that costs
 * an RTO.
 */
import { binomials } from "./binomial.ts";
import { type Completion, certainly, predictionOf } from "./completion.ts";
import { incompleteAfter, spellsOf } from "./loss.ts";
import { neverDone } from "./rounds.ts";
import { CAVEATS, caveatOf } from "./selective-repeat.ts";
import { type Atom, completionOfAtoms } from "./steps.ts";
import { messageShape, timeoutNs } from "./timing.ts";
import type { Prediction, Setting } from "./types.ts";

/** RTO = RTT (1 + alpha). */
const ALPHA = 2;
/** A report is about the latest injection of a chunk that left so much of an RTT ago; so long do neighbours count. */
const FRESH_RTTS = 0.1;
/** Up to so many expected losses their number is taken as it is distributed, beyond as normally distributed. */
const COUNTED_MAX = 512;
/** Chances below are left out. */
const NEGLIGIBLE = 1e-14;
/** Timeouts in a row that are looked at. */
const TIMEOUTS_MAX = 200;
/** What more of them would make no difference to. */
const PASSABLE = 1e-6;

/** ln Gamma by Stirling's series, from where it is precise. */
function logFactorial(n: number): number {
  let shift = 0;
  let x = n + 1;
  while (x < 10) shift -= Math.log(x++);
  const inverse = 1 / x;
  const series = inverse / 12 - inverse ** 3 / 360 + inverse ** 5 / 1260;
  return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
}

/** Probability of at least `least` losses among `count` chunks. */
function lossesAtLeast(count: number, probability: number, least: number): number {
  if (least <= 0) return 1;
  if (count < least) return 0;
  let below = 0;
  const [yes, no] = [Math.log(probability), Math.log1p(-probability)];
  for (let j = 0; j < least; j++) {
    const ways = logFactorial(count) - logFactorial(j) - logFactorial(count - j);
    below += Math.exp(ways + j * yes + (count - j) * no);
  }
  return Math.max(0, 1 - below);
}

/** Chances of going back 0, 1, 2, ... times because of a new loss: after each, `blind` chunks show none. */
function timesBack(chunks: number, probability: number, blind: number): number[] {
  const chances: number[] = [];
  let atLeast = 1;
  for (let n = 1; atLeast > NEGLIGIBLE; n++) {
    const next = lossesAtLeast(Math.max(0, Math.floor(chunks - (n - 1) * blind)), probability, n);
    chances.push(atLeast - next);
    atLeast = next;
  }
  return chances;
}

function erf(x: number): number {
  // Abramowitz and Stegun 7.1.26; its error, 1.5e-7, is far below that of the approximation around it.
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const poly =
    t *
    (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - poly * Math.exp(-x * x));
}

function normally(meanNs: number, deviationNs: number, leastNs: number): Completion {
  const cdf = (ns: number) =>
    ns < leastNs ? 0 : (1 + erf((ns - meanNs) / (deviationNs * Math.SQRT2))) / 2;
  return { leastNs, meanNs, cdf };
}

export function predictGoBackN(setting: Setting): Prediction {
  const shape = messageShape(setting);
  const { chunks, chunkNs, injectionNs, packets } = shape;
  const { rttNs, loss, controlLoss } = setting;
  const probability = incompleteAfter(loss, packets, 1);
  if (chunks === 0) return predictionOf(certainly(rttNs), { wireOverhead: 0 });
  if (probability === 0) return predictionOf(certainly(injectionNs + rttNs), { wireOverhead: 0 });
  if (probability ** TIMEOUTS_MAX > PASSABLE) throw neverDone("a chunk", TIMEOUTS_MAX);
  const blind = chunkNs > 0 ? rttNs / chunkNs : chunks;
  const near = Math.min(FRESH_RTTS * blind, chunks);
  // Of the last chunk nothing shows, unless it is sent again anyway.
  const tailChance = probability * (1 - probability) ** Math.min(chunks - 1, blind);
  const reach = Math.min(blind, sinceFirstLoss(chunks, probability));
  const again = againChance({ chunks, near, probability, reach });
  const costNs = rttNs + 2 * chunkNs;
  const expected = ((chunks - 1) * probability) / (1 + probability * blind);
  const caveat =
    caveatOf(
      "Go-Back-N is approximated, to some per cent",
      spellsOf(loss) !== undefined && CAVEATS.bursts,
      controlLoss > 0 && CAVEATS.control,
    ) ?? "";
  const wireOverhead =
    (sentAgain({ chunks, probability, blind, expected }) * (1 + again) + probability) / chunks;
  const baseNs = injectionNs + rttNs;
  const rtoNs = timeoutNs(ALPHA, rttNs) + chunkNs;
  if (expected > COUNTED_MAX) {
    const spacing = blind + 1 / probability;
    const variance = (chunks * (1 - probability)) / probability ** 2 / spacing ** 3;
    const meanNs = baseNs + expected * costNs * (1 + again);
    const completion = normally(meanNs, Math.sqrt(variance) * costNs * (1 + again), baseNs);
    return predictionOf(completion, { wireOverhead, caveat });
  }
  const atoms: Atom[] = [];
  // When a message ends soon after its last repair, it has been waited for already.
  const savedNs = chunks <= FRESH_RTTS * blind ? injectionNs / 2 : 0;
  for (const [times, chance] of timesBack(chunks - 1, probability, blind).entries())
    for (const [more, part] of binomials(times, again).entries())
      for (let timeouts = 0; timeouts < TIMEOUTS_MAX; timeouts++) {
        const tail =
          timeouts === 0
            ? 1 - tailChance
            : tailChance * (1 - probability) * probability ** (timeouts - 1);
        const all = chance * part * tail;
        if (all < NEGLIGIBLE) break;
        const lateNs = (times + more) * costNs + timeouts * rtoNs - (times > 0 ? savedNs : 0);
        atoms.push({ ns: baseNs + lateNs, chance: all });
      }
  return predictionOf(completionOfAtoms(atoms), { wireOverhead, caveat });
}

/** Expected chunks sent again because of new losses: each time what was sent since the lost one, at most W chunks. */
function sentAgain(message: {
  readonly chunks: number;
  readonly probability: number;
  readonly blind: number;
  readonly expected: number;
}): number {
  const { chunks, probability, blind, expected } = message;
  // Of a message no longer than that: all behind the first loss.
  if (chunks <= blind)
    return Math.max(0, chunks + Math.expm1(chunks * Math.log1p(-probability)) / probability);
  // Where losses are few, the last one's W may reach beyond the end.
  return expected * blind * (1 - (blind / (2 * chunks)) * Math.exp(-probability * blind));
}

/** Expected chunks behind the first loss of a message that has one. */
function sinceFirstLoss(chunks: number, probability: number): number {
  const any = -Math.expm1(chunks * Math.log1p(-probability));
  return Math.max(0, chunks - any / probability) / any;
}

/**
 * That of the chunks lost in the pass in which the one was that the sender goes back to, two neighbours were `near`
 * each other: when the repair of the first comes, the other is reported, and its own repair looks too recent.
 */
function againChance(losses: {
  readonly chunks: number;
  readonly near: number;
  readonly probability: number;
  /** Chunks of that pass. */
  readonly reach: number;
}): number {
  const { chunks, near, probability, reach } = losses;
  const log = Math.log1p(-probability);
  if (chunks <= near) {
    const any = -Math.expm1((chunks - 1) * log);
    const one = (chunks - 1) * probability * Math.exp((chunks - 2) * log);
    return any > 0 ? Math.max(0, 1 - one / any) : 0;
  }
  const isNear = -Math.expm1(near * log);
  return 1 - (1 - isNear) * Math.exp(-probability * Math.max(0, reach - near) * isNear);
}
