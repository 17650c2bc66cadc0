/** Compliance cases of connections: incompatible ends, ends that go away, aborts, deadlines, and wrong calls. */
import { expect, test } from "vitest";
import {
  goBackN,
  type LinkProfile,
  MemoryRegion,
  parseLink,
  type QueuePairAttributes,
  reliableReceive,
  reliableWrite,
} from "../../src/sdk/index.ts";
import {
  codeOf,
  codeThrown,
  expectArrived,
  expectNothingForeign,
  type Fixture,
  type FixtureMaker,
  type Pair,
  packetsMet,
  source,
  target,
  withPair,
} from "./fixture.ts";
import { openStream, sendOnce } from "./transfers.ts";
import { caseIf } from "./transport.ts";

const LOSE_ALL: LinkProfile = parseLink("loss 100%");
const policy = goBackN();

export function lifeCases(maker: FixtureMaker): void {
  const packet = maker.attributes.packetBytes ?? maker.capabilities.packetBytesDefault;
  const chunk = maker.attributes.chunkBytes ?? packet * Math.round(65_536 / packet);
  connectCases(maker, chunk);
  goneCases(maker, chunk);
  abortCases(maker, chunk);
  closedCases(maker, chunk);
  memoryCases(maker, chunk);
}

async function withContexts(maker: FixtureMaker, body: (fixture: Fixture) => Promise<void>) {
  const fixture = maker.make({ forward: {}, backward: {}, seed: 1 });
  try {
    await body(fixture);
  } finally {
    fixture.close();
  }
}

/** The info with one field of it, or of its transport part, changed. */
function mangled(info: Uint8Array, change: (fields: Record<string, unknown>) => void): Uint8Array {
  const fields = JSON.parse(new TextDecoder().decode(info)) as Record<string, unknown>;
  change(fields);
  return new TextEncoder().encode(JSON.stringify(fields));
}

