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

test("a chunk that comes while it is recovered does not end the write before the receive", async () => {
  const world = new EmulatedWorld({ seed: 9 });
  const lossy = Context.emulated(world, parseLink("delay 1ms drop data 1-4"));
  const clean = Context.emulated(world, parseLink("delay 1ms"));
  const [qa, qb] = [lossy.createQueuePair(SHAPE), clean.createQueuePair(SHAPE)];
  await world.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  const held: (() => void)[] = [];
  const awaitWork = qb.awaitWork.bind(qb);
  qb.awaitWork = (begin, then, fail) => held.push(() => awaitWork(begin, then, fail));
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
  qa.native.postSend(write.message, 1_000_000, region.native, 0, 0, SHAPE.chunkBytes);
  await world.advance(5e6);
  expect(ended).toEqual([]);
  for (const work of held) work();
  const [report] = await world.run(Promise.all([receive, write]));
  expect(ended).toEqual(["receive", "write"]);
  expect(report).toMatchObject({ bytes: BYTES, chunksRecovered: 0 });
  expect(into.every((byte) => byte === 7)).toBe(true);
});
