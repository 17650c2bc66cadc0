/**
 * The hybrid scheme in virtual time: to the nanosecond where nothing is random, and against the erasure channel's bound
 * where chunks are lost at random. T: time of a chunk on the wire; the n-th on the wire arrives at n T + RTT / 2.
 */
import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { copySpacingNs } from "../../../src/reliability/acknowledger.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import { hybrid, hybridPolicy } from "../../../src/reliability/hybrid.ts";
import {
  LOSS_KIND,
  NEED_KIND,
  PLAN_KIND,
  readPlan,
} from "../../../src/reliability/hybrid-frames.ts";
import type { LossSample, SessionParams } from "../../../src/reliability/policy.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";
import type { Outcome, Scenario, World } from "./harness.ts";
import { simulate } from "./harness.ts";

const RTT = 2.5e6;
const T = 1311;
/** Chunks that are injected in an RTT. */
const BDP = Math.ceil(RTT / T);
/** A gap, or the word that all is sent, is acted on after so long. */
const WAIT = Math.ceil(RTT / 64);
const SPACING = copySpacingNs({ path: { rttNs: RTT } } as SessionParams);

const seen = (loss: number): LossSample[] => {
  const lost = Math.round(loss * 1e6);
  return [{ chunks: 1e6, lost, runs: Math.round(lost * (1 - loss)) }];
};
const CLEAN = { rttNs: RTT, lossSamples: seen(0), seed: 1 };

/** Blocks of 8 with 2 chunks of parity at once, and 6 for repairs. */
const small = hybridPolicy("small", {
  target: 1e-3,
  choose: () => ({ k: 8, rows: 4, parity: 2, interleave: 1 }),
});

const ofType = (frames: readonly ControlFrame[], type: number) =>
  frames.filter((frame) => frame.kind === "policy" && frame.type === type);
const isType = (frame: ControlFrame, type: number) => ofType([frame], type).length === 1;
const nacks = ({ framesFromReceiver }: Outcome) =>
  framesFromReceiver.filter(({ kind }) => kind === "nack");
const needs = ({ framesFromReceiver }: Outcome) => ofType(framesFromReceiver, NEED_KIND);
/** Says that everything is sent. */
const isEnd = (frame: ControlFrame, chunkCount: number) =>
  readPlan(frame, chunkCount, Infinity)?.sentChunks === chunkCount;

describe("without loss", () => {
  test.each([1, 2, 33, 500, BDP, 2 * BDP, 4 * BDP])(
    "%i chunks take their injection and an RTT, whatever parity follows",
    (chunkCount) => {
      const outcome = simulate({ ...CLEAN, policy: hybrid(), chunkCount });
      expect(outcome.completionNs).toBe(chunkCount * T + RTT);
      expect([...nacks(outcome), ...needs(outcome)]).toEqual([]);
      expect(outcome.sender.counters.chunksRetransmitted).toBe(0);
      expect(outcome.decodes).toBe(0);
    },
  );

  test("on a path of which nothing is known, parity that will be needed is all that costs time", () => {
    const chunkCount = 1000;
    const outcome = simulate({ policy: hybrid(), chunkCount, rttNs: RTT, seed: 1 });
    const excess = outcome.completionNs - (chunkCount * T + RTT);
    // The guess is a loss of one in a hundred.
    expect(excess).toBeLessThanOrEqual(0.01 * chunkCount * T);
    expect(outcome.sender.counters.parityChunks).toBeGreaterThan(0.1 * chunkCount);
  });

  test("a long message has parity for its last round trip only", () => {
    const lossSamples = seen(1e-3);
    const scenario = { policy: hybrid(), rttNs: RTT, seed: 1, lossSamples };
    const short = simulate({ ...scenario, chunkCount: BDP }).sender.counters.parityChunks!;
    const long = simulate({ ...scenario, chunkCount: 10 * BDP }).sender.counters.parityChunks!;
    expect(short).toBeGreaterThan(0);
    expect(long).toBeLessThan(2 * short);
  });

  test("nothing to send is done with the first ACK", () => {
    const outcome = simulate({ policy: hybrid(), chunkCount: 0, seed: 1, rttNs: RTT });
    expect(outcome.completionNs).toBe(RTT);
    expect(outcome.framesFromSender).toEqual([]);
  });
});

