/** Compliance cases of an unreliable path: lost, late, duplicated, reordered and corrupted packets. */
import { expect, test } from "vitest";
import { parseLink } from "../../src/sdk/index.ts";
import {
  chunkBytesOf,
  everythingLanded,
  expectArrived,
  expectNothingForeign,
  type FixtureMaker,
  GUARD_BYTES,
  type Pair,
  packetBytesOf,
  packetsLeft,
  sha256,
  source,
  target,
  withPair,
} from "./fixture.ts";
import { expectBitsAgree, inject, openStream, sendOnce } from "./transfers.ts";

const CHUNKS = 6;

export function faultCases(maker: FixtureMaker): void {
  const [packet, chunk] = [packetBytesOf(maker), chunkBytesOf(maker)];
  controlLossCases(maker, chunk);
  dataLossCases(maker, packet, chunk);
  impairmentCases(maker, chunk);
  lateCases(maker, packet, chunk);
}

function controlLossCases(maker: FixtureMaker, chunk: number): void {
  const rules = [
    ["the first CTS", "none", "drop cts 1"],
    ["four CTS in a row", "none", "drop cts 1-4"],
    ["the first START", "drop start 1", "none"],
    ["three STARTs and two CTS", "drop start 1-3", "drop cts 1-2"],
  ] as const;
  test.each(rules)("a message survives the loss of %s", (_what, forward, backward) =>
    withPair(maker, { forward, backward }, async (pair) => {
      const { from, to, receive } = await sendOnce(pair, CHUNKS * chunk + 1, 61, 7);
      expect(receive.immediate).toBe(7);
      receive.complete();
      expectArrived(to, from);
    }),
  );
}

function dataLossCases(maker: FixtureMaker, packet: number, chunk: number): void {
  const bytes = CHUNKS * chunk + 1;
  const packets = Math.ceil(bytes / packet);
  const losses = [
    ["first", bytes, "drop data 1"],
    ["last", bytes, `drop data ${packets}`],
    ["only", 1, "drop data 1"],
    [
      "whole second chunk's worth of",
      bytes,
      `drop data ${chunk / packet + 1}-${(2 * chunk) / packet}`,
    ],
  ] as const;
  test.each(losses)(
    "the loss of the %s data packet shows, and the chunk sent again fills it",
    (_w, size, forward) =>
      withPair(maker, { forward }, async (pair) => {
        const { from, to, receive, send } = await openStream(pair, size, 62);
        const chunks = Math.ceil(size / chunk);
        await inject(pair, send, from, 0, chunks);
        await pair.until(
          "what was not lost",
          () => injectedAll(pair, size) && packetsLeft(pair) === 0,
        );
        await pair.run(receive.started);
        const lost = pair.qa.counters().link.droppedByKind[0] ?? 0;
        expect(lost).toBeGreaterThan(0);
        expect(expectBitsAgree(pair, receive, size)).toBe(Math.ceil(size / packet) - lost);
        expect(receive.progress.complete).toBe(false);
        for (let c = 0; c < chunks; c++)
          if (!receive.bitmap.has(c)) await inject(pair, send, from, c, 1);
        send.end();
        await pair.run(Promise.all([send.injected, receive.arrived]));
        receive.complete();
        expectArrived(to, from);
      }),
  );
}

/** All packets of the first round have been offered to the link. */
function injectedAll(pair: Pair, bytes: number): boolean {
  return pair.qa.counters().packetsSent >= Math.ceil(bytes / pair.packetBytes);
}

/** Bounds of a repair that does not end. */
const REPAIR_ROUNDS_MAX = 2000;
const REPAIR_NS_MAX = 60e9;

/** Sends the missing chunks again and again until all are in: the simplest repair. */
async function repairUntilIn(pair: Pair, stream: Awaited<ReturnType<typeof openStream>>) {
  const { receive, send, from } = stream;
  const chunks = Math.ceil(from.bytes / pair.chunkBytes);
  await inject(pair, send, from, 0, chunks);
  const { virtualTime } = pair.a.capabilities;
  const limitNs = pair.a.nowNs() + REPAIR_NS_MAX;
  for (let round = 0; receive.bitmap.count() < chunks; round++) {
    // A round ends when it has left, and a busy machine may run the receiver's threads many rounds later.
    if (virtualTime) expect(round).toBeLessThan(REPAIR_ROUNDS_MAX);
    else expect(pair.a.nowNs()).toBeLessThan(limitNs);
    const missing = [...Array(chunks).keys()].filter((c) => !receive.bitmap.has(c));
    const before = pair.qa.counters().packetsSent;
    for (const c of missing) await inject(pair, send, from, c, 1);
    const leaves = () => pair.qa.counters().packetsSent > before;
    if (missing.length > 0) await pair.until("the round to leave", leaves);
  }
}

