/**
 * What every reliability policy must do, as one suite over real queue pairs: whatever the path does in both
 * directions, each message arrives whole, once, and in its own buffer. A policy adopts it with a factory.
 */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.ts";
import {
  type Policy,
  parseLink,
  type ReceiveReport,
  reliableReceive,
  reliableWrite,
  type TransferOptions,
  type WriteReport,
} from "../../src/sdk/index.ts";
import {
  chunkBytesOf,
  codeOf,
  everythingLanded,
  expectArrived,
  type FixtureMaker,
  type Guarded,
  type Pair,
  type PairOptions,
  packetBytesOf,
  source,
  target,
  withPair,
} from "./fixture.ts";

export type PolicyFactory = () => Policy;

export interface PolicySuiteOptions {
  /** Fewer sizes, messages and impairments: for transports in real time. */
  readonly small?: boolean;
}

interface Transferred {
  readonly from: Guarded;
  readonly to: Guarded;
  readonly write: Promise<WriteReport>;
  readonly receive: Promise<ReceiveReport>;
}

export function policyCompliance(
  maker: FixtureMaker,
  factory: PolicyFactory,
  options: PolicySuiteOptions = {},
): void {
  const { small = false } = options;
  describe(`policy ${factory().name} on ${maker.name}`, () => {
    sizeCases(maker, factory, small);
    lossCases(maker, factory, small);
    manyCases(maker, factory, small);
    endCases(maker, factory);
    if (!small) pathCases(maker, factory);
  });
}

/** A message from one end to the other under the policy; `way` 1 goes backward. */
export function begin(
  pair: Pair,
  policy: Policy,
  bytes: number,
  seed: number,
  options: TransferOptions & { immediate?: number; way?: 0 | 1 } = {},
): Transferred {
  const { way = 0, ...rest } = options;
  const [sender, receiver] = way === 0 ? [pair.qa, pair.qb] : [pair.qb, pair.qa];
  const [from, to] = [source(bytes, seed), target(bytes)];
  const { immediate: _dropped, ...receiving } = rest;
  const receive = reliableReceive(receiver, to.region, policy, {
    ...receiving,
    offset: to.offset,
    bytes,
  });
  const write = reliableWrite(sender, from.region, policy, { ...rest, offset: from.offset, bytes });
  return { from, to, write, receive };
}

/** Awaits both ends and checks data, guards and reports. */
export async function finish(pair: Pair, one: Transferred, policy: Policy): Promise<WriteReport> {
  const [write, receive] = await pair.run(Promise.all([one.write, one.receive]));
  expectArrived(one.to, one.from);
  const { bytes } = one.from;
  const chunks = Math.ceil(bytes / pair.chunkBytes);
  expect(write).toMatchObject({ bytes, chunks, policy: policy.name });
  expect(receive).toMatchObject({ bytes, chunks, policy: policy.name, message: write.message });
  expect(write.completionNs).toBeGreaterThanOrEqual(0);
  return write;
}

function sizesOf(maker: FixtureMaker): number[] {
  const [packet, chunk] = [packetBytesOf(maker), chunkBytesOf(maker)];
  const boundaries = [0, 1, packet - 1, packet, packet + 1, chunk - 1, chunk, chunk + 1, 2 * chunk];
  return [...boundaries, 31 * chunk + 1, 32 * chunk, 33 * chunk - 1, 100 * chunk + packet + 1];
}

const LOSSY = "delay 500us loss 5%";

function sizeCases(maker: FixtureMaker, factory: PolicyFactory, small: boolean): void {
  const policy = factory();
  const links = small ? [LOSSY] : ["none", LOSSY];
  test.each(links)("messages of every size around the boundaries arrive over '%s'", (link) =>
    withPair(maker, { forward: link, backward: link, seed: 11 }, async (pair) => {
      for (const [i, bytes] of sizesOf(maker).entries()) {
        const immediate = 0xffff_ffff - i;
        const one = begin(pair, policy, bytes, bytes, { immediate });
        await finish(pair, one, policy);
        expect((await one.receive).immediate).toBe(immediate);
      }
    }),
  );
}

const ALL_AT_ONCE = [
  "delay 500us 300us loss 5% duplicate 5% reorder 10% corrupt 1%",
  "rate 200mbit delay 1ms 900us distribution normal loss 15% duplicate 10% reorder 20% corrupt 1%",
  "rate 500mbit delay 300us loss 30% duplicate 10% reorder 20% corrupt 1%",
  "rate 300mbit delay 400us 100us loss gemodel 2% 20% 80% 1% duplicate 1%",
  "rate 100mbit delay 200us limit 20 loss 2%",
];