describe("a loss in the head", () => {
  const chunkCount = 4 * BDP;
  const lose = (victims: readonly number[], more: Partial<Scenario> = {}) =>
    simulate({
      ...CLEAN,
      policy: hybrid(),
      chunkCount,
      losesChunk: (chunk, trip) => victims.includes(chunk) && trip === 1,
      ...more,
    });

  test.each([0, 1, 777, BDP, 2 * BDP, 3 * BDP - 300])(
    "of chunk %i costs its repair's injection",
    (victim) => {
      const outcome = lose([victim]);
      expect(outcome.completionNs).toBe((chunkCount + 1) * T + RTT);
      expect(outcome.trips[victim]).toBe(2);
      expect(needs(outcome)).toEqual([]);
    },
  );

  test("of many is repaired inside the stream", () => {
    // Few enough that none is expected in a block of the tail.
    const victims = Array.from({ length: 8 }, (_, i) => 13 + 500 * i);
    const outcome = lose(victims);
    expect(outcome.completionNs).toBe((chunkCount + victims.length) * T + RTT);
  });

  test("is repaired in time though the first report of it is lost", () => {
    let count = 0;
    const losesFrame = (frame: ControlFrame) => frame.kind === "nack" && ++count === 1;
    const outcome = lose([100], { losesFrame });
    expect(count).toBeGreaterThan(1);
    // The repair comes later than expected, so that it is asked for once more.
    expect(outcome.completionNs).toBeLessThanOrEqual((chunkCount + 2) * T + RTT);
  });

  test("of a chunk and of its late repair is made good by parity, in no more time than that takes", () => {
    const victim = 3 * BDP - 300;
    const losesChunk = (chunk: number, trip: number) => chunk === victim && trip <= 2;
    // What is known of loss makes rows for late repairs worth it.
    const outcome = lose([], { losesChunk, lossSamples: seen(0.01) });
    const { parityChunks = 0 } = outcome.sender.counters;
    expect(needs(outcome)).toEqual([]);
    expect(outcome.receiver.counters!.chunksRecovered).toBe(1);
    expect(outcome.completionNs).toBeLessThanOrEqual((chunkCount + 1 + parityChunks) * T + RTT);
  });
});

