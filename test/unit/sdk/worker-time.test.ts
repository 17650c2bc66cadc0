/** What a context tells of the processor time of its worker threads. */
import { expect, test } from "vitest";
import { Context, EmulatedWorld } from "../../../src/sdk/index.ts";

test("UDP: one figure a channel, which grows with the work", async (context) => {
  const here = Context.udp({ channels: 2 });
  const there = Context.udp({ channels: 2 });
  try {
    const before = here.workerCpuNs();
    expect(before).toHaveLength(2);
    if (before[0] === 0) return context.skip("the system tells no thread's processor time");
    const a = here.createQueuePair();
    const b = there.createQueuePair();
    await Promise.all([a.connect(b.info()), b.connect(a.info())]);
    const receive = b.postReceive({ region: new Uint8Array(4 << 20) });
    a.send(new Uint8Array(4 << 20));
    await receive.started;
    const after = here.workerCpuNs();
    expect(after.every((used, index) => used >= (before[index] as number))).toBe(true);
    expect(after[0]).toBeGreaterThan(before[0] as number);
    receive.complete();
  } finally {
    here.close();
    there.close();
  }
  expect(() => here.workerCpuNs()).toThrow(expect.objectContaining({ code: "CLOSED" }));
});

test("an emulated context has no workers", () => {
  using world = new EmulatedWorld();
  using context = Context.emulated(world);
  expect(context.workerCpuNs()).toEqual([]);
});