function lossCases(maker: FixtureMaker, factory: PolicyFactory, small: boolean): void {
  const policy = factory();
  const [packet, chunk] = [packetBytesOf(maker), chunkBytesOf(maker)];
  const bytes = 60 * chunk + packet + 7;
  const packets = Math.ceil(bytes / packet);
  const links = small ? ALL_AT_ONCE.slice(1, 3) : ALL_AT_ONCE;
  test.each(links)("arrives whole over '%s' in both directions", (link) =>
    withPair(maker, { forward: link, backward: link, seed: 21 }, async (pair) => {
      for (let i = 0; i < 3; i++) await finish(pair, begin(pair, policy, bytes, 100 + i), policy);
    }),
  );

  const path = "delay 500us";
  const dataRules = [
    ["the first data packet", bytes, "drop data 1"],
    ["the last data packet", bytes, `drop data ${packets}`],
    ["the only data packet", 1, "drop data 1"],
    ["the only data packet, four times", 1, "drop data 1-4"],
    ["the last packets, several times", bytes, `drop data ${packets - 3}-${packets + 9}`],
    ["everything once", bytes, `drop data 1-${packets}`],
  ] as const;
  test.each(dataRules)("repairs the loss of %s", (_what, size, rule) =>
    withPair(maker, { forward: `${path} ${rule}`, backward: path }, async (pair) => {
      const one = begin(pair, policy, size, 31);
      const { chunksRetransmitted, parityChunks } = await finish(pair, one, policy);
      const { chunksRecovered } = await one.receive;
      expect(pair.qa.counters().link.droppedByKind[0]).toBeGreaterThan(0);
      // What several channels send in real time has no fixed order: the n-th packet may be one of parity.
      const mayBeParity = parityChunks > 0 && pair.qa.capabilities.channels > 1;
      if (!mayBeParity) expect(chunksRetransmitted + chunksRecovered).toBeGreaterThan(0);
    }),
  );

  const controlRules = ["cts 1", "cts 1-3", "ack 1", "ack 1-5", "nack 1-3", "done 1", "start 1-2"];
  test.each(controlRules)("survives 'drop %s', and so does the next message", (rule) => {
    const forward = `${path} drop data 5-9 drop ${rule}`;
    const options: PairOptions = { forward, backward: `${path} drop ${rule}` };
    return withPair(maker, options, async (pair) => {
      await finish(pair, begin(pair, policy, bytes, 41), policy);
      await finish(pair, begin(pair, policy, chunk + 1, 42), policy);
      const { link } = pair.qb.counters();
      const kinds = ["data", "cts", "start", "ack", "nack", "done"];
      const kind = kinds.indexOf(rule.split(" ")[0]!);
      const dropped = link.droppedByKind[kind]! + pair.qa.counters().link.droppedByKind[kind]!;
      // A policy need not send every kind; what it sends first was dropped. A datagram counts as what it begins with,
      // and some policies' ACKs follow a frame of their own.
      const isLed = kind === 3 && /^(hybrid|auto)/.test(policy.name);
      if (kind !== 4 && !isLed) expect(dropped).toBeGreaterThan(0);
    });
  });

  // Slow enough in real time for the middle to be met.
  const paced = `rate ${small ? 20 : 100}mbit delay 500us`;
  test("a burst of silence in the middle of the message is repaired", () =>
    withPair(maker, { forward: paced, backward: path }, async (pair) => {
      const one = begin(pair, policy, bytes, 51);
      await pair.until("some data", () => pair.qa.counters().packetsSent > packets / 4);
      const before = pair.qa.counters().packetsSent;
      pair.qa.setLink(parseLink(`${paced} loss 100%`));
      await pair.until("the burst", () => pair.qa.counters().packetsSent > before + packets / 8);
      pair.qa.setLink(parseLink(paced));
      await finish(pair, one, policy);
    }));
}

function manyCases(maker: FixtureMaker, factory: PolicyFactory, small: boolean): void {
  const policy = factory();
  const [packet, chunk] = [packetBytesOf(maker), chunkBytesOf(maker)];
  const link = "rate 300mbit delay 500us 200us loss 3% duplicate 2% reorder 5% corrupt 0.5%";

  test("messages of different sizes in flight together, both directions, each into its own buffer", () =>
    withPair(maker, { forward: link, backward: link, seed: 61 }, async (pair) => {
      const sizes = [40 * chunk + 1, 0, 1, 5 * chunk, packet - 1, 17 * chunk - 3, 2, 33 * chunk];
      const all = sizes.flatMap((bytes, i) =>
        ([0, 1] as const).map((way) =>
          begin(pair, policy, bytes, 200 + 2 * i + way, { way, immediate: i }),
        ),
      );
      for (const one of all) await finish(pair, one, policy);
      for (const [i, one] of all.entries()) expect((await one.receive).immediate).toBe(i >> 1);
      for (const one of all) expectArrived(one.to, one.from);
    }));

  const messages = Math.min(small ? 300 : 5000, maker.messagesMax ?? Number.POSITIVE_INFINITY);
  test(`${messages} small messages, several in flight, on one queue pair`, () =>
    withPair(
      maker,
      {
        forward: "delay 100us 50us loss 5% duplicate 2%",
        backward: "delay 100us 50us loss 5% duplicate 2%",
        seed: 62,
        attributes: { maxMessages: 8, generations: 2 },
      },
      async (pair) => {
        const random = new Random(63);
        const sent = createHash("sha256");
        const arrived = createHash("sha256");
        const open: Transferred[] = [];
        for (let i = 0; i < messages; i++) {
          if (open.length === 8) {
            const one = open.shift()!;
            await finish(pair, one, policy);
            sent.update(one.from.data);
            arrived.update(one.to.data);
          }
          open.push(begin(pair, policy, random.int(0, 3 * packet), i));
        }
        for (const one of open) await finish(pair, one, policy);
        expect(arrived.digest("hex")).toBe(sent.digest("hex"));
      },
    ));
}

