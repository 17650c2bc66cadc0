import { randomFillSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { parseLink } from "../../../src/link/profile.ts";
import { Context, EmulatedWorld, MemoryRegion, type QueuePair } from "../../../src/sdk/index.ts";

const CHUNK = 65_536;

async function pair(world: EmulatedWorld, link: string): Promise<[QueuePair, QueuePair]> {
  const a = Context.emulated(world, parseLink(link)).createQueuePair();
  const b = Context.emulated(world, parseLink(link)).createQueuePair();
  await world.run(Promise.all([a.connect(b.info()), b.connect(a.info())]));
  return [a, b];
}

describe("a streaming send by hand", () => {
  it("fills the transport until busy, waits for room, and repeats chunks at any offset", async () => {
    const world = new EmulatedWorld({ seed: 3 });
    const [a, b] = await pair(world, "rate 10gbit delay 1ms");
    const chunks = 600; // more than the work requests that may be outstanding
    const source = MemoryRegion.allocate(chunks * CHUNK);
    const target = MemoryRegion.allocate(chunks * CHUNK);
    randomFillSync(source.data);
    const receive = b.postReceive({ region: target });
    const send = a.startSend({ bytes: source.bytes });
    let busy = 0;
    await world.run(async () => {
      await send.ready;
      const backwards = Array.from({ length: chunks }, (_, i) => chunks - 1 - i);
      for (const chunk of [...backwards, 0]) {
        const request = { region: source, offset: chunk * CHUNK, chunk, bytes: CHUNK };
        while (send.continue(request) === "busy") {
          busy++;
          await send.room;
        }
      }
      send.end();
      await Promise.all([send.injected, receive.arrived]);
    });
    expect(busy).toBeGreaterThan(0);
    receive.complete();
    expect(Buffer.compare(source.data, target.data)).toBe(0);
    await world.advance(10e6);
    const counters = b.counters();
    expect(counters.duplicates + counters.late).toBe(CHUNK / a.attributes.packetBytes);
  });

  it("is given up on both ends when its signal is aborted, before and after its begin", async () => {
    const world = new EmulatedWorld({ seed: 4 });
    const [a, b] = await pair(world, "rate 10gbit delay 1ms");
    const region = MemoryRegion.allocate(CHUNK);
    for (const early of [true, false]) {
      const controller = new AbortController();
      const receive = b.postReceive({ region });
      const send = a.startSend({ bytes: CHUNK, signal: controller.signal });
      if (!early) await world.run(send.ready);
      controller.abort();
      await expect(world.run(send.injected)).rejects.toMatchObject({ code: "ABORTED" });
      await expect(world.run(receive.arrived)).rejects.toMatchObject({ code: "ABORTED" });
      await expect(send.room).resolves.toBeUndefined();
    }
  });
});