describe("a loss in the tail", () => {
  test("of as many chunks a block as it has parity costs the parity's injection", () => {
    const chunkCount = 80;
    for (const victims of [[0], [79], [3, 7], [0, 1, 8, 9, 72, 79]]) {
      const losesChunk = (chunk: number) => victims.includes(chunk);
      const outcome = simulate({ ...CLEAN, policy: small, chunkCount, losesChunk });
      const each = new Set(victims.map((chunk) => Math.floor(chunk / 8)));
      const first = outcome.ranges.findIndex(({ parity }) => parity === true);
      expect(outcome.ranges.slice(0, first).every(({ parity }) => parity !== true)).toBe(true);
      // The first row of every block, then the second of each: the last that is needed.
      const most = victims.length > each.size ? 2 : 1;
      const last = Math.max(...each) + (most - 1) * 10;
      expect(outcome.completionNs).toBe((chunkCount + last + 1) * T + RTT);
      expect([...nacks(outcome), ...needs(outcome)]).toEqual([]);
      expect(outcome.sender.counters).toMatchObject({ chunksRetransmitted: 0, fallbacks: 0 });
      expect(outcome.receiver.counters!.chunksRecovered).toBe(victims.length);
    }
  });

  const chunkCount = 80;
  const ROWS = 20;
  /** Three of one block, which has two rows. */
  const losesChunk = (chunk: number) => chunk >= 16 && chunk < 19;
  const stuck = { ...CLEAN, policy: small, chunkCount, losesChunk };
  const END = (chunkCount + ROWS) * T;
  /** The end is said, waited on, asked for; one fresh row goes out and is acknowledged. */
  const REPAIR = WAIT + RTT + T + RTT;

  test("of more costs one RTT, the reordering window, and one fresh row", () => {
    const outcome = simulate(stuck);
    expect(outcome.completionNs).toBe(END + REPAIR);
    expect(outcome.sender.counters).toMatchObject({ chunksRetransmitted: 0, fallbacks: 1 });
    expect(outcome.receiver.counters).toMatchObject({ fallbacks: 1, chunksRecovered: 3 });
    expect(outcome.sender.counters.timeouts).toBe(0);
  });

  test.each([1, 2])("when %i of the words for it are lost, their spacing more", (copies) => {
    let count = 0;
    const losesNeed = (frame: ControlFrame) => isType(frame, NEED_KIND) && ++count <= copies;
    const lost = simulate({ ...stuck, losesFrame: losesNeed });
    expect(lost.completionNs).toBe(END + REPAIR + copies * SPACING);
    count = 0;
    const losesEnd = (frame: ControlFrame) => isEnd(frame, chunkCount) && ++count <= copies;
    const late = simulate({ ...stuck, losesFrameToReceiver: losesEnd });
    expect(late.completionNs).toBe(END + REPAIR + copies * SPACING);
    expect(late.sender.counters.timeouts).toBe(0);
  });

  test("when all of a word's copies are lost, it is said again", () => {
    let count = 0;
    const losesNeed = (frame: ControlFrame) => isType(frame, NEED_KIND) && ++count <= 3;
    const lost = simulate({ ...stuck, losesFrame: losesNeed });
    expect(lost.completionNs).toBe(END + REPAIR + RTT + WAIT);
    count = 0;
    const losesEnd = (frame: ControlFrame) => isEnd(frame, chunkCount) && ++count <= 3;
    const late = simulate({ ...stuck, losesFrameToReceiver: losesEnd });
    expect(late.completionNs).toBe(END + REPAIR + 2 * SPACING + 3 * RTT);
    expect(late.sender.counters.timeouts).toBe(1);
  });

  test("of the fresh rows too: the next answer follows, and when rows are used up, data", () => {
    // All parity of the block is lost; after its four rows, the chunk itself goes out again.
    const losesParity = (chunk: number) => Math.floor(chunk / 4) === 2;
    const losesFirst = (chunk: number, trip: number) => chunk === 16 && trip === 1;
    const outcome = simulate({ ...stuck, losesChunk: losesFirst, losesParity });
    expect(outcome.trips[16]).toBe(2);
    expect(outcome.sender.counters).toMatchObject({ chunksRetransmitted: 1, fallbacks: 1 });
    expect(outcome.receiver.counters).toMatchObject({ chunksRecovered: 0, fallbacks: 1 });
  });

  test("of more is asked for again while the fresh row is being injected: one row goes out", () => {
    const chunkNs = 1.5 * SPACING;
    const three = { losesChunk: (chunk: number) => chunk < 3, chunkCount: 8, chunkNs };
    const soonNs = 10 * chunkNs + WAIT + 1.5 * RTT;
    let rows = 0;
    const meddle = ({ sender, nowNs }: World) => {
      if (nowNs < soonNs) rows = sender.counters.parityChunks!;
    };
    const { receiver } = simulate({ ...stuck, ...three, meddle });
    expect(receiver.counters!.chunksRecovered).toBe(3);
    expect(rows).toBe(3);
  });

  test("of everything, parity and data, the first time: all is delivered all the same", () => {
    const losesAll = (_: number, trip: number) => trip === 1;
    for (const policy of [small, hybrid()]) {
      const outcome = simulate({ ...stuck, policy, losesChunk: losesAll, losesParity: () => true });
      expect(outcome.sender.state).toBe("done");
      expect(outcome.trips.every((trips) => trips >= 2)).toBe(true);
    }
  });
});

describe("blocks that take turns", () => {
  const turns = hybridPolicy("turns", {
    target: 1e-3,
    choose: () => ({ k: 8, rows: 4, parity: 2, interleave: 4 }),
  });

  test.each([64, 70, 97, 320])(
    "a burst of as many as all their parity, anywhere in %i chunks, needs no repair",
    (chunkCount) => {
      // The last group may be of fewer blocks, each of which takes two.
      for (let first = 0; first + 8 <= chunkCount; first++) {
        const blocks = Math.ceil(chunkCount / 8);
        const inLast = first + 8 > Math.floor(chunkCount / 32) * 32;
        const length = inLast ? 2 * Math.max(1, blocks % 4) : 8;
        const losesNth = (n: number) => n >= first && n < first + Math.min(length, 8);
        const outcome = simulate({ ...CLEAN, policy: turns, chunkCount, losesNth });
        expect(outcome.sender.counters, `burst at ${first}`).toMatchObject({ fallbacks: 0 });
      }
    },
  );

  test("the planned shape spreads the bursts that were seen", () => {
    // Runs of ten chunks, one chunk in a hundred lost.
    const lossSamples = [{ chunks: 1e6, lost: 1e4, runs: 1e3 }];
    let fallbacks = 0;
    for (let first = 0; first < 900; first += 7) {
      const losesNth = (n: number) => n >= first && n < first + 10;
      const outcome = simulate({
        ...CLEAN,
        lossSamples,
        policy: hybrid(),
        chunkCount: 1000,
        losesNth,
      });
      fallbacks += outcome.sender.counters.fallbacks!;
    }
    expect(fallbacks).toBe(0);
  });
});