function endCases(maker: FixtureMaker, factory: PolicyFactory): void {
  const policy = factory();
  const chunk = chunkBytesOf(maker);
  const other: Policy = { ...policy, name: `not-${policy.name}`.slice(0, 64) };

  test("ends with different policies fail with PEER_INCOMPATIBLE, and the next message works", () =>
    withPair(maker, {}, async (pair) => {
      const [from, to] = [source(chunk, 71), target(chunk)];
      const { offset, bytes } = from;
      const receive = reliableReceive(pair.qb, to.region, policy, { offset, bytes });
      const write = reliableWrite(pair.qa, from.region, other, { offset, bytes });
      const codes = await pair.run(Promise.all([codeOf(write), codeOf(receive)]));
      expect(codes).toEqual(["PEER_INCOMPATIBLE", "PEER_INCOMPATIBLE"]);
      await finish(pair, begin(pair, policy, chunk, 72), policy);
    }));

  test("after completion nothing that still arrives changes the buffer", () =>
    withPair(
      maker,
      { forward: "delay 1ms 1ms duplicate 30%", backward: "delay 1ms", seed: 73 },
      async (pair) => {
        const one = begin(pair, policy, 20 * chunk + 1, 73);
        await pair.run(one.receive);
        expectArrived(one.to, one.from);
        await pair.run(one.write);
        await everythingLanded(pair, 2e6);
        expectArrived(one.to, one.from);
      },
    ));

  test("close waits until the final ACK is confirmed or known to be useless", () =>
    withPair(
      maker,
      { forward: "delay 1ms drop done 1-3", backward: "delay 1ms drop ack 2-3" },
      async (pair) => {
        const one = begin(pair, policy, 3 * chunk, 74);
        await pair.run(one.receive);
        const closed = pair.qb.close();
        await finish(pair, one, policy);
        await pair.run(Promise.all([closed, pair.qa.close()]));
      },
    ));
}

function pathCases(maker: FixtureMaker, factory: PolicyFactory): void {
  const policy = factory();
  const chunk = chunkBytesOf(maker);
  const bytes = 200 * chunk;

  test.each([
    ["grows", "rate 500mbit delay 200us loss 2%", "rate 500mbit delay 20ms loss 2%"],
    ["shrinks", "rate 500mbit delay 20ms loss 2%", "rate 500mbit delay 200us loss 2%"],
  ])("arrives when the path's RTT %s in the middle", (_what, before, after) =>
    withPair(maker, { forward: before, backward: before, seed: 81 }, async (pair) => {
      const one = begin(pair, policy, bytes, 81);
      await pair.until(
        "half of it",
        () => pair.qa.counters().packetsSent > bytes / pair.packetBytes / 2,
      );
      for (const qp of [pair.qa, pair.qb]) qp.setLink(parseLink(after));
      await finish(pair, one, policy);
      await finish(pair, begin(pair, policy, bytes, 82), policy);
    }),
  );

  test("never has more in flight than maxInFlightBytes", () =>
    withPair(
      maker,
      {
        forward: "rate 1gbit delay 10ms loss 2%",
        backward: "delay 10ms",
        seed: 83,
        attributes: { maxInFlightBytes: 10 * chunk },
      },
      async (pair) => {
        const one = begin(pair, policy, 60 * chunk, 83);
        let settled = false;
        one.write.then(() => (settled = true)).catch(() => {});
        const chunkPackets = chunk / pair.packetBytes;
        const most = 10 * chunkPackets;
        // Until the first ACK can have come back, no more than the window may have left.
        const startNs = pair.a.nowNs();
        const over = () => pair.qa.counters().packetsSent > most;
        await pair.until("the first window", () => over() || pair.a.nowNs() > startNs + 25e6);
        expect(pair.qa.counters().packetsSent).toBeLessThanOrEqual(most);
        await finish(pair, one, policy);
        expect(settled).toBe(true);
      },
    ));

  test("works at the smallest window and with chunks of one packet", () =>
    withPair(
      maker,
      {
        forward: "delay 300us loss 10%",
        backward: "delay 300us loss 10%",
        seed: 84,
        attributes: { maxInFlightBytes: 1, packetBytes: 512, chunkBytes: 512 },
      },
      async (pair) => {
        await finish(pair, begin(pair, policy, 40 * 512 + 1, 84), policy);
      },
    ));
}
