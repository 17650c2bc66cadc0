/** What erasure coding promises beyond every policy's promises; its times are in erasure-closed-form.test.ts. */
import { describe, expect, test } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { ChunkBitmap } from "../../../src/reliability/bitmap.ts";
import { ENCODE_AHEAD_BLOCKS } from "../../../src/reliability/block-schedule.ts";
import {
  erasureCodingMds,
  erasureCodingXor,
  SENT_KIND,
} from "../../../src/reliability/erasure-coding.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import type { SessionParams } from "../../../src/reliability/policy.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";
import type { Outcome, Scenario } from "./harness.ts";
import { simulate } from "./harness.ts";

const RTT = 25e6;
const T = 1311;
const mds = erasureCodingMds({ k: 8, m: 3 });
const xor = erasureCodingXor({ k: 8, m: 3 });
const BOTH = [mds, xor];

const ofKind = (frames: readonly ControlFrame[], kind: string) =>
  frames.filter((frame) => frame.kind === kind);

function params(chunkCount: number, more: Partial<SessionParams> = {}): SessionParams {
  return {
    messageBytes: chunkCount * 65_536,
    chunkBytes: 65_536,
    chunkCount,
    packetBytes: 4096,
    windowChunks: 1 << 20,
    frameBytesMax: 1400,
    rtoFloorNs: 1,
    path: new RttEstimator({ initialRttNs: RTT }),
    startNs: 0,
    ...more,
  };
}