describe("what is told of losses", () => {
  test.each([500, 3 * BDP])(
    "both ends know at the end what was lost of %i chunks",
    (chunkCount) => {
      const draws = new Random(5, "losses");
      const victims = new Set<number>();
      for (let chunk = 0; chunk < chunkCount; chunk++) if (draws.chance(0.02)) victims.add(chunk);
      const losesChunk = (chunk: number, trip: number) => victims.has(chunk) && trip === 1;
      const outcome = simulate({ policy: hybrid(), chunkCount, seed: 5, rttNs: RTT, losesChunk });
      const { loss } = outcome.senderPath;
      expect(loss.chunks).toBe(chunkCount);
      const runs = [...victims].filter((chunk) => !victims.has(chunk - 1)).length;
      expect(loss.burstChunks).toBeCloseTo((victims.size + 1) / (runs + 1), 1);
      expect(loss.probability).toBeGreaterThan((0.8 * victims.size) / chunkCount);
      expect(loss.probability).toBeLessThan((1.2 * victims.size + 1) / chunkCount);
    },
  );

  test("a long message learns it in time for its tail", () => {
    const scenario = { policy: hybrid(), chunkCount: 6 * BDP, seed: 5, rttNs: RTT };
    const clean = simulate(scenario).sender.counters.parityChunks!;
    const lossy = simulate({ ...scenario, chunks: { loss: 0.03 } }).sender.counters.parityChunks!;
    expect(clean).toBeLessThan(0.03 * BDP);
    expect(lossy).toBeGreaterThan(0.04 * BDP);
  });

  test("losing all of it costs knowledge and nothing else", () => {
    const scenario = { policy: hybrid(), chunkCount: 500, seed: 5, rttNs: RTT };
    const plain = simulate(scenario);
    const losesFrame = (frame: ControlFrame) => isType(frame, LOSS_KIND);
    const outcome = simulate({ ...scenario, losesFrame });
    expect(outcome.completionNs).toBe(plain.completionNs);
    expect(outcome.senderPath.loss.chunks).toBe(0);
  });
});

describe("the plan", () => {
  test.each([1, 3, 5])(
    "when its first %i frames are lost, that costs time only where parity is needed",
    (count) => {
      const chunkCount = 80;
      const losesFrameToReceiver = (_: ControlFrame, index: number) => index < count;
      const losesChunk = (chunk: number) => chunk === 40;
      const clean = simulate({ ...CLEAN, policy: small, chunkCount, losesFrameToReceiver });
      expect(clean.completionNs).toBe(chunkCount * T + RTT);
      const outcome = simulate({
        ...CLEAN,
        policy: small,
        chunkCount,
        losesFrameToReceiver,
        losesChunk,
      });
      expect(outcome.receiver.counters!.chunksRecovered).toBe(1);
      expect(outcome.completionNs).toBeLessThan(7 * RTT);
    },
  );

  test("when all of it is lost until the end, gaps are asked for meanwhile", () => {
    const chunkCount = 3 * BDP;
    const isTooSoon = (frame: ControlFrame) =>
      isType(frame, PLAN_KIND) && !isEnd(frame, chunkCount);
    const outcome = simulate({
      ...CLEAN,
      policy: hybrid(),
      chunkCount,
      losesFrameToReceiver: isTooSoon,
      losesChunk: (chunk, trip) => chunk % 1000 === 5 && trip === 1,
    });
    expect(outcome.trips[5]).toBe(2);
    expect(outcome.sender.state).toBe("done");
  });

  test("it goes out three times at the start, when the tail begins, and at the end", () => {
    const chunkCount = 4 * BDP;
    const outcome = simulate({ ...CLEAN, policy: hybrid(), chunkCount });
    const plans = outcome.framesFromSender.map((frame) => readPlan(frame, chunkCount, Infinity));
    expect(plans.slice(0, 3).map((plan) => plan?.tailFirst)).toEqual(Array(3).fill(undefined));
    const tail = plans.slice(3, 6).map((plan) => plan?.tailFirst);
    expect(new Set(tail).size).toBe(1);
    expect(chunkCount - tail[0]!).toBeGreaterThan(BDP);
    expect(chunkCount - tail[0]!).toBeLessThan(1.1 * BDP);
    expect(plans.slice(6, 9).map((plan) => plan?.sentChunks)).toEqual(Array(3).fill(chunkCount));
  });
});

