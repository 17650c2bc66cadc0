/** Compliance cases of messages that end early: aborts, deadlines, refusals; and of watching progress to the end. */
import { expect, test } from "vitest";
import { parseLink, reliableReceive, reliableWrite } from "../../src/sdk/index.ts";
import {
  codeOf,
  expectArrived,
  expectNothingForeign,
  type FixtureMaker,
  packetsMet,
  source,
  target,
  withPair,
} from "./fixture.ts";
import { openStream, SOME_POLICY, transferOf } from "./transfers.ts";

const policy = SOME_POLICY;

export function abortCases(maker: FixtureMaker, chunk: number): void {
  const bytes = 64 * chunk;
  // The message takes a tenth of a second, so that its middle is met in real time too.
  const rate = `rate ${Math.ceil((bytes * 8) / 100)}kbit`;
  const slow = { forward: `${rate} delay 2ms`, backward: "delay 2ms" };

  test.each(["sender", "receiver"] as const)(
    "an abort by the %s's signal is ABORTED on both ends",
    (end) =>
      withPair(maker, slow, async (pair) => {
        const abort = new AbortController();
        const { signal } = abort;
        const [from, to] = [source(bytes, 83), target(bytes)];
        const own = (side: string) => ({
          offset: from.offset,
          bytes,
          ...(side === end ? { signal } : {}),
        });
        const receive = reliableReceive(pair.qb, to.region, policy, own("receiver"));
        const write = reliableWrite(pair.qa, from.region, policy, own("sender"));
        const codes = Promise.all([codeOf(write), codeOf(receive)]);
        await pair.until("data to arrive", () => packetsMet(pair.qb) > 0);
        abort.abort();
        expect(await pair.run(codes)).toEqual(["ABORTED", "ABORTED"]);
        expectNothingForeign(to, from);
        const next = transferOf(pair, chunk + 1);
        await pair.run(Promise.all([next.write, next.receive]));
        expectArrived(next.to, next.from);
      }),
  );

  test.each(["sender", "receiver"] as const)(
    "an abort by the %s reaches the other end when its CLOSE is lost",
    (end) => {
      const rule = "drop close 1-2";
      const forward = `${rate} delay 1ms ${end === "sender" ? rule : ""}`;
      const backward = `delay 1ms ${end === "receiver" ? rule : ""}`;
      return withPair(maker, { forward, backward }, async (pair) => {
        const { write, receive, codes, from, to } = transferOf(pair, bytes);
        await pair.until("data to arrive", () => packetsMet(pair.qb) > 0);
        (end === "sender" ? write : receive).abort();
        expect(await pair.run(codes)).toEqual(["ABORTED", "ABORTED"]);
        expectNothingForeign(to, from);
        const next = transferOf(pair, chunk + 1);
        await pair.run(Promise.all([next.write, next.receive]));
        expectArrived(next.to, next.from);
      });
    },
  );

  test.each([1, 40])(
    "%i receives given up before their sends are posted end the sends when they are",
    (count) =>
      withPair(maker, {}, async (pair) => {
        const [from, to] = [source(chunk, 91), target(chunk)];
        const { offset, bytes } = from;
        for (let i = 0; i < count; i++) {
          const receive = reliableReceive(pair.qb, to.region, policy, { offset, bytes });
          receive.abort();
          expect(await pair.run(codeOf(receive))).toBe("ABORTED");
        }
        await pair.until("the sender to be told", () => pair.qa.counters().controlReceived > 2);
        for (let i = 0; i < count; i++) {
          const write = reliableWrite(pair.qa, from.region, policy, { offset, bytes });
          expect(await pair.run(codeOf(write)), `send ${i}`).toBe("ABORTED");
        }
        const next = transferOf(pair, chunk + 1);
        await pair.run(Promise.all([next.write, next.receive]));
        expectArrived(next.to, next.from);
      }),
  );

  test.each([1, 40])(
    "%i sends given up before their receives are posted end the receives when they are",
    (count) =>
      withPair(maker, {}, async (pair) => {
        const [from, to] = [source(chunk, 92), target(chunk)];
        const { offset, bytes } = from;
        for (let i = 0; i < count; i++) {
          const write = reliableWrite(pair.qa, from.region, policy, { offset, bytes });
          write.abort();
          expect(await pair.run(codeOf(write))).toBe("ABORTED");
        }
        for (let i = 0; i < count; i++) {
          const receive = reliableReceive(pair.qb, to.region, policy, { offset, bytes });
          expect(await pair.run(codeOf(receive)), `receive ${i}`).toBe("ABORTED");
        }
        const next = transferOf(pair, chunk + 1);
        await pair.run(Promise.all([next.write, next.receive]));
        expectArrived(next.to, next.from);
      }),
  );

  test("a receive completed before its send began ends the send, CLOSED", () =>
    withPair(maker, { backward: "drop cts 1-1000" }, async (pair) => {
      const [from, to] = [source(chunk, 93), target(chunk)];
      const send = pair.qa.send(from.region, { offset: from.offset, bytes: from.bytes });
      const { region, offset, bytes } = to;
      const receive = pair.qb.postReceive({ region, offset, maxBytes: bytes });
      const codes = Promise.all([codeOf(send.injected), codeOf(receive.arrived)]);
      receive.complete();
      expect(await pair.run(codes)).toEqual(["CLOSED", "CLOSED"]);
      pair.qb.setLink({});
      const next = transferOf(pair, chunk + 1);
      await pair.run(Promise.all([next.write, next.receive]));
      expectArrived(next.to, next.from);
    }));

  test("a signal that is aborted already ends the transfer at once, and the next message works", () =>
    withPair(maker, {}, async (pair) => {
      const first = transferOf(pair, bytes, { signal: AbortSignal.abort() });
      expect(await pair.run(first.codes)).toEqual(["ABORTED", "ABORTED"]);
      const next = transferOf(pair, chunk);
      await pair.run(Promise.all([next.write, next.receive]));
      expectArrived(next.to, next.from);
    }));

  test("a deadline that passes is DEADLINE_EXCEEDED", () =>
    withPair(maker, {}, async (pair) => {
      const from = source(bytes, 84);
      const timeoutNs = 20e6;
      const { offset } = from;
      const write = reliableWrite(pair.qa, from.region, policy, { offset, bytes, timeoutNs });
      expect(await pair.run(codeOf(write))).toBe("DEADLINE_EXCEEDED");
    }));

  test("a receiver's deadline ends the sender's message too", () =>
    withPair(maker, slow, async (pair) => {
      const [from, to] = [source(bytes, 85), target(bytes)];
      const { offset } = from;
      pair.qa.setLink(parseLink("rate 1mbit"));
      const receive = reliableReceive(pair.qb, to.region, policy, {
        offset,
        bytes,
        timeoutNs: 50e6,
      });
      const write = reliableWrite(pair.qa, from.region, policy, { offset, bytes });
      const codes = Promise.all([codeOf(write), codeOf(receive)]);
      expect(await pair.run(codes)).toEqual(["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]);
      expectNothingForeign(to, from);
    }));

  test("a message larger than its receive is TOO_LARGE on both ends", () =>
    withPair(maker, {}, async (pair) => {
      const to = target(10);
      const receive = pair.qb.postReceive({ region: to.region, maxBytes: 10 });
      const send = pair.qa.send(source(11, 1).region, { bytes: 11 });
      const codes = Promise.all([codeOf(send.injected), codeOf(receive.arrived)]);
      expect(await pair.run(codes)).toEqual(["TOO_LARGE", "TOO_LARGE"]);
    }));

  test("progress can be watched to the end, which ends the iteration", () =>
    withPair(maker, {}, async (pair) => {
      const { write, receive } = transferOf(pair, bytes);
      const watch = async (transfer: typeof write | typeof receive) => {
        let last = { chunksDone: -1, chunkCount: -1 };
        for await (const now of transfer.progress()) {
          expect(now.chunksDone).toBeGreaterThanOrEqual(last.chunksDone);
          last = now;
        }
        return last;
      };
      const seen = await pair.run(Promise.all([watch(write), watch(receive)]));
      for (const last of seen) expect(last).toEqual({ chunksDone: 64, chunkCount: 64 });
      await pair.run(Promise.all([write, receive]));
      const again = await pair.run(watch(receive));
      expect(again.chunksDone).toBe(64);
    }));

  test("iteration over a receive's progress ends when its queue pair closes, and it can still be asked", () =>
    withPair(maker, {}, async (pair) => {
      const { receive } = await openStream(pair, bytes, 88);
      const ended = codeOf(receive.arrived);
      const watch = async () => {
        for await (const _progress of receive) void pair.qb.close();
        await pair.qb.close();
        return receive.progress;
      };
      const { chunksDone, chunkCount, complete } = await pair.run(watch());
      expect(chunksDone).toBeLessThan(chunkCount);
      expect(complete).toBe(false);
      expect(await pair.run(ended)).toBe("CLOSED");
    }));

  test("iteration over a receive's progress ends when the receive is completed early", () =>
    withPair(maker, {}, async (pair) => {
      const { receive } = await openStream(pair, bytes, 86);
      const watch = async () => {
        let looks = 0;
        for await (const _progress of receive) if (++looks === 2) receive.complete();
        return looks;
      };
      const looks = watch();
      const once = pair.until("a second look", () => receive.state === "completed");
      receive.handleProgress(false, pair.b.nowNs());
      await once;
      expect(await pair.run(looks)).toBeGreaterThanOrEqual(2);
    }));
}
