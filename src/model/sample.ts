/**
 * Completion times drawn at random, for what formulas only approximate. Work goes with the chunks that are lost, not
 * with those there are; where repairs cannot meet new chunks on the wire, with the logarithm of them.
 *
 * Trials draw from streams of their own, each of TRIALS_PER_STREAM trials, named by the seed and the stream's number.
 * So a trial's result depends on the seed and its number only, whoever draws it and however trials are parted.
 */
import { Random } from "../base/random.ts";
import { mean, percentileSorted } from "../base/statistics.ts";
import { boundNs, idealNs } from "./bounds.ts";
import { chunkLoss } from "./loss.ts";
import { CodingSampler } from "./sample-coding.ts";
import { HybridSampler } from "./sample-hybrid.ts";
import { GoBackSampler, RepeatSampler, type Sample, type Sampler } from "./sample-repeat.ts";
import { checkScheme, SCHEME_DEFAULTS } from "./scheme.ts";
import { repairDelaysNs } from "./selective-repeat.ts";
import { checkSetting, messageShape, timeoutNs } from "./timing.ts";
import type { Prediction, Scheme, Setting } from "./types.ts";

/** A generator's making costs about as much as drawing for a message; parts of a run are best a multiple of this. */
export const TRIALS_PER_STREAM = 64;

/** Results of trials, in their order. */
export interface Samples {
  readonly completionNs: Float64Array;
  /** Chunks on the wire over the messages' own, less 1; where repeats are not followed, what is expected of them. */
  readonly wireOverhead: number;
  /** Share of messages of which parity did not save all. */
  readonly fallbackProbability: number;
}

/** A message that always takes the same. */
class Certain implements Sampler {
  private readonly sample: Sample;

  constructor(completionNs: number, sentChunks: number) {
    this.sample = { completionNs, sentChunks, fellBack: false };
  }

  draw(): Sample {
    return this.sample;
  }
}

/**
 * What draws messages of a scheme in a setting, one after another, from generators that are passed to it. Errors:
 * INVALID_ARGUMENT for a scheme or a setting that cannot be.
 */
export function createSampler(scheme: Scheme, setting: Setting): Sampler {
  checkScheme(scheme);
  checkSetting(setting);
  const shape = messageShape(setting);
  const { chunks } = shape;
  switch (scheme.kind) {
    case "ideal":
      return new Certain(idealNs(setting), chunks);
    case "bound":
      return new Certain(boundNs(setting), chunks / (1 - chunkLoss(setting)));
    case "gbn":
      return new GoBackSampler(setting, timeoutNs(SCHEME_DEFAULTS.alpha, setting.rttNs));
    case "sr-rto":
    case "sr-nack": {
      const askLoss = scheme.kind === "sr-nack" ? setting.controlLoss : 0;
      const delays = repairDelaysNs(scheme, shape, setting.rttNs);
      return new RepeatSampler(setting, { ...delays, askLoss });
    }
    case "ec-mds":
    case "ec-xor":
      return new CodingSampler(scheme, setting);
    case "hybrid":
      return new HybridSampler(scheme.shape, setting);
  }
}

/** Adds up what is drawn into `completionNs`. */
class Tally {
  readonly completionNs: Float64Array;
  private readonly chunks: number;
  private filled = 0;
  private sentChunks = 0;
  private fallbacks = 0;

  constructor(trials: number, setting: Setting) {
    this.completionNs = new Float64Array(trials);
    this.chunks = messageShape(setting).chunks;
  }

  add({ completionNs, fellBack, sentChunks }: Readonly<Sample>): void {
    this.completionNs[this.filled++] = completionNs;
    this.sentChunks += sentChunks;
    if (fellBack) this.fallbacks++;
  }

  get samples(): Samples {
    const { chunks, completionNs, filled } = this;
    const own = Math.max(1, filled) * Math.max(1, chunks);
    return {
      completionNs,
      wireOverhead: chunks === 0 ? 0 : this.sentChunks / own - 1,
      fallbackProbability: this.fallbacks / Math.max(1, filled),
    };
  }
}

export interface TrialRange {
  readonly seed: number;
  /** Trials [first, first + count). */
  readonly first: number;
  readonly count: number;
}

/** These trials of the run that the seed names: the same whatever is asked for beside them. */
export function sampleTrials(
  scheme: Scheme,
  setting: Setting,
  { seed, first, count }: TrialRange,
): Samples {
  const sampler = createSampler(scheme, setting);
  const tally = new Tally(count, setting);
  const streams = new Random(seed, "model");
  const end = first + count;
  for (let stream = Math.floor(first / TRIALS_PER_STREAM); ; stream++) {
    const from = stream * TRIALS_PER_STREAM;
    const to = Math.min(end, from + TRIALS_PER_STREAM);
    if (from >= end) return tally.samples;
    const random = streams.stream(`${stream}`);
    for (let trial = from; trial < to; trial++) {
      const sample = sampler.draw(random);
      if (trial >= first) tally.add(sample);
    }
  }
}

/** What samples say of all messages. Errors: INVALID_ARGUMENT when there are none. */
export function predictionOfSamples(samples: Samples): Prediction {
  const ascending = Float64Array.from(samples.completionNs).sort();
  const within = (ns: number) => {
    let low = 0;
    let high = ascending.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (ascending[middle]! <= ns) low = middle + 1;
      else high = middle;
    }
    return low / ascending.length;
  };
  return {
    method: "sampled",
    exact: false,
    caveat: `${ascending.length} samples`,
    meanNs: mean(ascending),
    quantileNs: (q) => percentileSorted(ascending, 100 * q),
    cdf: within,
    wireOverhead: samples.wireOverhead,
    fallbackProbability: samples.fallbackProbability,
  };
}