describe.each(BOTH)("$name", (policy) => {
  const run = (scenario: Omit<Scenario, "policy">) => simulate({ policy, ...scenario });

  test("nothing lost, however late and doubled: no fallback, nothing sent twice", () => {
    for (const seed of [1, 2, 3, 4]) {
      const chunks = { jitterNs: RTT / 5, duplicate: 0.3 };
      const frames = { jitterNs: RTT, duplicate: 0.3, loss: 0.2 };
      const both = { framesToSender: frames, framesToReceiver: frames };
      const outcome = run({ chunkCount: 333, seed, chunks, ...both, codingNs: 3e5 });
      expect(outcome.sender.counters).toMatchObject({ chunksRetransmitted: 0, fallbacks: 0 });
      expect(outcome.receiver.counters).toMatchObject({ fallbacks: 0 });
      expect(ofKind(outcome.framesFromReceiver, "nack")).toEqual([]);
    }
  });

  test("the counters add up, whatever happens", () => {
    let recovered = 0;
    let repaired = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed, "counters");
      const loss = random.float() * 0.3;
      const frames = { loss: random.float() * 0.3, jitterNs: random.int(0, 1e7) };
      const outcome = run({
        chunkCount: random.int(1, 300),
        seed,
        chunks: { loss, jitterNs: random.int(0, 2e6), duplicate: 0.1 },
        framesToSender: frames,
        framesToReceiver: frames,
        codingNs: random.int(0, 1e6),
        codingVaries: true,
        batchChunks: random.int(1, 20),
        progressNs: random.int(0, 1e5),
        windowChunks: random.int(1, 400),
      });
      const { sender, chunksArrived, chunksRepaired } = outcome;
      const counters = outcome.receiver.counters!;
      const { chunkCount } = { chunkCount: outcome.trips.length };
      expect(chunksArrived + chunksRepaired + counters.chunksRecovered).toBe(chunkCount);
      expect(counters.parityUsed).toBe(counters.chunksRecovered);
      const handedOut = sender.counters.parityChunks!;
      expect(counters.parityUsed + counters.parityWasted).toBeLessThanOrEqual(handedOut);
      expect(sender.counters.fallbacks!).toBeLessThanOrEqual(counters.fallbacks);
      expect(sender.counters.chunksRetransmitted).toBeGreaterThanOrEqual(chunksRepaired);
      if (counters.fallbacks === 0) expect(sender.counters.chunksRetransmitted).toBe(0);
      recovered += counters.chunksRecovered;
      repaired += chunksRepaired;
    }
    expect(recovered).toBeGreaterThan(100);
    expect(repaired).toBeGreaterThan(100);
  });

  test("a decode that late packets outrun recovers what is left, or nothing, and harms nothing", () => {
    let vain = 0;
    for (let seed = 1; seed <= 30; seed++) {
      const chunks = { jitterNs: 60 * T, duplicate: 0.5 };
      const outcome = run({ chunkCount: 64, seed, chunks, codingNs: 40 * T, codingVaries: true });
      expect(outcome.sender.counters.chunksRetransmitted).toBe(0);
      expect(outcome.receiver.counters!.fallbacks).toBe(0);
      if (outcome.decodes > 0 && outcome.receiver.counters!.chunksRecovered === 0) vain++;
    }
    expect(vain).toBeGreaterThan(0);
  });

  test("a block whose decode fails falls back", () => {
    const losesChunk = (chunk: number, trip: number) => chunk === 9 && trip === 1;
    const outcome = run({ chunkCount: 40, seed: 1, losesChunk, failsDecode: () => true });
    expect(outcome.decodes).toBe(1);
    expect(outcome.receiver.counters).toMatchObject({ fallbacks: 1, chunksRecovered: 0 });
    expect(outcome.sender.counters).toMatchObject({ fallbacks: 1, chunksRetransmitted: 1 });
  });

  test("everything lost once, parity too: asked for after one SENT, and sent once more", () => {
    const losesChunk = (_: number, trip: number) => trip === 1;
    const outcome = run({ chunkCount: 50, seed: 1, losesChunk, losesParity: () => true });
    expect(outcome.trips.every((trips) => trips === 2)).toBe(true);
    expect(outcome.receiver.counters).toMatchObject({ fallbacks: 7, chunksRecovered: 0 });
    expect(ofKind(outcome.framesFromReceiver, "nack")).toHaveLength(1);
  });

  test("all data lost and the parity not: what can be made is not asked for", () => {
    const chunkCount = 3;
    const outcome = run({ chunkCount, seed: 1, losesChunk: () => true });
    expect(outcome.receiver.counters).toMatchObject({ fallbacks: 0, chunksRecovered: 3 });
    expect(outcome.sender.counters.chunksRetransmitted).toBe(0);
  });

  test.each([1, 2, 3, 5, 8, 9])(
    "a window of %i, smaller than a block or hardly larger: no deadlock, whatever is lost",
    (windowChunks) => {
      for (let seed = 1; seed <= 10; seed++) {
        const loss = { loss: 0.25 };
        const frames = { framesToSender: loss, framesToReceiver: loss };
        const common = { chunkCount: 41, seed, rttNs: 1e6, windowChunks };
        const outcome = run({ ...common, chunks: loss, ...frames });
        expect(outcome.sender.state).toBe("done");
      }
      // A whole window lost, so that nothing at all comes of it.
      const losesChunk = (_: number, trip: number) => trip === 1;
      run({ chunkCount: 41, seed: 1, rttNs: 1e6, windowChunks, losesChunk });
    },
  );

  test("a window that is full for a round trip is no stall: SENT says once an RTT how far it is", () => {
    const outcome = run({ chunkCount: 400, seed: 1, windowChunks: 50 });
    const sent = ofKind(outcome.framesFromSender, "policy");
    expect(outcome.sender.counters.timeouts).toBe(0);
    expect(sent.length).toBeGreaterThan(3);
    expect(sent.length).toBeLessThanOrEqual(3 + outcome.completionNs / RTT);
  });

  test("the repair of an early block is hidden by a long injection", () => {
    const scenario = { chunkCount: 8000, seed: 1, rttNs: 2e6 };
    const clean = run(scenario);
    // All of the first block: more than parity can make.
    const losesChunk = (chunk: number, trip: number) => chunk < 8 && trip === 1;
    const outcome = run({ ...scenario, losesChunk });
    expect(outcome.sender.counters.fallbacks).toBe(1);
    expect(outcome.completionNs).toBe(clean.completionNs + 8 * T);
  });

  test("parity of blocks that are known to be whole is neither encoded nor sent", () => {
    // An RTT of some ten chunks: ACKs come back before the parity is due.
    const outcome = run({ chunkCount: 800, seed: 1, rttNs: 10_000, chunkNs: 20_000 });
    expect(outcome.sender.counters.parityChunks).toBeLessThan(0.2 * 300);
    expect(outcome.sender.counters.chunksRetransmitted).toBe(0);
  });

  test("data does not wait for parity that is not encoded yet, which follows", () => {
    const outcome = run({ chunkCount: 80, seed: 1, codingNs: 30 * T, tasksMax: 1 });
    const firstParity = outcome.ranges.findIndex(({ parity }) => parity === true);
    const before = outcome.ranges.slice(0, firstParity);
    expect(before.length).toBeGreaterThan(16);
    expect(before.length).toBeLessThanOrEqual(31);
    expect(outcome.sender.counters.parityChunks).toBe(30);
    // Every chunk of the wire is used: no waiting but for the last encodes.
    expect(outcome.completionNs).toBeLessThanOrEqual(110 * T + RTT);
  });

  test("blocks are encoded a few ahead of injection, not all at once", () => {
    const sender = policy.createSender(params(800));
    const poll = () => {
      const tasks = [];
      for (let task = sender.pollTask?.(0); task; task = sender.pollTask?.(0)) tasks.push(task);
      return tasks;
    };
    const first = poll();
    expect(first.map(({ first }) => first)).toEqual(
      Array.from({ length: ENCODE_AHEAD_BLOCKS + 1 }, (_, block) => 8 * block),
    );
    expect(sender.pollTransmit(100, 0)).toEqual({ first: 0, count: 8 });
    expect(poll()).toHaveLength(1);
    expect(sender.pollTransmit(3, 0)).toEqual({ first: 8, count: 3 });
    expect(poll()).toHaveLength(0);
  });

  test("a chunk made from others gives no RTT sample", () => {
    // A slow wire: the last chunk is made 3 chunk times and a decode after it would have come.
    const chunkNs = 10e6;
    const slow = { chunkCount: 8, seed: 1, chunkNs, codingNs: 50e6 };
    const losesChunk = (chunk: number) => chunk === 7;
    const outcome = run({ ...slow, losesChunk, initialRttNs: 30e6 });
    expect(outcome.receiver.counters!.chunksRecovered).toBe(1);
    expect(outcome.senderPath.sampleCount).toBeGreaterThan(0);
    expect(outcome.senderPath.rttNs).toBe(RTT);
  });

  test("the same seed gives the same run", () => {
    const heavy = { loss: 0.3, jitterNs: 5e6, duplicate: 0.2 };
    const scenario = { chunkCount: 300, seed: 9, chunks: heavy, framesToSender: heavy };
    const [a, b] = [run({ ...scenario, codingNs: 1e6 }), run({ ...scenario, codingNs: 1e6 })];
    const told = ({ completionNs, steps, ranges }: Outcome) => [completionNs, steps, ranges];
    expect(told(a)).toEqual(told(b));
  });
});

