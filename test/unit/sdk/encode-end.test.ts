/** A write that needs no more parity does not resolve before the threads that make it have let go of its region. */
import { expect, test } from "vitest";
import {
  Context,
  EmulatedWorld,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../../src/sdk/index.ts";

const policy = parsePolicy("ec-mds(4,2)");

/** A message that has all arrived, while its parity is still being made; `end` begins and ends that work. */
async function delivered() {
  const world = new EmulatedWorld({ seed: 8 });
  const [a, b] = [0, 1].map(() => Context.emulated(world, parseLink("delay 1ms"))) as [
    Context,
    Context,
  ];
  const shape = { packetBytes: 1024, chunkBytes: 4096 };
  const [qa, qb] = [a.createQueuePair(shape), b.createQueuePair(shape)];
  await world.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  const held: (() => void)[] = [];
  const awaitWork = qa.awaitWork.bind(qa);
  qa.awaitWork = (begin, then, fail) => held.push(() => awaitWork(begin, then, fail));
  let isSettled = false;
  const write = reliableWrite(qa, new Uint8Array(40_000), policy);
  write.finally(() => {
    isSettled = true;
  });
  await world.run(reliableReceive(qb, new Uint8Array(40_000), policy));
  await world.advance(20e6);
  const end = () => {
    for (const work of held.splice(0)) work();
  };
  return { world, a, qb, write, held, end, isSettled: () => isSettled };
}

test("it resolves when they have, with the time at which it was delivered", async () => {
  const { world, write, held, end, isSettled } = await delivered();
  expect(held.length).toBeGreaterThan(1);
  expect(isSettled()).toBe(false);
  end();
  const report = await world.run(write);
  expect(report).toMatchObject({ chunks: 10, parityChunks: 0, fallbacks: 0 });
  expect(report.completionNs).toBeLessThan(5e6);
});

test("it resolves although its context was closed meanwhile", async () => {
  const { world, a, write, end } = await delivered();
  a.close();
  end();
  await expect(world.run(write)).resolves.toMatchObject({ chunks: 10 });
});
