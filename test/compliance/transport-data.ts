/** Compliance cases of raw data transfer: sends, streams, bitmaps, immediates, matching, slots. */
import { describe, expect, test } from "vitest";
import { Random } from "../../src/base/random.ts";
import {
  chunkBytesOf,
  codeThrown,
  expectArrived,
  type FixtureMaker,
  GUARD_BYTES,
  packetBytesOf,
  packetsMet,
  source,
  target,
  withPair,
} from "./fixture.ts";
import { expectBitsAgree, inject, openStream, sendOnce } from "./transfers.ts";

/** Sizes where something begins or ends, in packets (p) and chunks (c). */
function boundarySizes(packet: number, chunk: number): number[] {
  const many = 32 * chunk + packet + 1;
  return [0, 1, packet - 1, packet, packet + 1, chunk - 1, chunk, chunk + 1, 2 * chunk, many];
}

export function dataCases(maker: FixtureMaker): void {
  const [packet, chunk] = [packetBytesOf(maker), chunkBytesOf(maker)];

  test.each(boundarySizes(packet, chunk))(
    "a one-shot send of %i B arrives, and only that",
    (bytes) =>
      withPair(maker, {}, async (pair) => {
        const { from, to, receive } = await sendOnce(pair, bytes, bytes + 1);
        expect(receive.bytes).toBe(bytes);
        const chunks = Math.ceil(bytes / pair.chunkBytes);
        expect(receive.progress).toEqual({
          chunksDone: chunks,
          chunkCount: chunks,
          complete: true,
        });
        expect(receive.bitmap.count()).toBe(chunks);
        expect(expectBitsAgree(pair, receive, bytes)).toBe(Math.ceil(bytes / pair.packetBytes));
        receive.complete();
        expectArrived(to, from);
      }),
  );

  test("a message may be shorter than its receive; the rest of the buffer is untouched", () =>
    withPair(maker, {}, async (pair) => {
      const from = source(chunk + 3, 5);
      const to = target(3 * chunk);
      const { region, offset } = to;
      const receive = pair.qb.postReceive({ region, offset, maxBytes: to.bytes });
      pair.qa.send(from.region, { offset: from.offset, bytes: from.bytes });
      await pair.run(receive.arrived);
      expect(receive.bytes).toBe(from.bytes);
      receive.complete();
      expectArrived(to, from);
    }));

  test("a stream's chunks land in any order, each seen in the live bitmap when it is in", () =>
    withPair(maker, {}, async (pair) => {
      const bytes = 8 * chunk + packet + 1;
      const chunks = Math.ceil(bytes / chunk);
      const { from, to, receive, send } = await openStream(pair, bytes, 11);
      const { bitmap } = receive;
      expect(bitmap.count()).toBe(0);
      const order = new Random(3).shuffle([...Array(chunks).keys()]);
      for (const [done, next] of order.entries()) {
        await inject(pair, send, from, next, 1);
        await pair.until(`chunk ${next} to be in`, () => receive.bitmap.has(next));
        expect(receive.bitmap.count()).toBe(done + 1);
        expectBitsAgree(pair, receive, bytes);
      }
      send.end();
      await pair.run(Promise.all([send.injected, receive.arrived]));
      receive.complete();
      expectArrived(to, from);
    }));

  test("chunks injected twice land once, and are counted", () =>
    withPair(maker, {}, async (pair) => {
      const { from, to, receive, send } = await openStream(pair, 4 * chunk, 12);
      await inject(pair, send, from, 0, 3);
      await inject(pair, send, from, 0, 3);
      await pair.until("duplicates", () => pair.qb.counters().duplicates === (3 * chunk) / packet);
      expect(receive.bitmap.count()).toBe(3);
      await inject(pair, send, from, 3, 1);
      await pair.run(receive.arrived);
      receive.complete();
      expectArrived(to, from);
    }));

  immediateCases(maker, packet);
  matchingCases(maker, packet, chunk);
}

function immediateCases(maker: FixtureMaker, packet: number): void {
  const splits = [
    { split: [10, 18, 4], packets: 8 },
    { split: [8, 22, 2], packets: 16 },
    { split: [16, 16, 0], packets: Number.POSITIVE_INFINITY },
  ] as const;
  describe.each(splits)("user immediate, split $split", ({ split, packets }) => {
    const value = 0xfedc_ba98;

    test.each([0, 1, 3 * packet, 17 * packet])("comes with a message of %i B", (bytes) =>
      withPair(maker, { attributes: { split } }, async (pair) => {
        const { from, to, receive } = await sendOnce(pair, bytes, 21, value);
        expect(receive.immediate).toBe(value);
        receive.complete();
        expect(receive.immediate).toBe(value);
        expectArrived(to, from);
        const without = await sendOnce(pair, bytes, 22);
        expect(without.receive.immediate).toBeUndefined();
        without.receive.complete();
      }),
    );

    test("is rebuilt from the packets where START is late and the packets carry all of it", () =>
      withPair(maker, { forward: "drop start 1-1000", attributes: { split } }, async (pair) => {
        const bytes = 17 * packet;
        const from = source(bytes, 23);
        const to = target(bytes);
        const { region, offset } = to;
        const receive = pair.qb.postReceive({ region, offset, maxBytes: bytes });
        const send = pair.qa.send(from.region, { offset: from.offset, bytes, immediate: value });
        await pair.run(send.injected);
        const chunks = Math.ceil(bytes / pair.chunkBytes);
        await pair.until("all chunks", () => receive.bitmap.count() === chunks);
        expect(receive.bytes).toBeUndefined();
        expect(receive.immediate).toBe(17 >= packets ? value : undefined);
        receive.complete();
        expectArrived(to, from);
      }));
  });
}