describe("late and doubled chunks", () => {
  test("are not taken for lost where something still comes in", () => {
    for (const seed of [1, 2, 3]) {
      const chunks = { jitterNs: Math.floor(RTT / 70), duplicate: 0.3 };
      const outcome = simulate({ ...CLEAN, policy: hybrid(), chunkCount: 3000, seed, chunks });
      expect(outcome.sender.counters).toMatchObject({ chunksRetransmitted: 0, fallbacks: 0 });
    }
  });

  test("that are later than the window widen it: hardly any are sent twice", () => {
    const chunks = { jitterNs: RTT / 5 };
    const outcome = simulate({ ...CLEAN, policy: hybrid(), chunkCount: 10_000, chunks });
    expect(outcome.sender.counters.chunksRetransmitted).toBeLessThan(300);
    // What was only late counts as such.
    expect(outcome.senderPath.loss.probability).toBeLessThan(0.01);
  });
});

describe("where no rate is set", () => {
  const unpaced = { ...CLEAN, policy: hybrid(), rateBps: Infinity };

  test("the pace is measured in time for the tail", () => {
    const lossSamples = seen(0.01);
    const outcome = simulate({ ...unpaced, lossSamples, chunkCount: 5 * BDP });
    expect(outcome.completionNs).toBeLessThan((5 * BDP + 100) * T + RTT);
    expect(outcome.sender.counters.parityChunks).toBeGreaterThan(10);
    expect(outcome.sender.counters.parityChunks).toBeLessThan(0.2 * BDP);
  });

  test("a message's wait for its repairs is no pace: the next one, shorter than an RTT, is all tail", () => {
    const path = new RttEstimator({ initialRttNs: RTT });
    const common = { policy: hybrid(), path, seed: 1, rttNs: RTT };
    const isFirst = (chunk: number, trip: number) => chunk < 50 && trip === 1;
    const losesParity = () => true;
    const waited = simulate({ ...common, chunkCount: 100, losesChunk: isFirst, losesParity });
    expect(waited.sender.counters.fallbacks).toBeGreaterThan(0);
    expect(waited.completionNs).toBeGreaterThan(2 * RTT);
    const chunkCount = Math.floor(BDP / 2);
    const next = simulate({ ...common, chunkCount });
    expect(readPlan(next.framesFromSender[0]!, chunkCount, Infinity)?.tailFirst).toBe(0);
  });

  test("a short message is all tail", () => {
    const losesChunk = (chunk: number) => chunk === 0;
    const outcome = simulate({ ...unpaced, lossSamples: seen(0.01), chunkCount: 100, losesChunk });
    expect(outcome.completionNs).toBeLessThan(120 * T + RTT);
  });
});

describe("windows", () => {
  test.each([1, 2, 3, 5, 8, 9, 100])("of %i: no deadlock, whatever is lost", (windowChunks) => {
    for (let seed = 1; seed <= 6; seed++)
      for (const policy of [small, hybrid()]) {
        const loss = { loss: 0.25 };
        const frames = { framesToSender: loss, framesToReceiver: loss };
        const common = { chunkCount: 41, seed, rttNs: 1e6, windowChunks, policy };
        expect(simulate({ ...common, chunks: loss, ...frames }).sender.state).toBe("done");
        // A whole window lost, so that nothing at all comes of it.
        simulate({ ...common, losesChunk: (_, trip) => trip === 1, losesParity: () => true });
      }
  });

  test("shorter than an RTT: losses before the last window's worth are repaired without waiting for the end", () => {
    const windowChunks = 200;
    const chunkCount = 4000;
    const scenario = { ...CLEAN, policy: hybrid(), chunkCount, windowChunks };
    const clean = simulate(scenario);
    const losesChunk = (chunk: number, trip: number) => chunk === 1000 && trip === 1;
    const outcome = simulate({ ...scenario, losesChunk });
    expect(outcome.trips[1000]).toBe(2);
    expect(outcome.completionNs).toBeLessThan(clean.completionNs + RTT / 2);
  });
});