function impairmentCases(maker: FixtureMaker, chunk: number): void {
  const bytes = CHUNKS * chunk + 1;

  test("duplicates land once and are counted", () =>
    withPair(maker, { forward: "duplicate 100%", backward: "duplicate 100%" }, async (pair) => {
      const { from, to, receive } = await sendOnce(pair, bytes, 63, 99);
      await pair.until("duplicates", () => {
        const { duplicates, late } = pair.qb.counters();
        return duplicates + late > 0;
      });
      expect(receive.immediate).toBe(99);
      receive.complete();
      expectArrived(to, from);
      expect(pair.qa.counters().link.duplicated).toBeGreaterThan(0);
      expect(pair.qa.counters().framesReplayed + pair.qb.counters().framesReplayed).toBeGreaterThan(
        0,
      );
    }));

  test("corrupted packets are counted and never land; what is sent again does", () =>
    withPair(maker, {}, async (pair) => {
      const stream = await openStream(pair, bytes, 64);
      await pair.run(stream.receive.started);
      pair.qa.setLink(parseLink("corrupt 100%"));
      await inject(pair, stream.send, stream.from, 0, CHUNKS + 1);
      const packets = Math.ceil(bytes / pair.packetBytes);
      const { countsCorrupted } = pair.b.capabilities;
      const corrupted = () => pair.qa.counters().link.corrupted;
      const isOver = () => (countsCorrupted ? refused(pair) : corrupted()) >= packets;
      await pair.until("all to be refused", isOver);
      expect(stream.receive.bitmap.count()).toBe(0);
      expect(corrupted()).toBeGreaterThanOrEqual(packets);
      expectNothingForeign(stream.to, stream.from);
      pair.qa.setLink({});
      await inject(pair, stream.send, stream.from, 0, CHUNKS + 1);
      await pair.run(stream.receive.arrived);
      stream.receive.complete();
      expectArrived(stream.to, stream.from);
    }));

  test("loss, duplication, reordering, corruption and jitter at once, both ways", () => {
    const link = "delay 300us 200us loss 20% duplicate 10% reorder 20% corrupt 2%";
    return withPair(maker, { forward: link, backward: link, seed: 5 }, async (pair) => {
      const stream = await openStream(pair, bytes, 65);
      await repairUntilIn(pair, stream);
      await pair.run(stream.receive.arrived);
      stream.receive.complete();
      expectArrived(stream.to, stream.from);
      const isOut = () => [pair.qa, pair.qb].every((qp) => qp.counters().controlWaiting === 0);
      await pair.until("all control datagrams to have left", isOut);
    });
  });
}

/** Datagrams the receiver ignored because their bytes had changed, whichever part of them. */
function refused(pair: Pair): number {
  const { badChecksum, malformed, truncated } = pair.qb.counters();
  return badChecksum + malformed + truncated + (pair.unknownDatagrams?.() ?? 0);
}

function lateCases(maker: FixtureMaker, packet: number, chunk: number): void {
  test("after an early completion late packets are counted and change no byte", () =>
    withPair(maker, { forward: "rate 1mbit delay 20ms 20ms", seed: 3 }, async (pair) => {
      const bytes = 400 * packet;
      const { from, to, receive, send } = await openStream(pair, bytes, 71);
      await inject(pair, send, from, 0, Math.ceil(bytes / chunk));
      await pair.until("some packets", () => landed(pair) >= 5);
      receive.complete();
      pair.qa.setLink(parseLink("delay 2ms 2ms")); // what the rate holds back is of no more use
      const hash = sha256(to.region.data);
      send.end();
      await pair.run(send.injected);
      await pair.until("everything to leave", () => injectedAll(pair, bytes));
      await everythingLanded(pair, 40e6);
      if (pair.b.capabilities.countsLate) expect(pair.qb.counters().late).toBeGreaterThan(0);
      expect(sha256(to.region.data)).toBe(hash);
      expectNothingForeign(to, from);
    }));

  test("packets of an earlier life of a slot never land in a later one", () =>
    withPair(
      maker,
      {
        forward: "delay 3ms 3ms duplicate 20%",
        seed: 4,
        attributes: { maxMessages: 2, generations: 4 },
      },
      async (pair) => {
        const lives = [];
        for (let i = 0; i < 24; i++)
          lives.push(await earlyLife(pair, 3 * chunk + packet + 1, 100 + i));
        await everythingLanded(pair, 6e6);
        if (pair.b.capabilities.countsLate) expect(pair.qb.counters().late).toBeGreaterThan(0);
        for (const { to, from, hash } of lives) {
          expectNothingForeign(to, from);
          expect(sha256(to.region.data)).toBe(hash);
        }
      },
    ));

  test("a slot may be used again at once, whatever is still under way", () =>
    withPair(
      maker,
      { forward: "delay 5ms 5ms", seed: 6, attributes: { maxMessages: 1, generations: 1 } },
      async (pair) => {
        const lives = [];
        for (let i = 0; i < 8; i++) lives.push(await earlyLife(pair, 4 * chunk, 200 + i));
        await everythingLanded(pair, 10e6);
        for (const { to, from, hash } of lives) {
          expectNothingForeign(to, from);
          expect(sha256(to.region.data)).toBe(hash);
        }
      },
    ));
}

/** One message whose receive is completed as soon as something of it has arrived. */
async function earlyLife(pair: Pair, bytes: number, seed: number) {
  const [from, to] = [source(bytes, seed), target(bytes)];
  const receive = pair.qb.postReceive({ region: to.region, offset: GUARD_BYTES, maxBytes: bytes });
  const send = pair.qa.send(from.region, { offset: GUARD_BYTES, bytes });
  const before = landed(pair);
  await pair.until("a packet to land", () => landed(pair) > before);
  await pair.run(send.injected);
  receive.complete();
  return { from, to, hash: sha256(to.region.data) };
}

function landed(pair: Pair): number {
  const { packets, chunks, messages } = pair.qb.counters();
  return packets + chunks + messages;
}