function connectCases(maker: FixtureMaker, chunk: number): void {
  const packet = maker.attributes.packetBytes ?? maker.capabilities.packetBytesDefault;
  const other: [string, QueuePairAttributes][] = [
    ["packetBytes", { packetBytes: packet + 4, chunkBytes: packet + 4 }],
    ["chunkBytes", { chunkBytes: chunk + packet }],
    ["split", { split: [8, 22, 2] }],
    ["maxMessages", { maxMessages: 3 }],
    ["generations", { generations: 5 }],
  ];
  test.each(other)("ends that differ in %s refuse to connect", (_name, attributes) =>
    withContexts(maker, async ({ a, b, run }) => {
      const qa = a.createQueuePair(maker.attributes);
      const qb = b.createQueuePair({ ...maker.attributes, ...attributes });
      const both = [codeOf(qa.connect(qb.info())), codeOf(qb.connect(qa.info()))];
      expect(await run(Promise.all(both))).toEqual(["PEER_INCOMPATIBLE", "PEER_INCOMPATIBLE"]);
    }),
  );

  const blobs: [string, (info: Uint8Array) => Uint8Array][] = [
    ["empty", () => new Uint8Array()],
    ["cut short", (info) => info.subarray(0, info.length >> 1)],
    ["not UTF-8", (info) => info.map((byte) => byte ^ 0xff)],
    ["too long", () => new Uint8Array(100_000).fill(32)],
    ["JSON null", () => new TextEncoder().encode("null")],
    ["an array", () => new TextEncoder().encode("[1]")],
    ["of another version", (info) => mangled(info, (f) => (f.sdr = 99))],
    ["without transport", (info) => mangled(info, (f) => delete f.transport)],
    [
      "of a transport unknown here",
      (info) => mangled(info, (f) => (f.transport = { transport: "x" })),
    ],
    ["of a string transport", (info) => mangled(info, (f) => (f.transport = "udp"))],
    ["with a negative buffer", (info) => mangled(info, (f) => (f.receiveBufferBytes = -1))],
    ["without a split", (info) => mangled(info, (f) => delete f.split)],
  ];
  test.each(blobs)("an info that is %s is PEER_INCOMPATIBLE", (_name, mangle) =>
    withContexts(maker, async ({ a, b, run }) => {
      const qa = a.createQueuePair(maker.attributes);
      const qb = b.createQueuePair(maker.attributes);
      expect(await run(codeOf(qa.connect(mangle(qb.info()))))).toBe("PEER_INCOMPATIBLE");
      expect(await run(codeOf(qa.connect("text" as unknown as Uint8Array)))).toBe(
        "PEER_INCOMPATIBLE",
      );
    }),
  );

  test("after a refused info the right one still connects", () =>
    withContexts(maker, async ({ a, b, run }) => {
      const qa = a.createQueuePair(maker.attributes);
      const qb = b.createQueuePair(maker.attributes);
      expect(await run(codeOf(qa.connect(new Uint8Array())))).toBe("PEER_INCOMPATIBLE");
      await run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
      expect(qa.isConnected && qb.isConnected).toBe(true);
      expect(await run(codeOf(qa.connect(qb.info())))).toBe("INVALID_ARGUMENT");
    }));

  const keyed = maker.capabilities.name === "udp";
  caseIf(
    keyed,
    `${maker.name} has no keys`,
    "datagrams with a wrong key are counted and ignored",
    () =>
      withContexts(maker, async (fixture) => {
        const { a, b, run } = fixture;
        const attributes = { ...maker.attributes, peerTimeoutNs: 100e6 };
        const qa = a.createQueuePair(attributes);
        const qb = b.createQueuePair(attributes);
        const forged = mangled(qb.info(), (fields) => {
          fields.transport = { ...(fields.transport as object), key: "1234567890abcdef" };
        });
        const both = [codeOf(qa.connect(forged)), codeOf(qb.connect(qa.info()))];
        expect(await run(Promise.all(both))).toEqual(["PEER_UNREACHABLE", "PEER_UNREACHABLE"]);
        expect(fixture.unknownDatagrams?.()).toBeGreaterThan(0);
      }),
  );

  test("connecting to an end that never answers is PEER_UNREACHABLE within the stated time", () =>
    withContexts(maker, async ({ a, b, run }) => {
      const peerTimeoutNs = 50e6;
      const qa = a.createQueuePair({ ...maker.attributes, peerTimeoutNs });
      const qb = b.createQueuePair({ ...maker.attributes, peerTimeoutNs });
      const startNs = a.nowNs();
      qb.connect(qa.info()).catch(() => {});
      const info = qb.info();
      qb[Symbol.dispose]();
      const code = await run(codeOf(qa.connect(info)));
      if (code === "PEER_INCOMPATIBLE") return; // a transport may know at once that the end is gone
      expect(code).toBe("PEER_UNREACHABLE");
      expect(a.nowNs() - startNs).toBeGreaterThanOrEqual(peerTimeoutNs);
    }));

  test("connecting can be aborted", () =>
    withContexts(maker, async ({ a, b, run }) => {
      const qa = a.createQueuePair(maker.attributes);
      const qb = b.createQueuePair(maker.attributes);
      const abort = new AbortController();
      const code = codeOf(qa.connect(qb.info(), { signal: abort.signal }));
      abort.abort();
      expect(await run(code)).toBe("ABORTED");
      expect(codeThrown(() => qa.startSend({ bytes: 1 }))).toBe("ABORTED");
    }));
}

/** A write and its receive under a policy, not awaited. */
function transferOf(pair: Pair, bytes: number, options = {}) {
  const [from, to] = [source(bytes, 81), target(bytes)];
  const { offset } = from;
  const receive = reliableReceive(pair.qb, to.region, policy, { offset, bytes, ...options });
  const write = reliableWrite(pair.qa, from.region, policy, { offset, bytes, ...options });
  return { from, to, receive, write, codes: Promise.all([codeOf(write), codeOf(receive)]) };
}