test("the counters add up, whatever happens", () => {
  let recovered = 0;
  let fallbacks = 0;
  for (let seed = 1; seed <= 80; seed++) {
    const random = new Random(seed, "hybrid");
    const rows = random.int(1, 4);
    const shape = { k: random.int(2 * rows, 20), rows, interleave: random.int(1, 5) };
    const parity = random.int(0, rows);
    const choose = (chunkCount: number) => {
      // Half of the message's chunks is what there is room for; its last block counts as whole.
      const most = Math.floor(chunkCount / 2 / Math.ceil(chunkCount / shape.k));
      return { ...shape, rows: Math.min(rows, Math.max(1, most)), parity: Math.min(parity, most) };
    };
    const isPlanned = random.chance(0.3);
    const policy = isPlanned ? hybrid() : hybridPolicy("random", { target: 0.1, choose });
    const frames = { loss: random.float() * 0.3, jitterNs: random.int(0, 1e6) };
    const chunkCount = random.int(1, 2000);
    const outcome = simulate({
      policy,
      chunkCount,
      seed,
      rttNs: 10 ** (4 + 3 * random.float()),
      chunks: { loss: random.float() * 0.3, jitterNs: random.int(0, 2e5), duplicate: 0.1 },
      framesToSender: frames,
      framesToReceiver: frames,
      codingNs: random.int(0, 1e6),
      codingVaries: true,
      batchChunks: random.int(1, 20),
      progressNs: random.int(0, 1e5),
      windowChunks: random.int(1, 4000),
      rateBps: random.chance(0.3) ? Infinity : (65_536 * 8e9) / T,
    });
    const { sender, chunksArrived, chunksRepaired } = outcome;
    const counters = outcome.receiver.counters!;
    expect(chunksArrived + chunksRepaired + counters.chunksRecovered).toBe(chunkCount);
    expect(counters.parityUsed + counters.parityWasted).toBeLessThanOrEqual(
      sender.counters.parityChunks!,
    );
    recovered += counters.chunksRecovered;
    fallbacks += sender.counters.fallbacks!;
  }
  expect(recovered).toBeGreaterThan(100);
  expect(fallbacks).toBeGreaterThan(30);
});

test("the same seed gives the same run", () => {
  const heavy = { loss: 0.3, jitterNs: 5e6, duplicate: 0.2 };
  const run = () => {
    const scenario = { chunkCount: 3000, seed: 9, chunks: heavy, framesToSender: heavy };
    const outcome = simulate({ ...scenario, policy: hybrid(), rttNs: RTT, codingNs: 1e6 });
    return [outcome.completionNs, outcome.steps, outcome.ranges];
  };
  expect(run()).toEqual(run());
});

describe("against the bound M T / (1 - P) + RTT, where loss is known and frames are lost as well", () => {
  const TRIALS = 20;
  const SEED = 300;
  /** As 128 KiB, 128 MiB, 1, 2 and 8 GiB are to an RTT of 25 ms, a tenth of all. */
  const COUNTS = [2, 205, 1638, 3277, 13_107];
  console.log(`hybrid: ${TRIALS} trials each, seeds from ${SEED}`);

  test.each([
    { loss: 1e-6, most: 1.001 },
    { loss: 1e-3, most: 1.02 },
    { loss: 1e-2, most: 1.03 },
    { loss: 1e-1, most: 1.06 },
  ])("chunk loss $loss: at most $most in the mean", ({ loss, most }) => {
    for (const chunkCount of COUNTS) {
      const bound = (chunkCount * T) / (1 - loss) + RTT;
      const frames = { loss: loss / 16 };
      const sides = { framesToSender: frames, framesToReceiver: frames };
      let sum = 0;
      for (let trial = 0; trial < TRIALS; trial++) {
        const scenario = { chunkCount, seed: SEED + trial, rttNs: RTT, lossSamples: seen(loss) };
        const { completionNs } = simulate({
          ...scenario,
          policy: hybrid(),
          chunks: { loss },
          ...sides,
        });
        sum += completionNs / bound;
      }
      expect(sum / TRIALS, `${chunkCount} chunks`).toBeLessThan(most);
    }
  });
});
