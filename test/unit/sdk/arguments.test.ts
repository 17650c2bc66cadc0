/** What callers get wrong: a clear error with a stable code, nothing posted, nothing left hanging. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  Context,
  EmulatedWorld,
  MemoryRegion,
  parsePolicy,
  type QueuePair,
  reliableReceive,
  reliableWrite,
  SdrError,
} from "../../../src/sdk/index.ts";

const policy = parsePolicy("sr-nack");
const bytes = () => new Uint8Array(8);
/** What TypeScript would not let a caller pass, and JavaScript does. */
const wrong = (value: unknown) => value as never;

/** The code of what `call` throws, at once or later. */
async function codeOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof SdrError)) return `not ours: ${error}`;
    expect(error.remedy).not.toBe("");
    return error.code;
  }
  return "no error";
}

function detached(): ArrayBuffer {
  const buffer = new ArrayBuffer(8);
  structuredClone(buffer, { transfer: [buffer] });
  return buffer;
}

function closedRegion(): MemoryRegion {
  const region = MemoryRegion.allocate(8);
  region.close();
  return region;
}

describe.each(["emulated", "udp"])("%s", (transport) => {
  let world: EmulatedWorld;
  let a: Context;
  let b: Context;
  let qa: QueuePair;
  let qb: QueuePair;
  const run = <T>(work: Promise<T>) => (transport === "udp" ? work : world.run(work));

  beforeAll(async () => {
    world = new EmulatedWorld({ seed: 1 });
    [a, b] =
      transport === "udp"
        ? [Context.udp(), Context.udp()]
        : [Context.emulated(world), Context.emulated(world)];
    [qa, qb] = [a.createQueuePair(), b.createQueuePair()];
    await run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  });
  afterAll(() => {
    a.close();
    b.close();
    world.close();
  });

  const transfers: readonly (readonly [string, (qp: QueuePair, call: Call) => unknown])[] = [
    ["no policy", (qp, call) => call(qp, bytes(), wrong(undefined))],
    ["a policy's name", (qp, call) => call(qp, bytes(), wrong("sr-nack"))],
    ["half a policy", (qp, call) => call(qp, bytes(), wrong({ name: "half" }))],
    ["a policy with a long name", (qp, call) => call(qp, bytes(), { ...policy, name: longName })],
    ["no memory", (qp, call) => call(qp, wrong(undefined), policy)],
    ["text as memory", (qp, call) => call(qp, wrong("text"), policy)],
    ["an array as memory", (qp, call) => call(qp, wrong([1, 2]), policy)],
    ["shared memory", (qp, call) => call(qp, wrong(new SharedArrayBuffer(8)), policy)],
    ["detached memory", (qp, call) => call(qp, detached(), policy)],
    ["an offset beyond it", (qp, call) => call(qp, bytes(), policy, { offset: 9 })],
    ["an offset that is no number", (qp, call) => call(qp, bytes(), policy, { offset: NaN })],
    ["more bytes than there are", (qp, call) => call(qp, bytes(), policy, { bytes: 9 })],
    ["bytes as text", (qp, call) => call(qp, bytes(), policy, { bytes: wrong("8") })],
    ["a deadline of NaN", (qp, call) => call(qp, bytes(), policy, { timeoutNs: NaN })],
    ["a deadline as text", (qp, call) => call(qp, bytes(), policy, { timeoutNs: wrong("5") })],
    ["a deadline before now", (qp, call) => call(qp, bytes(), policy, { timeoutNs: -1 })],
    ["a signal that is none", (qp, call) => call(qp, bytes(), policy, { signal: wrong({}) })],
  ];
  type Call = typeof reliableWrite | typeof reliableReceive;
  const longName = "x".repeat(100);

  test.each(transfers)("a transfer with %s is INVALID_ARGUMENT", async (_name, make) => {
    expect(await codeOf(() => make(qa, reliableWrite))).toBe("INVALID_ARGUMENT");
    expect(await codeOf(() => make(qb, reliableReceive))).toBe("INVALID_ARGUMENT");
  });

  test.each([
    ["send without memory", () => qa.send(wrong(undefined))],
    ["send of text", () => qa.send(wrong("text"))],
    ["a receive without memory", () => qb.postReceive(wrong({}))],
    ["a send without a size", () => qa.startSend(wrong({}))],
    ["an immediate above 32 bits", () => qa.startSend({ bytes: 8, immediate: 2 ** 32 })],
    ["a split as text", () => a.createQueuePair({ split: wrong("10+18+4") })],
    ["a rate as text", () => a.createQueuePair({ rateBps: wrong("1000") })],
    ["connect with a signal that is none", () => made().connect(info(), { signal: wrong({}) })],
  ])("%s is INVALID_ARGUMENT", async (_name, call) => {
    expect(await codeOf(call)).toBe("INVALID_ARGUMENT");
  });
  const made = () => a.createQueuePair();
  const info = () => b.createQueuePair().info();

  test("a closed region is CLOSED", async () => {
    expect(await codeOf(() => reliableWrite(qa, closedRegion(), policy))).toBe("CLOSED");
    expect(await codeOf(() => reliableReceive(qb, closedRegion(), policy))).toBe("CLOSED");
  });

  test("a phantom is taken or refused at once, by what the transport can do", async () => {
    if (a.capabilities.phantom) return;
    const phantom = MemoryRegion.phantom(8);
    for (const post of [
      () => reliableWrite(qa, phantom, policy),
      () => qa.send(phantom),
      () => qb.postReceive({ region: phantom }),
    ])
      expect(await codeOf(post)).toBe("INVALID_ARGUMENT");
  });

  test("a send before connect is INVALID_ARGUMENT, a receive may be posted", async () => {
    const [early, late] = [a.createQueuePair(), b.createQueuePair()];
    expect(await codeOf(() => reliableWrite(early, bytes(), policy))).toBe("INVALID_ARGUMENT");
    const target = bytes();
    const receive = reliableReceive(late, target, policy);
    await run(Promise.all([early.connect(late.info()), late.connect(early.info())]));
    await run(Promise.all([reliableWrite(early, bytes().fill(7), policy), receive]));
    expect(target).toEqual(bytes().fill(7));
  });

  test("a queue pair's own info is PEER_INCOMPATIBLE", async () => {
    const qp = a.createQueuePair();
    expect(await codeOf(() => qp.connect(qp.info()))).toBe("PEER_INCOMPATIBLE");
  });

  test("after all that was refused, the n-th send still lands in the n-th receive", async () => {
    const target = bytes();
    const receive = reliableReceive(qb, target, policy);
    const write = reliableWrite(qa, bytes().fill(9), policy);
    const [{ message }] = await run(Promise.all([receive, write]));
    expect([message, ...target]).toEqual([0, 9, 9, 9, 9, 9, 9, 9, 9]);
  });

  test("use after close is CLOSED, closing twice is fine", async () => {
    const [c, d] =
      transport === "udp"
        ? [Context.udp(), Context.udp()]
        : [Context.emulated(world), Context.emulated(world)];
    const [from, to] = [c.createQueuePair(), d.createQueuePair()];
    await run(Promise.all([from.connect(to.info()), to.connect(from.info())]));
    await run(Promise.all([from.close(), to[Symbol.asyncDispose]()]));
    await run(Promise.all([from.close(), to.close()]));
    for (const use of [
      () => reliableWrite(from, bytes(), policy),
      () => from.postReceive({ region: bytes() }),
      () => from.info(),
      () => from.setLink({}),
    ])
      expect(await codeOf(use)).toBe("CLOSED");
    expect(from.counters().packetsSent).toBe(0);
    for (const context of [c, d, c]) context.close();
    expect(await codeOf(() => c.createQueuePair())).toBe("CLOSED");
    from[Symbol.dispose]();
  });
});

test.each([-1, 1.5, Number.NaN, "7", 2 ** 60])("seed %s is INVALID_ARGUMENT", async (seed) => {
  expect(await codeOf(() => Context.udp({ seed: wrong(seed) }))).toBe("INVALID_ARGUMENT");
  expect(await codeOf(() => new EmulatedWorld({ seed: wrong(seed) }))).toBe("INVALID_ARGUMENT");
});

test("a closed context's clock and a closed world are CLOSED", async () => {
  const context = Context.udp();
  context.close();
  expect(await codeOf(() => context.nowNs())).toBe("CLOSED");
  const world = new EmulatedWorld();
  const emulated = Context.emulated(world);
  world.close();
  world.close();
  expect(await codeOf(() => world.run(new Promise(() => {})))).toBe("CLOSED");
  expect(await codeOf(() => emulated.createQueuePair())).toBe("CLOSED");
});

test("a context out of room for queue pairs is BUSY", async () => {
  const context = Context.udp();
  const fill = () => {
    for (;;) context.createQueuePair({ maxMessages: 1, maxMessageBytes: 1 });
  };
  try {
    expect(await codeOf(fill)).toBe("BUSY");
  } finally {
    context.close();
  }
});