function goneCases(maker: FixtureMaker, chunk: number): void {
  const attributes = { peerTimeoutNs: 200e6 };
  const bytes = 8 * chunk;

  test("a peer that vanishes without a word is PEER_UNREACHABLE on both ends in the stated time", () =>
    withPair(maker, { attributes }, async (pair) => {
      const { codes } = transferOf(pair, bytes);
      pair.qa.setLink(LOSE_ALL);
      pair.qb.setLink(LOSE_ALL);
      const startNs = pair.a.nowNs();
      expect(await pair.run(codes)).toEqual(["PEER_UNREACHABLE", "PEER_UNREACHABLE"]);
      const tookNs = pair.a.nowNs() - startNs;
      expect(tookNs).toBeGreaterThanOrEqual(attributes.peerTimeoutNs / 2);
      if (maker.capabilities.virtualTime)
        expect(tookNs).toBeLessThanOrEqual(attributes.peerTimeoutNs * 1.1);
      expect(codeThrown(() => pair.qa.startSend({ bytes: 1 }))).toBe("PEER_UNREACHABLE");
    }));

  test("an idle connection outlives silence, and works after it", () =>
    withPair(maker, { attributes: { peerTimeoutNs: 150e6 } }, async (pair) => {
      const waitUntilNs = pair.a.nowNs() + 320e6;
      await pair.until("two timeouts of silence", () => pair.a.nowNs() >= waitUntilNs);
      const { from, to, write, receive } = transferOf(pair, bytes);
      await pair.run(Promise.all([write, receive]));
      expectArrived(to, from);
    }));

  test("a receive that waits longer than the peer timeout for its send is kept alive by probes", () =>
    withPair(maker, { attributes: { peerTimeoutNs: 150e6 } }, async (pair) => {
      const [from, to] = [source(bytes, 82), target(bytes)];
      const receive = reliableReceive(pair.qb, to.region, policy, { offset: to.offset, bytes });
      const waitUntilNs = pair.a.nowNs() + 320e6;
      await pair.until("two timeouts", () => pair.a.nowNs() >= waitUntilNs);
      const { offset } = from;
      await pair.run(
        Promise.all([receive, reliableWrite(pair.qa, from.region, policy, { offset, bytes })]),
      );
      expectArrived(to, from);
    }));

  test("a peer that closes is PEER_CLOSED, the closing end's own work CLOSED", () =>
    withPair(maker, { attributes }, async (pair) => {
      const waiting = pair.qa.startSend({ bytes: 10 });
      const receive = pair.qb.postReceive({ region: target(10).region, maxBytes: 10 });
      await pair.run(waiting.ready);
      const ends = Promise.all([codeOf(waiting.injected), codeOf(receive.arrived)]);
      const closed = pair.qb.close();
      expect(await pair.run(ends)).toEqual(["PEER_CLOSED", "CLOSED"]);
      await pair.run(closed);
      expect(codeThrown(() => pair.qa.startSend({ bytes: 1 }))).toBe("PEER_CLOSED");
      await pair.run(pair.qa.close());
    }));

  test("both ends close at once", () =>
    withPair(maker, {}, async (pair) => {
      const { from, to, write, receive } = transferOf(pair, bytes);
      await pair.run(Promise.all([write, receive]));
      await pair.run(Promise.all([pair.qa.close(), pair.qb.close(), pair.qa.close()]));
      expectArrived(to, from);
    }));

  test("closing while a transfer is in flight fails it on both ends", () =>
    withPair(
      maker,
      { forward: "rate 50mbit delay 1ms", backward: "delay 1ms", attributes },
      async (pair) => {
        const { from, to, codes } = transferOf(pair, 32 * chunk);
        await pair.until("data to leave", () => pair.qa.counters().packetsSent > 0);
        const closed = pair.qa.close();
        expect(await pair.run(codes)).toEqual(["CLOSED", "PEER_CLOSED"]);
        await pair.run(closed);
        expectNothingForeign(to, from);
      },
    ));

  test("a context closed while everything is in flight ends all its work at once", () =>
    withPair(maker, { attributes }, async (pair) => {
      const work = [1, 2, 3].map((i) => transferOf(pair, i * chunk));
      await pair.until("data to leave", () => pair.qa.counters().packetsSent > 0);
      pair.a.close();
      for (const { codes, from, to } of work) {
        const [write, receive] = await pair.run(codes);
        expect(["CLOSED", "no error"]).toContain(write);
        expect(["PEER_CLOSED", "PEER_UNREACHABLE", "no error"]).toContain(receive);
        expectNothingForeign(to, from);
      }
    }));
}

