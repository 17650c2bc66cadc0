/** The final ACK waits for the threads at work on the message's bytes: until they are done the receive may fail. */
import { expect, test } from "vitest";
import {
  Context,
  EmulatedWorld,
  MemoryRegion,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../../src/sdk/index.ts";

const SHAPE = { packetBytes: 1024, chunkBytes: 4096 };
const BYTES = 16_384;

type Work = Promise<unknown>;

/** A block that has all but one chunk and is being recovered: `begin` does that work, `end` tells of it. */
async function recovering() {
  const world = new EmulatedWorld({ seed: 9 });
  const lossy = Context.emulated(world, parseLink("delay 1ms drop data 1-4"));
  const clean = Context.emulated(world, parseLink("delay 1ms"));
  const [qa, qb] = [lossy.createQueuePair(SHAPE), clean.createQueuePair(SHAPE)];
  await world.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  const held: { begin: () => Work; end: () => void }[] = [];
  const awaitWork = qb.awaitWork.bind(qb);
  qb.awaitWork = (begin, then, fail) =>
    held.push({ begin, end: () => awaitWork(begin, then, fail) });
  const policy = parsePolicy("ec-mds(4,2)");
  const region = MemoryRegion.register(new Uint8Array(BYTES).fill(7));
  const into = new Uint8Array(BYTES);
  const ended: string[] = [];
  const receive = reliableReceive(qb, into, policy);
  const write = reliableWrite(qa, region, policy);
  receive.then(() => ended.push("receive"));
  write.then(() => ended.push("write"));
  await world.advance(5e6);
  expect(held).toHaveLength(1);
  const { begin, end } = held[0] as (typeof held)[0];
  const sendAgain = () =>
    qa.native.postSend(write.message, 1_000_000, region.native, 0, 0, SHAPE.chunkBytes);
  return { world, receive, write, into, ended, begin, end, sendAgain };
}

test.each([
  ["comes by itself", "sendAgain"],
  ["is in place before anybody is told", "begin"],
] as const)(
  "a chunk under recovery that %s does not end the write before the receive",
  async (_, how) => {
    const one = await recovering();
    const { world, receive, write, into, ended } = one;
    await one[how]();
    await world.advance(500e6);
    expect(ended).toEqual([]);
    one.end();
    const [report] = await world.run(Promise.all([receive, write]));
    expect(ended).toEqual(["receive", "write"]);
    expect(report).toMatchObject({ bytes: BYTES, chunksRecovered: 0 });
    expect(into.every((byte) => byte === 7)).toBe(true);
  },
);
