/** A message's trace tells the same story as the world's counters and the transfer's reports. */
import { describe, expect, test } from "vitest";
import { MessageTrace, type TraceEvent } from "../../../src/report/trace.ts";
import {
  Context,
  EmulatedWorld,
  MemoryRegion,
  parseLink,
  parsePolicy,
  reliableReceive,
  reliableWrite,
} from "../../../src/sdk/index.ts";

const CHUNK_BYTES = 65_536;
const PACKETS_PER_CHUNK = 16;

async function traced(policyText: string, linkText: string, chunkCount: number, seed = 3) {
  const world = new EmulatedWorld({ seed });
  const link = parseLink(linkText);
  const [here, there] = [Context.emulated(world, link), Context.emulated(world, link)];
  const bytes = chunkCount * CHUNK_BYTES;
  const shape = { maxMessageBytes: bytes };
  const [a, b] = [here.createQueuePair(shape), there.createQueuePair(shape)];
  await world.run(Promise.all([a.connect(b.info()), b.connect(a.info())]));
  const trace = new MessageTrace();
  const policy = trace.watch(parsePolicy(policyText));
  world.recordPackets();
  const [got, sent] = await world.run(
    Promise.all([
      reliableReceive(b, MemoryRegion.phantom(bytes), policy),
      reliableWrite(a, MemoryRegion.phantom(bytes), policy),
    ]),
  );
  const records = world.takeRecords();
  const counters = a.counters();
  const events = trace.events(records, { packetsPerChunk: PACKETS_PER_CHUNK, chunkCount });
  here.close();
  there.close();
  world.close();
  const of = (...kinds: string[]) => events.filter(({ kind }) => kinds.includes(kind));
  return { events, of, records, counters, got, sent };
}

const packets = (events: TraceEvent[]) =>
  events.reduce((sum, { text }) => sum + Number.parseInt(text, 10), 0);

describe("a trace", () => {
  test("of a clean message has each chunk sent and completed once, in order of time", async () => {
    const { events, of } = await traced("sr-nack", "rate 10gbit delay 1ms", 5);
    expect(of("packet").map(({ chunk }) => chunk)).toEqual([0, 1, 2, 3, 4]);
    expect(of("chunk").map(({ chunk }) => chunk)).toEqual([0, 1, 2, 3, 4]);
    expect(of("lost", "repair", "nack", "parity", "recovered")).toEqual([]);
    expect(events[0]?.timeNs).toBeLessThanOrEqual(0);
    const times = events.map(({ timeNs }) => timeNs);
    expect(times).toEqual([...times].sort((x, y) => x - y));
    for (const { timeNs, endNs } of of("packet"))
      expect((endNs ?? 0) - timeNs).toBeGreaterThan(1e6);
  });

  test.each(["sr-nack", "ec-mds(8,2)"])(
    "of %s counts what counters and reports count",
    async (policy) => {
      const { of, records, counters, got, sent } = await traced(
        policy,
        "rate 10gbit delay 1ms loss 1%",
        64,
      );
      const data = records.filter(({ kind }) => kind === "data");
      expect(data.length).toBe(counters.packetsSent);
      const lost = data.filter(({ arriveNs }) => arriveNs === undefined);
      expect(lost.length).toBeGreaterThan(0);
      expect(packets(of("lost"))).toBe(lost.length);
      expect(packets(of("packet", "repair", "parity"))).toBe(data.length);
      expect(of("repair").length).toBe(sent.chunksRetransmitted);
      expect(of("parity").length).toBe(sent.parityChunks);
      expect(of("recovered").length).toBe(got.chunksRecovered);
      const done = of("chunk", "recovered").map(({ chunk }) => chunk);
      expect(done.sort((x, y) => x - y)).toEqual(Array.from({ length: 64 }, (_, chunk) => chunk));
    },
  );

  test("keeps no more records than asked for, and none when told so", async () => {
    const world = new EmulatedWorld({ seed: 1 });
    expect(() => world.recordPackets(-1)).toThrow(/recordsMax -1/);
    expect(() => world.recordPackets(1.5)).toThrow(/recordsMax/);
    world.recordPackets(3);
    const contexts = [0, 1].map(() => Context.emulated(world, parseLink("delay 1ms")));
    const [a, b] = contexts.map((context) => context.createQueuePair());
    if (a === undefined || b === undefined) throw new Error("two queue pairs");
    await world.run(Promise.all([a.connect(b.info()), b.connect(a.info())]));
    const bytes = 10 * CHUNK_BYTES;
    const policy = parsePolicy("sr-nack");
    const once = () =>
      world.run(
        Promise.all([
          reliableReceive(b, MemoryRegion.phantom(bytes), policy),
          reliableWrite(a, MemoryRegion.phantom(bytes), policy),
        ]),
      );
    await once();
    expect(world.takeRecords()).toHaveLength(3);
    expect(world.takeRecords()).toHaveLength(0);
    world.recordPackets(0);
    await once();
    expect(world.takeRecords()).toHaveLength(0);
    for (const context of contexts) context.close();
    world.close();
    expect(() => world.takeRecords()).toThrow(/closed/);
  });
});