describe("what a SENT does", () => {
  const sent = (chunks: number | Uint8Array, type = SENT_KIND): ControlFrame => {
    const payload = typeof chunks === "number" ? new Uint8Array(4) : chunks;
    if (typeof chunks === "number") new DataView(payload.buffer).setUint32(0, chunks);
    return { kind: "policy", message: 0, type, payload };
  };
  const MISSING = 17;

  /** 32 chunks in 4 blocks: the parity of chunk 17's is missing, and the chunks of `missing`. */
  function start(missing = 1 << MISSING) {
    const receiver = mds.createReceiver(params(32));
    const bitmap = new ChunkBitmap(Uint32Array.of(~missing), 32);
    const parity = new ChunkBitmap(Uint32Array.of(0b111_000_111_111), 12);
    receiver.handleProgress(bitmap, 0, parity);
    let nowNs = 0;
    /** Lets time pass until then, or stand still there, and returns what is asked for on the way. */
    const asked = (untilNs: number) => {
      const ranges = [];
      for (;;) {
        receiver.handleTimeout(nowNs);
        expect(receiver.nextTimeoutNs()).toBeGreaterThan(nowNs);
        for (let frame = receiver.pollControl(nowNs); frame; frame = receiver.pollControl(nowNs))
          if (frame.kind === "nack") ranges.push({ nowNs, ranges: frame.ranges });
        if (receiver.nextTimeoutNs() > untilNs) break;
        nowNs = receiver.nextTimeoutNs();
      }
      nowNs = Math.max(nowNs, untilNs);
      return ranges;
    };
    return { receiver, bitmap, parity, asked };
  }

  test("without one nothing is asked for, however long it takes", () => {
    expect(start().asked(100 * RTT)).toEqual([]);
  });

  test("what is missing below its chunks is asked for a quarter of an RTT later, and again", () => {
    const { receiver, asked } = start();
    receiver.handleControl(sent(32), 0);
    const times = asked(3 * RTT);
    const ranges = [{ first: MISSING, count: 1 }];
    expect(times).toEqual([0.25, 1.5, 2.75].map((rtts) => ({ nowNs: rtts * RTT, ranges })));
    expect(receiver.counters).toMatchObject({ fallbacks: 1, parityUsed: 0 });
  });

  test("what is missing at and above its chunks is not", () => {
    const { receiver, asked } = start();
    receiver.handleControl(sent(MISSING), 0);
    expect(asked(3 * RTT)).toEqual([]);
    receiver.handleControl(sent(MISSING + 1), 3 * RTT);
    expect(asked(3.25 * RTT)).toHaveLength(1);
  });

  test("parity that comes before the wait is over makes it needless", () => {
    const { receiver, bitmap, parity, asked } = start();
    receiver.handleControl(sent(32), 0);
    (parity.words[0] as number) |= 0b010_000_000;
    receiver.handleProgress(bitmap, RTT / 8, parity);
    const task = receiver.pollTask?.(RTT / 8);
    expect(task).toEqual({
      code: { kind: "mds", k: 8, m: 3 },
      first: 16,
      count: 8,
      parityFirst: 6,
    });
    expect(receiver.pollTask?.(RTT / 8)).toBeUndefined();
    expect(asked(3 * RTT)).toEqual([]);
    receiver.handleTaskDone?.(task!, 3 * RTT, 0, 0);
    // Nothing came of it: now it is asked for.
    expect(asked(3.25 * RTT)).toHaveLength(1);
  });

  test("while news of what is due still comes, the wait begins again", () => {
    const { receiver, bitmap, parity, asked } = start((0xff << 24) | (1 << MISSING));
    receiver.handleControl(sent(32), 0);
    for (const [n, at] of [0.2, 0.4, 0.6].entries()) {
      expect(asked((at - 0.01) * RTT)).toEqual([]);
      (bitmap.words[0] as number) |= 1 << (24 + n);
      receiver.handleProgress(bitmap, at * RTT, parity);
    }
    expect(asked(0.849 * RTT)).toEqual([]);
    // The last block has all its parity but misses five.
    const ranges = [
      { first: MISSING, count: 1 },
      { first: 27, count: 5 },
    ];
    expect(asked(0.85 * RTT)).toEqual([{ nowNs: 0.85 * RTT, ranges }]);
  });

  test("one that makes no sense, or of another kind, does nothing", () => {
    const { receiver, asked } = start();
    const odd = [0, 3, 5, 8].map((length) => new Uint8Array(length).fill(0));
    for (const frame of [sent(33), sent(0xffffffff), sent(0), ...odd.map((o) => sent(o))])
      receiver.handleControl(frame, 0);
    receiver.handleControl(sent(32, SENT_KIND + 1), 0);
    receiver.handleControl(sent(32, 200), 0);
    expect(asked(10 * RTT)).toEqual([]);
  });

  test("a thousand of them ask no more often than one", () => {
    const { receiver, asked } = start();
    for (let i = 0; i < 1000; i++) receiver.handleControl(sent(18 + (i % 15)), 0);
    expect(asked(1.4 * RTT)).toHaveLength(1);
  });
});

