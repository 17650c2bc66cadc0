import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { LossEstimator } from "../../../src/reliability/loss-estimate.ts";
import type { LossSample } from "../../../src/reliability/policy.ts";

/** Chunks of a message. */
const CHUNKS = 2048;

/** Trials until the first success, 1 or more. */
function geometric(random: Random, probability: number): number {
  return 1 + Math.floor(Math.log(1 - random.float()) / Math.log1p(-probability));
}

/** A path whose runs of lost chunks have a mean length of `burst`; with none given, that of independent losses. */
class Path {
  private readonly random: Random;
  private probability = 0;
  private burst = 1;
  /** Chunks until the next run begins, and that are left of the one under way. */
  private gap = 0;
  private left = 0;

  constructor(seed: number) {
    this.random = new Random(seed, "path");
  }

  become(probability: number, burst = 1 / (1 - probability)): this {
    this.probability = probability;
    this.burst = burst;
    this.left = 0;
    this.nextGap();
    return this;
  }

  private nextGap(): void {
    const meanGap = (this.burst * (1 - this.probability)) / this.probability;
    this.gap = geometric(this.random, Math.min(1 - 1e-12, 1 / meanGap));
  }

  message(chunks = CHUNKS): LossSample {
    let lost = 0;
    let runs = 0;
    for (let at = 0; at < chunks; ) {
      if (this.left > 0) {
        const taken = Math.min(this.left, chunks - at);
        runs++;
        lost += taken;
        at += taken;
        this.left -= taken;
        if (this.left === 0) this.nextGap();
      } else {
        const taken = Math.min(this.gap, chunks - at);
        at += taken;
        this.gap -= taken;
        if (this.gap === 0) this.left = geometric(this.random, 1 / this.burst - 1e-12);
      }
    }
    return { chunks, lost, runs };
  }
}

function learn(path: Path, messages: number, estimator = new LossEstimator(), chunks = CHUNKS) {
  for (let i = 0; i < messages; i++) estimator.sample(path.message(chunks));
  return estimator;
}

const SEEDS = Array.from({ length: 100 }, (_, i) => i + 1);