function abortCases(maker: FixtureMaker, chunk: number): void {
  const bytes = 64 * chunk;
  const slow = { forward: "rate 50mbit delay 2ms", backward: "delay 2ms" };

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
      const forward = `rate 50mbit delay 1ms ${end === "sender" ? rule : ""}`;
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

function closedCases(maker: FixtureMaker, chunk: number): void {
  test("calls after close are CLOSED", () =>
    withPair(maker, {}, async (pair) => {
      const { region } = target(chunk);
      const stream = await openStream(pair, chunk, 87);
      const closed = Promise.all([pair.qa.close(), pair.qb.close()]);
      const calls: (() => unknown)[] = [
        () => pair.qa.info(),
        () => pair.qa.startSend({ bytes: 1 }),
        () => pair.qa.send(region),
        () => pair.qa.setLink({}),
        () => pair.qb.postReceive({ region }),
        () => reliableWrite(pair.qa, region, policy),
        () => reliableReceive(pair.qb, region, policy),
        () => stream.receive.bitmap,
        () => stream.receive.chunkExpand(0),
        () => stream.send.continue({ region, offset: 0, chunk: 0, bytes: chunk }),
      ];
      for (const [i, call] of calls.entries()) expect(codeThrown(call), `call ${i}`).toBe("CLOSED");
      await pair.run(closed);
      for (const [i, call] of calls.entries()) expect(codeThrown(call), `call ${i}`).toBe("CLOSED");
      expect(await codeOf(pair.qa.connect(new Uint8Array()))).toBe("CLOSED");
      stream.receive.complete();
      stream.send.abort();
      stream.receive.abort();
      stream.send.end();
      expect(pair.qa.counters().packetsSent).toBeGreaterThanOrEqual(0);
      pair.a.close();
      expect(codeThrown(() => pair.a.createQueuePair())).toBe("CLOSED");
      pair.a.close();
    }));

  test("`using` ends receives, regions, queue pairs and contexts", () =>
    withContexts(maker, async ({ a, b, run }) => {
      let held: MemoryRegion;
      {
        using qa = a.createQueuePair(maker.attributes);
        using qb = b.createQueuePair(maker.attributes);
        using region = MemoryRegion.allocate(chunk);
        held = region;
        await run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
        using receive = qb.postReceive({ region });
        qa.send(region, { bytes: 5 });
        await run(receive.arrived);
      }
      expect(codeThrown(() => held.native)).toBe("CLOSED");
      {
        using context = a;
        expect(context.capabilities.name).toBe(maker.capabilities.name);
      }
      expect(codeThrown(() => a.createQueuePair())).toBe("CLOSED");
    }));

  test("a queue pair made for one direction refuses the other", () =>
    withPair(maker, { attributes: { sendEnabled: false } }, async ({ qa }) => {
      expect(codeThrown(() => qa.startSend({ bytes: 1 }))).toBe("UNSUPPORTED");
    }));
}

function memoryCases(maker: FixtureMaker, chunk: number): void {
  test("memory of the wrong kind is INVALID_ARGUMENT", () => {
    const detached = new ArrayBuffer(16);
    structuredClone(detached, { transfer: [detached] });
    const wrong: unknown[] = [
      undefined,
      null,
      7,
      "text",
      [1, 2],
      {},
      new SharedArrayBuffer(16),
      new Uint8Array(new SharedArrayBuffer(16)),
      detached,
    ];
    for (const value of wrong)
      expect(codeThrown(() => MemoryRegion.register(value as ArrayBuffer))).toBe(
        "INVALID_ARGUMENT",
      );
    for (const bytes of [-1, 1.5, Number.NaN, 2 ** 60])
      expect(["INVALID_ARGUMENT", "ENVIRONMENT"]).toContain(
        codeThrown(() => MemoryRegion.allocate(bytes)),
      );
  });

  test("a buffer of 0 bytes, a DataView and a Buffer can be registered", () =>
    withPair(maker, {}, async (pair) => {
      const bytes = new Uint8Array(64).fill(9);
      const views = [
        new DataView(bytes.buffer, 3, 17),
        Buffer.from(bytes.buffer, 5, 9),
        new ArrayBuffer(0),
      ];
      for (const view of views) {
        const region = MemoryRegion.register(view);
        const to = target(region.bytes);
        const receive = pair.qb.postReceive({
          region: to.region,
          offset: to.offset,
          maxBytes: to.bytes,
        });
        pair.qa.send(region);
        await pair.run(receive.arrived);
        receive.complete();
        expect([...to.data]).toEqual([...region.data]);
      }
    }));

  test("ranges outside a region, bad lengths and immediates are INVALID_ARGUMENT", () =>
    withPair(maker, {}, async ({ qa, qb }) => {
      const { region } = target(chunk);
      const size = region.bytes;
      const calls: (() => unknown)[] = [
        () => qa.send(region, { offset: 1, bytes: size }),
        () => qa.send(region, { offset: -1, bytes: 1 }),
        () => qa.send(region, { offset: 0.5, bytes: 1 }),
        () => qa.send(region, { bytes: -1 }),
        () => qa.send(region, { bytes: Number.NaN }),
        () => qa.send(region, { offset: Number.NaN }),
        () => qa.startSend({ bytes: 1.5 }),
        () => qa.startSend({ bytes: 1, immediate: -1 }),
        () => qa.startSend({ bytes: 1, immediate: 2 ** 32 }),
        () => qb.postReceive({ region, offset: size + 1 }),
        () => qb.postReceive({ region, maxBytes: size + 1 }),
        () => qb.postReceive({ region, offset: -1, maxBytes: 1 }),
        () => reliableWrite(qa, region, policy, { offset: 2, bytes: size }),
        () => reliableReceive(qb, region, policy, { offset: 2, bytes: size }),
      ];
      for (const [i, call] of calls.entries())
        expect(codeThrown(call), `call ${i}`).toBe("INVALID_ARGUMENT");
      const large = qa.attributes.maxMessageBytes + 1;
      expect(codeThrown(() => qa.startSend({ bytes: large }))).toBe("TOO_LARGE");
    }));

  test("wrong ranges of a stream are INVALID_ARGUMENT, posts after its end CLOSED", () =>
    withPair(maker, {}, async (pair) => {
      const { send, from } = await openStream(pair, 3 * chunk + 1, 88);
      const { region } = from;
      const request = { region, offset: 0, chunk: 0, bytes: chunk };
      const wrong = [
        { chunk: -1 },
        { chunk: 4 },
        { chunk: 1.5 },
        { bytes: 0 },
        { bytes: chunk - 1 },
        { bytes: 5 * chunk },
        { chunk: 3, bytes: chunk },
        { offset: region.bytes },
        { offset: -1 },
      ];
      for (const change of wrong)
        expect(codeThrown(() => send.continue({ ...request, ...change }))).toBe("INVALID_ARGUMENT");
      send.end();
      expect(codeThrown(() => send.continue(request))).toBe("CLOSED");
    }));

  test("a closed region takes no work, and work that has it goes on", () =>
    withPair(maker, {}, async (pair) => {
      const [from, to] = [source(3 * chunk, 89), target(3 * chunk)];
      const { region, offset } = to;
      const receive = pair.qb.postReceive({ region, offset, maxBytes: to.bytes });
      region.close();
      expect(codeThrown(() => pair.qb.postReceive({ region, maxBytes: 1 }))).toBe("CLOSED");
      expect(codeThrown(() => pair.qa.send(region))).toBe("CLOSED");
      pair.qa.send(from.region, { offset: from.offset, bytes: from.bytes });
      await pair.run(receive.arrived);
      receive.complete();
      expectArrived(to, from);
    }));

  test("a buffer detached before its send begins fails that send alone, INVALID_ARGUMENT", () =>
    withPair(maker, {}, async (pair) => {
      const buffer = new ArrayBuffer(2 * chunk);
      const write = reliableWrite(pair.qa, buffer, policy);
      const kept = structuredClone(buffer, { transfer: [buffer] });
      const to = target(2 * chunk);
      const receive = reliableReceive(pair.qb, to.region, policy, {
        offset: to.offset,
        bytes: to.bytes,
      });
      const codes = Promise.all([codeOf(write), codeOf(receive)]);
      expect(await pair.run(codes)).toEqual(["INVALID_ARGUMENT", "INVALID_ARGUMENT"]);
      expect(kept.byteLength).toBe(2 * chunk);
      const next = transferOf(pair, chunk);
      await pair.run(Promise.all([next.write, next.receive]));
      expectArrived(next.to, next.from);
    }));

  test("a detached buffer cannot be posted", () =>
    withPair(maker, {}, async ({ qa, qb }) => {
      const buffer = new ArrayBuffer(64);
      const region = MemoryRegion.register(buffer);
      const kept = structuredClone(buffer, { transfer: [buffer] });
      expect(codeThrown(() => qb.postReceive({ region }))).toBe("INVALID_ARGUMENT");
      expect(kept.byteLength).toBe(64);
      expect(qa.isConnected).toBe(true);
    }));

  const { phantom } = maker.capabilities;
  caseIf(!phantom, `${maker.name} takes phantoms`, "a phantom region is refused", () =>
    withPair(maker, {}, async ({ qb }) => {
      const region = MemoryRegion.phantom(chunk);
      expect(codeThrown(() => qb.postReceive({ region }))).toBe("INVALID_ARGUMENT");
    }),
  );
  caseIf(
    phantom,
    `${maker.name} needs memory`,
    "phantom messages set bitmaps and touch no memory",
    () =>
      withPair(maker, {}, async (pair) => {
        const region = MemoryRegion.phantom(5 * chunk + 1);
        const receive = pair.qb.postReceive({ region });
        pair.qa.send(region);
        await pair.run(receive.arrived);
        expect(receive.bitmap.count()).toBe(6);
        receive.complete();
        const real = await sendOnce(pair, chunk, 90);
        real.receive.complete();
        expectArrived(real.to, real.from);
      }),
  );
}
