/** What a queue pair keeps of messages that have ended: nothing that grows with their size. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import {
  Context,
  EmulatedWorld,
  type Policy,
  parseLink,
  parsePolicy,
  type QueuePair,
  reliableReceive,
  reliableWrite,
} from "../../../src/sdk/index.ts";

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");
const ROUNDS_MAX = 100;

/** In a function of its own, so that no local of the test refers to the buffers or the sessions. */
async function transfer(world: EmulatedWorld, from: QueuePair, to: QueuePair) {
  const inner = parsePolicy("sr-nack");
  const kept: WeakRef<object>[] = [];
  const keep = <T extends object>(value: T): T => {
    kept.push(new WeakRef(value));
    return value;
  };
  const policy: Policy = {
    name: inner.name,
    createSender: (params) => keep(inner.createSender(params)),
    createReceiver: (params) => keep(inner.createReceiver(params)),
  };
  const [source, target] = [keep(new ArrayBuffer(1 << 20)), keep(new ArrayBuffer(1 << 20))];
  const work = [reliableReceive(to, target, policy), reliableWrite(from, source, policy)];
  await world.run(Promise.all(work));
  return kept;
}

test("buffers and sessions of ended messages are garbage while the queue pair lives on", async () => {
  const world = new EmulatedWorld({ seed: 3 });
  const link = parseLink("rate 10gbit delay 50us");
  const [a, b] = [Context.emulated(world, link), Context.emulated(world, link)];
  const [qa, qb] = [a.createQueuePair(), b.createQueuePair()];
  await world.run(Promise.all([qa.connect(qb.info()), qb.connect(qa.info())]));
  const kept = await transfer(world, qa, qb);
  expect(kept.length).toBe(4);
  await world.advance(1e9); // the receiver has the DONE
  const alive = () => kept.filter((ref) => ref.deref() !== undefined).length;
  for (let round = 0; round < ROUNDS_MAX && alive() > 0; round++) {
    await world.advance(1e6); // buffers are let go of on this thread, at the next call
    collect();
  }
  expect(alive()).toBe(0);
  expect(qa.isConnected && qb.isConnected).toBe(true);
});
