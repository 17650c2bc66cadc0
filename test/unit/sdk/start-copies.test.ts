/** START goes out more often where much is lost: losing all copies costs the message a round trip and a half. */
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

const RTT_NS = 2e6;

/** Completion time of a message of which the first `lost` STARTs are lost, where the path is known to lose `loss`. */
async function completionNs(lost: number, loss: number): Promise<number> {
  const world = new EmulatedWorld({ seed: 1 });
  const drop = lost > 0 ? ` drop start 1-${lost}` : "";
  const here = Context.emulated(world, parseLink(`rate 10gbit delay 1ms${drop}`));
  const there = Context.emulated(world, parseLink("rate 10gbit delay 1ms"));
  const [a, b] = [here.createQueuePair(), there.createQueuePair()];
  await world.run(Promise.all([a.connect(b.info()), b.connect(a.info())]));
  a.path.loss.sample({ chunks: 1e6, lost: loss * 1e6, runs: loss * 1e6 });
  const policy = parsePolicy("sr-nack");
  const region = () => MemoryRegion.phantom(1 << 20);
  const work = [reliableReceive(b, region(), policy), reliableWrite(a, region(), policy)] as const;
  const [, report] = await world.run(Promise.all(work));
  here.close();
  there.close();
  world.close();
  return report.completionNs;
}

test("a START lost four times costs four spaces where a tenth is lost, and a round trip where little is", async () => {
  const whole = await completionNs(0, 0.1);
  expect((await completionNs(4, 0.1)) - whole).toBeLessThanOrEqual(RTT_NS / 8);
  expect((await completionNs(2, 1e-4)) - whole).toBeLessThanOrEqual(RTT_NS / 8);
  expect((await completionNs(4, 1e-4)) - whole).toBeGreaterThan(RTT_NS / 2);
});