describe("an estimate of chunk loss", () => {
  test("begins cautious, knowing nothing", () => {
    const estimator = new LossEstimator();
    expect(estimator.chunks).toBe(0);
    expect(estimator.burstChunks).toBe(1);
    expect(estimator.probability).toBeCloseTo(0.01, 6);
    expect(estimator.upper).toBeGreaterThan(0.05);
    expect(estimator.upper).toBeLessThan(0.12);
  });

  test.each([1e-4, 1e-3, 1e-2, 0.1, 0.3])("converges to a loss of %d", (probability) => {
    const messages = Math.ceil(2000 / probability / CHUNKS);
    for (const seed of SEEDS.slice(0, 10)) {
      const estimator = learn(new Path(seed).become(probability), messages);
      expect(estimator.probability / probability, `seed ${seed}`).toBeGreaterThan(0.88);
      expect(estimator.probability / probability, `seed ${seed}`).toBeLessThan(1.12);
      expect(estimator.upper, `seed ${seed}`).toBeGreaterThan(estimator.probability);
      expect(estimator.upper / estimator.probability, `seed ${seed}`).toBeLessThan(1.1);
    }
  });

  test("of a path that loses nothing falls as one over what was seen", () => {
    const estimator = learn(new Path(1).become(1e-15), 1000);
    expect(estimator.probability).toBeCloseTo(0.5 / (1000 * CHUNKS), 9);
    expect(estimator.upper).toBeLessThan(3e-6);
  });

  test.each([
    [1e-5, 1],
    [1e-3, 1],
    [0.1, 1 / 0.9],
    [1e-3, 4],
    [1e-2, 16],
  ])("of loss %d in runs of %d is below its bound in most cases", (probability, burst) => {
    // The first message may well hide that losses come in long runs.
    for (const messages of burst < 2 ? [1, 10, 100] : [10, 30, 100]) {
      const below = SEEDS.filter((seed) => {
        const { upper } = learn(new Path(seed).become(probability, burst), messages);
        return upper >= probability;
      });
      expect(below.length, `${messages} messages`).toBeGreaterThanOrEqual(90);
    }
  });

  test.each([1.5, 4, 16])("tells the mean length of runs: %d chunks", (burst) => {
    for (const seed of SEEDS.slice(0, 10)) {
      const { burstChunks } = learn(new Path(seed).become(1e-2, burst), 1000);
      expect(burstChunks / burst, `seed ${seed}`).toBeGreaterThan(0.85);
      expect(burstChunks / burst, `seed ${seed}`).toBeLessThan(1.15);
    }
  });

  test.each([
    [1e-6, 1e-2],
    [1e-2, 1e-5],
    [1e-2, 1e-4],
    [1e-4, 1e-1],
  ])("forgets within ten messages when loss %d becomes %d", (before, after) => {
    for (const seed of SEEDS.slice(0, 30)) {
      const path = new Path(seed).become(before);
      const estimator = learn(path, 200);
      learn(path.become(after), 10, estimator);
      expect(estimator.chunks, `seed ${seed}`).toBeLessThanOrEqual(12 * CHUNKS);
      // Of a rare loss ten messages can only tell that it is rare.
      const known = Math.max(after, 1 / (10 * CHUNKS));
      expect(estimator.probability / known, `seed ${seed}`).toBeLessThan(5);
      expect(estimator.upper / after, `seed ${seed}`).toBeGreaterThan(1 / 2);
    }
  });

  test("follows a change whatever the length of messages", () => {
    for (const chunks of [2, 16, 200]) {
      const path = new Path(5).become(1e-2);
      const estimator = learn(path, Math.ceil(40_000 / chunks), new LossEstimator(), chunks);
      learn(path.become(1e-5), Math.ceil(8000 / chunks), estimator, chunks);
      expect(estimator.probability, `${chunks} chunks`).toBeLessThan(1e-3);
      learn(path.become(1e-1), Math.ceil(500 / chunks), estimator, chunks);
      expect(estimator.probability, `${chunks} chunks`).toBeGreaterThan(0.04);
    }
  });

  test("seldom takes chance for a change", () => {
    let kept = 0;
    for (const seed of SEEDS) {
      const estimator = learn(new Path(seed).become(1e-3), 300);
      if (estimator.chunks === 300 * CHUNKS) kept++;
    }
    expect(kept).toBeGreaterThanOrEqual(98);
  });

  test("keeps what it knows of any number of samples in little memory, and forgets the oldest", () => {
    const estimator = new LossEstimator();
    const random = new Random(3, "sizes");
    for (let i = 0; i < 20_000; i++) {
      estimator.sample({ chunks: 2 ** random.int(0, 20), lost: 0, runs: 0 });
    }
    expect(estimator.chunks).toBeLessThanOrEqual(2 ** 27);
    expect(estimator.chunks).toBeGreaterThan(2 ** 25);
    const { buckets } = estimator as unknown as { buckets: unknown[] };
    expect(buckets.length).toBeLessThan(200);
  });

  test("ignores what makes no sense", () => {
    const estimator = learn(new Path(1).become(0.01), 5);
    const before = [estimator.chunks, estimator.probability, estimator.upper];
    for (const [chunks, lost, runs] of [
      [0, 0, 0],
      [-5, 0, 0],
      [10, 11, 1],
      [10, 5, 6],
      [10, 5, 0],
      [10, -1, -1],
      [1.5, 1, 1],
      [10, Number.NaN, 1],
      [Infinity, 1, 1],
    ] as const) {
      estimator.sample({ chunks, lost, runs });
    }
    expect([estimator.chunks, estimator.probability, estimator.upper]).toEqual(before);
  });

  test("stays below 1 when everything is lost", () => {
    const estimator = new LossEstimator();
    for (let i = 0; i < 20; i++) estimator.sample({ chunks: 100, lost: 100, runs: 1 });
    expect(estimator.probability).toBeLessThanOrEqual(0.95);
    expect(estimator.upper).toBeLessThan(1);
  });
});
