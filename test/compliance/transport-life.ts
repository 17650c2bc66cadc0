/** Compliance cases of connections: incompatible ends, ends that go away, aborts, deadlines, and wrong calls. */
import { expect, test } from "vitest";
import {
  type LinkProfile,
  MemoryRegion,
  parseLink,
  type QueuePairAttributes,
  reliableReceive,
  reliableWrite,
} from "../../src/sdk/index.ts";
import {
  caseIf,
  chunkBytesOf,
  codeOf,
  codeThrown,
  expectArrived,
  expectNothingForeign,
  type Fixture,
  type FixtureMaker,
  packetBytesOf,
  source,
  target,
  withPair,
} from "./fixture.ts";
import { openStream, SOME_POLICY, transferOf } from "./transfers.ts";

const LOSE_ALL: LinkProfile = parseLink("loss 100%");
const policy = SOME_POLICY;

export function lifeCases(maker: FixtureMaker): void {
  const chunk = chunkBytesOf(maker);
  connectCases(maker, chunk);
  goneCases(maker, chunk);
  closedCases(maker, chunk);
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
  const packet = packetBytesOf(maker);
  const unlike = packet + 4 <= maker.capabilities.packetBytesMax ? packet + 4 : packet - 4;
  const other: [string, QueuePairAttributes][] = [
    ["packetBytes", { packetBytes: unlike, chunkBytes: unlike }],
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
        const attributes = { ...maker.attributes, peerTimeoutNs: REAL_PEER_TIMEOUT_NS };
        const qa = a.createQueuePair(attributes);
        const qb = b.createQueuePair(attributes);
        const forged = mangled(qb.info(), (fields) => {
          fields.transport = { ...(fields.transport as object), key: "1234567890abcdef" };
        });
        const both = [codeOf(qa.connect(forged)), codeOf(qb.connect(qa.info()))];
        // Pings are repeated meanwhile.
        await fixture.until("one to be counted", () => (fixture.unknownDatagrams?.() ?? 0) > 0);
        expect(await run(Promise.all(both))).toEqual(["PEER_UNREACHABLE", "PEER_UNREACHABLE"]);
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

/** In real time a live peer must get to run within it, however busy the machine is. */
const REAL_PEER_TIMEOUT_NS = 1200e6;

function goneCases(maker: FixtureMaker, chunk: number): void {
  const peerTimeoutNs = maker.capabilities.virtualTime ? 200e6 : REAL_PEER_TIMEOUT_NS;
  const attributes = { peerTimeoutNs };
  const bytes = 8 * chunk;

  test("a peer that vanishes without a word is PEER_UNREACHABLE on both ends in the stated time", () =>
    withPair(maker, { attributes }, async (pair) => {
      const { codes } = transferOf(pair, bytes);
      pair.qa.setLink(LOSE_ALL);
      pair.qb.setLink(LOSE_ALL);
      const startNs = pair.a.nowNs();
      expect(await pair.run(codes)).toEqual(["PEER_UNREACHABLE", "PEER_UNREACHABLE"]);
      const tookNs = pair.a.nowNs() - startNs;
      expect(tookNs).toBeGreaterThanOrEqual(peerTimeoutNs / 2);
      if (maker.capabilities.virtualTime) expect(tookNs).toBeLessThanOrEqual(peerTimeoutNs * 1.1);
      expect(codeThrown(() => pair.qa.startSend({ bytes: 1 }))).toBe("PEER_UNREACHABLE");
    }));

  test("a send or receive posted to a peer that is gone is PEER_UNREACHABLE", () =>
    withPair(maker, { attributes }, async (pair) => {
      const quietAtNs = pair.a.nowNs() + 30e6;
      await pair.until("the connection to be idle", () => pair.a.nowNs() >= quietAtNs);
      for (const qp of [pair.qa, pair.qb]) qp.setLink(LOSE_ALL);
      const send = pair.qa.startSend({ bytes: 1 });
      const receive = pair.qb.postReceive({ region: target(1).region, maxBytes: 1 });
      const codes = Promise.all([codeOf(send.ready), codeOf(receive.started)]);
      expect(await pair.run(codes)).toEqual(["PEER_UNREACHABLE", "PEER_UNREACHABLE"]);
    }));

  test("an idle connection outlives silence, and works after it", () =>
    withPair(maker, { attributes }, async (pair) => {
      const waitUntilNs = pair.a.nowNs() + 2.1 * peerTimeoutNs;
      await pair.until("two timeouts of silence", () => pair.a.nowNs() >= waitUntilNs);
      const { from, to, write, receive } = transferOf(pair, bytes);
      await pair.run(Promise.all([write, receive]));
      expectArrived(to, from);
    }));

  test("a receive that waits longer than the peer timeout for its send is kept alive by probes", () =>
    withPair(maker, { attributes }, async (pair) => {
      const [from, to] = [source(bytes, 82), target(bytes)];
      const receive = reliableReceive(pair.qb, to.region, policy, { offset: to.offset, bytes });
      const waitUntilNs = pair.a.nowNs() + 2.1 * peerTimeoutNs;
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

  test("a close is noticed when two of its frames are lost", () =>
    withPair(maker, { backward: "drop close 1-2" }, async (pair) => {
      const waiting = pair.qa.startSend({ bytes: 10 });
      const code = codeOf(waiting.ready);
      const closed = pair.qb.close();
      expect(await pair.run(code)).toBe("PEER_CLOSED");
      await pair.run(closed);
    }));

  test("a close over a path that has become slow arrives", () =>
    withPair(maker, {}, async (pair) => {
      const { from, to, write, receive } = transferOf(pair, bytes);
      await pair.run(Promise.all([write, receive]));
      expectArrived(to, from);
      const code = codeOf(pair.qa.startSend({ bytes: 10 }).ready);
      pair.qb.setLink(parseLink("delay 300ms"));
      const closed = pair.qb.close();
      expect(await pair.run(code)).toBe("PEER_CLOSED");
      await pair.run(closed);
    }));

  test("both ends close at once", () =>
    withPair(maker, {}, async (pair) => {
      const { from, to, write, receive } = transferOf(pair, bytes);
      await pair.run(Promise.all([write, receive]));
      await pair.run(Promise.all([pair.qa.close(), pair.qb.close(), pair.qa.close()]));
      expectArrived(to, from);
    }));

  test("closing while a transfer is in flight fails it on both ends", () => {
    const inFlight = 32 * chunk;
    // A third of a second, whatever the chunk: a busy machine notices late that data has left.
    const rate = `rate ${Math.ceil((inFlight * 8 * 3) / 1000)}kbit`;
    return withPair(
      maker,
      { forward: `${rate} delay 1ms`, backward: "delay 1ms", attributes },
      async (pair) => {
        const { from, to, codes } = transferOf(pair, inFlight);
        await pair.until("data to leave", () => pair.qa.counters().packetsSent > 0);
        const closed = pair.qa.close();
        expect(await pair.run(codes)).toEqual(["CLOSED", "PEER_CLOSED"]);
        await pair.run(closed);
        expectNothingForeign(to, from);
      },
    );
  });

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