test("a live bitmap's bits beyond the message are nobody's", () => {
  const receiver = mds.createReceiver(params(10));
  const bitmap = new ChunkBitmap(Uint32Array.of(0xffff_fc00, 0xffff_ffff), 10);
  const parity = new ChunkBitmap(Uint32Array.of(0xffff_ffc0, 0xffff_ffff), 60);
  receiver.handleProgress(bitmap, 0, parity);
  expect(receiver.pollTask?.(0)).toBeUndefined();
  expect(receiver.complete).toBe(false);
  (bitmap.words[0] as number) |= 0b11_1111_1111;
  (parity.words[0] as number) |= 0b000_110;
  receiver.handleProgress(bitmap, 1, parity);
  expect(receiver.complete).toBe(true);
  expect(receiver.counters).toMatchObject({ parityUsed: 0, parityWasted: 2 });
});

test("groups without data have no parity to wait for", () => {
  const receiver = xor.createReceiver(params(2));
  const bitmap = new ChunkBitmap(Uint32Array.of(0b01), 2);
  receiver.handleProgress(bitmap, 0, new ChunkBitmap(Uint32Array.of(0b101), 3));
  expect(receiver.pollTask?.(0)).toBeUndefined();
  receiver.handleProgress(bitmap, 1, new ChunkBitmap(Uint32Array.of(0b111), 3));
  expect(receiver.pollTask?.(1)).toMatchObject({ first: 0, count: 2, parityFirst: 0 });
});
