/** The parts of the hybrid scheme: blocks that take turns, losses as they are told, its frames, who believes them. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockLayout } from "../../../src/reliability/block-layout.ts";
import type { ControlFrame } from "../../../src/reliability/frames.ts";
import { hybrid, hybridPolicy } from "../../../src/reliability/hybrid.ts";
import {
  LOSS_KIND,
  lossFrame,
  NEED_KIND,
  type Need,
  needFrame,
  PLAN_KIND,
  planFrame,
  readLoss,
  readNeeds,
  readPlan,
} from "../../../src/reliability/hybrid-frames.ts";
import { RowSchedule } from "../../../src/reliability/hybrid-rows.ts";
import { LossReports, LossWatch } from "../../../src/reliability/loss-watch.ts";
import type { LossSample, SessionParams } from "../../../src/reliability/policy.ts";
import { RttEstimator } from "../../../src/reliability/rtt.ts";
import { simulate, type World } from "./harness.ts";

const SEED = 4;
fc.configureGlobal({ seed: SEED, numRuns: 200 });
console.log(`hybrid's parts: fast-check seed ${SEED}`);

const RTT = 2.5e6;
const u32 = fc.integer({ min: 0, max: 0xffffffff });

describe("blocks that take turns", () => {
  const layouts = fc
    .tuple(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 20 }),
    )
    .map(([k, chunks, turns]) => new BlockLayout({ kind: "mds", k, m: 2 }, chunks, turns));

  test("have each chunk of the message once, and no more than k each", () => {
    fc.assert(
      fc.property(layouts, (layout) => {
        const owners = new Map<number, number>();
        for (let block = 0; block < layout.blockCount; block++) {
          const { first, count, stride = 1, parityFirst } = layout.task(block);
          const chunks = Array.from({ length: count }, (_, i) => first + i * stride);
          expect(chunks).toEqual([...layout.chunksOf(block)]);
          expect(count).toBe(layout.dataCount(block));
          expect(count).toBeGreaterThanOrEqual(1);
          expect(count).toBeLessThanOrEqual(layout.code.k);
          expect(parityFirst).toBe(2 * block);
          for (const chunk of chunks) {
            expect(owners.has(chunk)).toBe(false);
            owners.set(chunk, block);
            expect(layout.blockOf(chunk)).toBe(block);
            expect(chunk).toBeLessThan(layout.dataEnd(block));
          }
        }
        expect(owners.size).toBe(layout.chunkCount);
        expect(Math.max(...owners.keys())).toBe(layout.chunkCount - 1);
      }),
    );
  });

  test("count what lies behind a chunk as one by one", () => {
    fc.assert(
      fc.property(layouts, fc.integer({ min: 0, max: 310 }), (layout, from) => {
        for (let block = 0; block < layout.blockCount; block++)
          expect(layout.dataCountFrom(block, from)).toBe(
            [...layout.chunksOf(block)].filter((chunk) => chunk >= from).length,
          );
      }),
    );
  });

  test("are those of a plain code where there is but one a group", () => {
    const plain = new BlockLayout({ kind: "mds", k: 8, m: 2 }, 100);
    expect(plain.task(12)).toEqual({ code: plain.code, first: 96, count: 4, parityFirst: 24 });
    expect(plain.dataFirst(13)).toBe(100);
  });
});

describe("a record of losses", () => {
  test("counts chunks and runs as a plain set does, whatever is marked, and unmarked, in which order", () => {
    const step = fc.record({ chunk: fc.integer({ min: 0, max: 70 }), isLost: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const watch = new LossWatch(71);
        const lost = new Set<number>();
        watch.lookedAt(71);
        for (const { chunk, isLost } of steps) {
          if (isLost) watch.mark(chunk);
          else watch.unmark(chunk);
          if (isLost) lost.add(chunk);
          else lost.delete(chunk);
          const runs = [...lost].filter((chunk) => !lost.has(chunk - 1)).length;
          expect(watch.total).toEqual({ chunks: 71, lost: lost.size, runs });
        }
      }),
    );
  });

  test("an estimate gets what is new of each report, in any order, and sense only", () => {
    const taken: LossSample[] = [];
    const estimate = { sample: (sample: LossSample) => taken.push(sample) };
    const reports = new LossReports(1000, estimate as never);
    reports.take({ chunks: 500, lost: 5, runs: 3 });
    reports.take({ chunks: 500, lost: 6, runs: 4 });
    reports.take({ chunks: 400, lost: 4, runs: 3 });
    reports.take({ chunks: 1001, lost: 7, runs: 3 });
    reports.take({ chunks: 600, lost: 106, runs: 3 });
    // A run that goes on.
    reports.take({ chunks: 600, lost: 7, runs: 3 });
    reports.take({ chunks: 1000, lost: 7, runs: 3 });
    expect(taken).toEqual([
      { chunks: 500, lost: 5, runs: 3 },
      { chunks: 100, lost: 2, runs: 1 },
      { chunks: 400, lost: 0, runs: 0 },
    ]);
  });

  test("what was only late after all is taken back as far as it can be, and what follows counts", () => {
    const taken: LossSample[] = [];
    const reports = new LossReports(1000, { sample: (s: LossSample) => taken.push(s) } as never);
    reports.take({ chunks: 500, lost: 5, runs: 5 });
    reports.take({ chunks: 800, lost: 2, runs: 2 });
    reports.take({ chunks: 1000, lost: 6, runs: 6 });
    expect(taken).toEqual([
      { chunks: 500, lost: 5, runs: 5 },
      { chunks: 300, lost: 0, runs: 0 },
      { chunks: 200, lost: 1, runs: 1 },
    ]);
  });

  test("whatever reports say, samples make sense", () => {
    const reported = fc.record({ chunks: u32, lost: u32, runs: u32 });
    const near = fc.nat({ max: 40 });
    const sensible = fc.record({ chunks: near, lost: near, runs: near });
    fc.assert(
      fc.property(fc.array(fc.oneof(reported, sensible)), (totals) => {
        const sample = ({ chunks, lost, runs }: LossSample) => {
          expect(chunks).toBeGreaterThan(0);
          expect(chunks).toBeLessThanOrEqual(30);
          expect(lost).toBeLessThanOrEqual(chunks);
          expect(runs).toBeLessThanOrEqual(lost);
          expect(runs).toBeGreaterThanOrEqual(Math.min(1, lost));
        };
        const reports = new LossReports(30, { sample } as never);
        for (const total of totals) reports.take(total);
      }),
    );
  });
});

describe("frames", () => {
  const bytes = (frame: ControlFrame) => (frame.kind === "policy" ? [...frame.payload] : []);

  test("have the layout that is described", () => {
    const plan = {
      sentChunks: 0x01020304,
      tailFirst: 0x05060708,
      k: 0x90,
      rows: 0x10,
      interleave: 3,
    };
    expect(bytes(planFrame(plan))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 0, 0x90, 0, 0x10, 0, 0, 0, 3]);
    expect(readPlan(planFrame(plan), 2 ** 31, Infinity)).toEqual(plan);
    const undecided = { ...plan, tailFirst: undefined };
    expect(bytes(planFrame(undecided)).slice(4, 8)).toEqual([255, 255, 255, 255]);
    expect(readPlan(planFrame(undecided), 2 ** 31, Infinity)).toEqual(undecided);
    const needs: Need[] = [{ block: 0x010203, chunks: 0x0405 }];
    expect(bytes(needFrame(needs, 1000)!)).toEqual([0, 1, 2, 3, 4, 5]);
    const loss = { chunks: 0x01020304, lost: 5, runs: 6 };
    expect(bytes(lossFrame(loss))).toEqual([1, 2, 3, 4, 0, 0, 0, 5, 0, 0, 0, 6]);
    expect(readLoss(lossFrame(loss))).toEqual(loss);
  });

  test("needs go into as many frames as they take", () => {
    const needs = Array.from({ length: 10 }, (_, block) => ({ block, chunks: block + 1 }));
    const waiting = [...needs];
    const frames: ControlFrame[] = [];
    for (let frame = needFrame(waiting, 12 + 6 * 4); frame; frame = needFrame(waiting, 36))
      frames.push(frame);
    expect(frames.map((frame) => readNeeds(frame)!.length)).toEqual([4, 4, 2]);
    expect(frames.flatMap((frame) => readNeeds(frame)!)).toEqual(needs);
  });

  const plan = { sentChunks: 10, tailFirst: 5, k: 8, rows: 4, interleave: 2 };
  test.each([
    ["more chunks sent than there are", { sentChunks: 101 }],
    ["a tail beyond the message", { tailFirst: 101 }],
    ["blocks of nothing", { k: 0 }],
    ["no rows", { rows: 0 }],
    ["nobody's turn", { interleave: 0 }],
    ["blocks beyond the field", { k: 250, rows: 7 }],
    ["more rows than there is room for", { k: 1 }],
  ])("a plan of %s is none", (_, change) => {
    expect(readPlan(planFrame(plan), 100, 64)).toEqual(plan);
    expect(readPlan(planFrame({ ...plan, ...change }), 100, 64)).toBeUndefined();
  });

  test("others, and shorter or longer ones, are none of these", () => {
    const of = (type: number, length: number): ControlFrame => {
      return { kind: "policy", message: 0, type, payload: new Uint8Array(length).fill(1) };
    };
    expect(readPlan(of(PLAN_KIND, 15), 1e9, Infinity)).toBeUndefined();
    expect(readPlan(of(PLAN_KIND + 1, 16), 1e9, Infinity)).toBeUndefined();
    expect(readNeeds(of(NEED_KIND, 7))).toBeUndefined();
    expect(readLoss(of(LOSS_KIND, 16))).toBeUndefined();
    expect(readLoss({ kind: "done", message: 0 })).toBeUndefined();
  });
});

describe("rows", () => {
  const layout = new BlockLayout({ kind: "mds", k: 4, m: 5 }, 12);

  test("of a block are made one task at a time, and what was wanted meanwhile follows", () => {
    const rows = new RowSchedule(layout);
    rows.beginTail(0);
    rows.want(1, 2, 0, true);
    const poll = () => rows.pollTask(12, () => true);
    const first = poll();
    expect(first).toMatchObject({
      first: 4,
      count: 4,
      parityFirst: 5,
      rows: { first: 0, count: 2 },
    });
    rows.want(1, 9, 0, false);
    expect(rows.pending).toBe(5);
    expect(poll()).toBeUndefined();
    rows.handleTaskDone(first!);
    expect(poll()).toMatchObject({ rows: { first: 2, count: 3 } });
    expect(rows.handOut(9, 12, true)).toMatchObject({ first: 5, parity: true });
  });

  test("of what has arrived are neither made nor sent", () => {
    const rows = new RowSchedule(layout);
    rows.beginTail(0);
    for (const block of [0, 1, 2]) rows.want(block, 1, 0, true);
    rows.drop(1);
    expect(rows.pending).toBe(2);
    for (let task = rows.pollTask(12, () => true); task; task = rows.pollTask(12, () => true))
      rows.handleTaskDone(task);
    const firsts = [];
    for (let range = rows.handOut(9, 12, true); range; range = rows.handOut(9, 12, true))
      firsts.push(range.first);
    expect(firsts).toEqual([0, 10]);
    rows.want(1, 3, 3, false);
    expect(rows.pending).toBe(0);
  });

  test("that will probably be needed go out behind the next group's data, the others behind all of it", () => {
    const rows = new RowSchedule(layout);
    rows.beginTail(0);
    for (const block of [0, 1, 2]) rows.want(block, 3, 1, true);
    for (let task = rows.pollTask(12, () => true); task; task = rows.pollTask(12, () => true))
      rows.handleTaskDone(task);
    expect(rows.handOut(9, 7, false)).toBeUndefined();
    expect(rows.handOut(9, 8, false)).toEqual({ first: 0, count: 1, parity: true });
    expect(rows.handOut(9, 8, false)).toBeUndefined();
    const firsts = [];
    for (let range = rows.handOut(9, 12, true); range; range = rows.handOut(9, 12, true))
      firsts.push(range.first);
    expect(firsts).toEqual([5, 10, 1, 6, 11, 2, 7, 12]);
  });
});

describe("frames from nowhere", () => {
  const payloads = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.array(fc.nat({ max: 120 }), { maxLength: 40 }).map((bytes) => Uint8Array.from(bytes)),
  );
  const types = fc.constantFrom(64, PLAN_KIND, 66, NEED_KIND, LOSS_KIND, 130);
  const frames = fc
    .tuple(types, payloads)
    .map(([type, payload]): ControlFrame => ({ kind: "policy", message: 1, type, payload }));
  const plans = fc
    .record({
      sentChunks: fc.nat({ max: 100 }),
      tailFirst: fc.option(fc.nat({ max: 100 }), { nil: undefined }),
      k: fc.nat({ max: 20 }),
      rows: fc.nat({ max: 9 }),
      interleave: fc.nat({ max: 9 }),
    })
    .map((plan): ControlFrame => planFrame(plan));
  const needed = fc
    .array(fc.record({ block: fc.nat({ max: 20 }), chunks: fc.nat({ max: 12 }) }), { minLength: 1 })
    .map((needs): ControlFrame => needFrame([...needs], 1400)!);
  const policy = hybridPolicy("small", {
    target: 0.01,
    choose: () => ({ k: 8, rows: 4, parity: 2, interleave: 3 }),
  });

  test("stop neither end", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(frames, needed), { minLength: 1 }),
        fc.array(fc.oneof(frames, needed)),
        (a, b) => {
          let index = 0;
          const meddle = ({ sender, receiver, nowNs }: World) => {
            if (++index % 7 > 0) return;
            sender.handleControl(a[index % a.length]!, nowNs);
            const frame = b[index % b.length];
            // A plan is believed: there is nothing to tell it from the sender's.
            if (frame?.kind !== "policy" || frame.type === PLAN_KIND || receiver.complete) return;
            receiver.handleControl(frame, nowNs);
          };
          const scenario = { policy, chunkCount: 90, seed: 1, rttNs: RTT, chunks: { loss: 0.1 } };
          expect(simulate({ ...scenario, meddle }).sender.state).toBe("done");
        },
      ),
    );
  });

  test("that say another plan than the first change nothing, and cost time at most", () => {
    fc.assert(
      fc.property(fc.array(plans, { minLength: 1 }), (told) => {
        let index = 0;
        const meddle = ({ receiver, nowNs }: World) => {
          const frame = told[++index % told.length]!;
          const honest = { k: 8, rows: 4, interleave: 3 };
          const plan = readPlan(frame, 90, 64);
          // What names the message's own blocks is believed.
          const isOwn = plan?.k === honest.k && plan.rows === honest.rows;
          if (!isOwn && !receiver.complete && nowNs > 0.6 * RTT)
            receiver.handleControl(frame, nowNs);
        };
        const scenario = { policy, chunkCount: 90, seed: 1, rttNs: RTT, chunks: { loss: 0.1 } };
        const plain = simulate(scenario);
        expect(simulate({ ...scenario, meddle }).completionNs).toBe(plain.completionNs);
      }),
      { numRuns: 60 },
    );
  });

  test("that ask for blocks all the time get each row once, and data no sooner than an RTT after it was sent", () => {
    const everything = Array.from({ length: 12 }, (_, block) => ({ block, chunks: 1 }));
    const meddle = ({ sender, nowNs }: World) => {
      for (const needs of [everything, [{ block: 3, chunks: 8 }]])
        sender.handleControl(needFrame([...needs], 1400)!, nowNs);
    };
    const scenario = { policy, chunkCount: 90, seed: 1, rttNs: RTT, chunks: { loss: 0.3 } };
    const outcome = simulate({ ...scenario, meddle });
    expect(outcome.leastResendNs).toBeGreaterThanOrEqual(0.9 * RTT);
    expect(outcome.sender.counters.parityChunks).toBeLessThanOrEqual(12 * 4);
  });
});

test("a shape that the message has no room for is refused", () => {
  const params = { chunkCount: 1000, path: new RttEstimator({ initialRttNs: RTT }) };
  for (const shape of [
    { k: 8, rows: 5, parity: 2, interleave: 1 },
    { k: 8, rows: 4, parity: 5, interleave: 1 },
    { k: 8, rows: 4, parity: 0.5, interleave: 1 },
    { k: 8, rows: 4, parity: 2, interleave: 0 },
  ]) {
    const policy = hybridPolicy("odd", { target: 0.1, choose: () => shape });
    expect(() => policy.createSender(params as unknown as SessionParams)).toThrow(/taking turns/);
  }
});

test.each([0, 1e-10, 0.6, Number.NaN])("a target of %d is refused", (target) => {
  expect(() => hybrid({ target })).toThrow(`target ${target}`);
});