function matchingCases(maker: FixtureMaker, packet: number, chunk: number): void {
  const sizes = [3 * chunk + 1, 0, 1, chunk, packet + 1, 2 * chunk - 1, 5];

  test("the n-th send lands in the n-th receive, several in flight, whoever posts first", () =>
    withPair(maker, {}, async ({ qa, qb, run }) => {
      const pairs = sizes.map((bytes, i) => ({ from: source(bytes, 31 + i), to: target(bytes) }));
      const post = (i: number) => {
        const { region, offset, bytes } = pairs[i]!.to;
        return qb.postReceive({ region, offset, maxBytes: bytes });
      };
      const send = (i: number) => {
        const { region, offset, bytes } = pairs[i]!.from;
        return qa.send(region, { offset, bytes, immediate: i });
      };
      const receives = [post(0), post(1)];
      const sends = sizes.map((_, i) => send(i));
      for (let i = 2; i < sizes.length; i++) receives.push(post(i));
      await run(Promise.all([...sends.map((s) => s.injected), ...receives.map((r) => r.arrived)]));
      for (const [i, receive] of receives.entries()) {
        expect(receive.message).toBe(i);
        expect(receive.immediate).toBe(i);
        receive.complete();
        expectArrived(pairs[i]!.to, pairs[i]!.from);
      }
    }));

  test("both directions at once", () =>
    withPair(maker, {}, async (pair) => {
      const bytes = 20 * chunk + 7;
      const ways = [
        [pair.qa, pair.qb],
        [pair.qb, pair.qa],
      ] as const;
      const transfers = ways.map(([sender, receiver], i) => {
        const [from, to] = [source(bytes, 41 + i), target(bytes)];
        const { offset } = to;
        const receive = receiver.postReceive({ region: to.region, offset, maxBytes: bytes });
        const send = sender.send(from.region, { offset, bytes });
        return { from, to, receive, send };
      });
      for (const { from, to, receive, send } of transfers) {
        await pair.run(Promise.all([receive.arrived, send.injected]));
        receive.complete();
        expectArrived(to, from);
      }
    }));

  test("where one slot is free a second post is BUSY, and is taken once the slot is free again", () =>
    withPair(maker, { attributes: { maxMessages: 1 } }, async ({ qa, qb, run }) => {
      const region = target(10).region;
      const from = source(10, 1);
      const first = qb.postReceive({ region, maxBytes: 10 });
      expect(codeThrown(() => qb.postReceive({ region, maxBytes: 10 }))).toBe("BUSY");
      const send = qa.send(from.region, { bytes: 10 });
      expect(codeThrown(() => qa.send(from.region, { bytes: 10 }))).toBe("BUSY");
      await run(Promise.all([send.injected, first.arrived]));
      expect(codeThrown(() => qb.postReceive({ region, maxBytes: 10 }))).toBe("BUSY");
      first.complete();
      const second = qb.postReceive({ region, maxBytes: 10 });
      const again = qa.send(from.region, { bytes: 10 });
      await run(Promise.all([again.injected, second.arrived]));
      second.complete();
    }));

  const messages = Math.min(5000, maker.messagesMax ?? Number.POSITIVE_INFINITY);
  test(`${messages} messages on one queue pair: numbers, slots and generations wrap many times`, () =>
    withPair(maker, { attributes: { maxMessages: 4, generations: 4 } }, async (pair) => {
      const inFlight = 4;
      const random = new Random(51);
      const { qa, qb, run } = pair;
      for (let at = 0; at < messages; at += inFlight) {
        const batch = Array.from({ length: inFlight }, (_, i) => {
          const bytes = random.int(1, 2 * packet);
          const [from, to] = [source(bytes, at + i), target(bytes)];
          const receive = qb.postReceive({
            region: to.region,
            offset: GUARD_BYTES,
            maxBytes: bytes,
          });
          const send = qa.send(from.region, { offset: GUARD_BYTES, bytes });
          return { from, to, receive, send };
        });
        await run(
          Promise.all(batch.flatMap(({ receive, send }) => [receive.arrived, send.injected])),
        );
        for (const { from, to, receive } of batch) {
          receive.complete();
          expectArrived(to, from);
        }
      }
      expect(packetsMet(qb)).toBeGreaterThanOrEqual(messages);
    }));
}
