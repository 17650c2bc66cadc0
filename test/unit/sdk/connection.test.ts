/** How the two ends of a connection learn of its end. */
import { expect, test } from "vitest";
import {
  Context,
  EmulatedWorld,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../../src/sdk/index.ts";

const policy = parsePolicy("sr-nack");

async function connected(world: EmulatedWorld, peerTimeoutNs: { a: number; b: number }) {
  const link = parseLink("delay 1ms");
  const [a, b] = [Context.emulated(world, link), Context.emulated(world, link)];
  const qa = a.createQueuePair({ peerTimeoutNs: peerTimeoutNs.a });
  const qb = b.createQueuePair({ peerTimeoutNs: peerTimeoutNs.b });
  await world.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  return { qa, qb };
}

test("an end that gives up a silent peer tells it, in case it is only the way back that is cut", async () => {
  const world = new EmulatedWorld({ seed: 1 });
  const { qa, qb } = await connected(world, { a: 100e6, b: 3600e9 });
  qb.setLink(parseLink("delay 1ms loss 100%"));
  const startNs = world.nowNs();
  const write = reliableWrite(qa, new Uint8Array(10), policy);
  const receive = reliableReceive(qb, new Uint8Array(10), policy);
  const errors = [write, receive].map((each) => each.catch((error) => error));
  const [here, there] = await world.run(Promise.all(errors));
  expect(here).toMatchObject({ code: "PEER_UNREACHABLE" });
  expect(there).toMatchObject({ code: "PEER_CLOSED" });
  expect(world.nowNs() - startNs).toBeLessThan(200e6);
});

test("ending in good order waits for the final ACK, ending at once does not", async () => {
  const world = new EmulatedWorld({ seed: 2 });
  const { qa, qb } = await connected(world, { a: 5e9, b: 5e9 });
  const write = reliableWrite(qa, new Uint8Array(10), policy);
  await world.run(async () => {
    await reliableReceive(qb, new Uint8Array(10), policy);
    qb.setLink(parseLink("delay 1ms drop ack 1-3"));
    await qb[Symbol.asyncDispose]();
  });
  expect(await world.run(write)).toMatchObject({ bytes: 10 });
  expect(qb.isConnected).toBe(false);
});

test("work cut off by the peer's closing is PEER_CLOSED, also while that end lingers", async () => {
  const world = new EmulatedWorld({ seed: 4 });
  const { qa, qb } = await connected(world, { a: 5e9, b: 5e9 });
  qb.setLink(parseLink("rate 100mbit delay 1ms"));
  // The final ACK is not confirmed: closing takes its time.
  qa.setLink(parseLink("rate 100mbit delay 1ms drop done 1-100"));
  const first = [
    reliableWrite(qa, new Uint8Array(10), policy),
    reliableReceive(qb, new Uint8Array(10), policy),
  ];
  await world.run(Promise.all(first));
  const ends = [reliableWrite, reliableReceive].map((call) =>
    call(qa, new Uint8Array(1e6), policy).catch((error) => error.code),
  );
  const cut = [reliableReceive, reliableWrite].map((call) => call(qb, new Uint8Array(1e6), policy));
  const codes = cut.map((each) => each.catch((error) => error.code));
  await world.advance(2.1e6); // the first START has arrived in each direction, its copies are under way
  expect(await world.run(Promise.all([...codes, qb.close()]))).toEqual([
    "CLOSED",
    "CLOSED",
    undefined,
  ]);
  expect(await world.run(Promise.all(ends))).toEqual(["PEER_CLOSED", "PEER_CLOSED"]);
});

test("a write whose final ACK comes together with the peer's closing is delivered", async () => {
  const world = new EmulatedWorld({ seed: 5 });
  const { qa, qb } = await connected(world, { a: 5e9, b: 5e9 });
  const write = reliableWrite(qa, new Uint8Array(10), policy);
  await world.run(async () => {
    await reliableReceive(qb, new Uint8Array(10), policy);
    qb[Symbol.dispose]();
  });
  const late = qa.startSend({ bytes: 10 });
  expect(await world.run(write)).toMatchObject({ bytes: 10 });
  await world.run(late.ready.catch(() => {}));
  expect(() => late.continue({} as never)).toThrow("closed the connection");
});

test("an end that is disposed of tells its peer in the background", async () => {
  const world = new EmulatedWorld({ seed: 3 });
  const { qa, qb } = await connected(world, { a: 5e9, b: 3600e9 });
  const startNs = world.nowNs();
  const receive = reliableReceive(qb, new Uint8Array(10), policy).catch((error) => error);
  qa[Symbol.dispose]();
  expect(qa.isConnected).toBe(false);
  expect(await world.run(receive)).toMatchObject({ code: "PEER_CLOSED" });
  expect(world.nowNs() - startNs).toBeLessThan(100e6);
});

test("a context in an async scope closes what is open in it; what never connected needs no time", async () => {
  const a = Context.udp();
  const b = Context.udp();
  const [qa, qb] = [a.createQueuePair(), b.createQueuePair({ peerTimeoutNs: 3600e9 })];
  await Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]);
  const receive = reliableReceive(qb, new Uint8Array(10), policy).catch((error) => error);
  await a[Symbol.asyncDispose]();
  expect(await receive).toMatchObject({ code: "PEER_CLOSED" });
  expect(() => a.createQueuePair()).toThrow("closed");
  await b.createQueuePair().close();
  await Context.emulated(new EmulatedWorld()).createQueuePair().close();
  await b[Symbol.asyncDispose]();
});
