/** Parity by hand: chunks sent beside a message, and blocks recovered from them without a policy. */
import { randomFillSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import {
  Context,
  EmulatedWorld,
  ErasureCode,
  MemoryRegion,
  parseLink,
  type QueuePair,
  type ReceiveHandle,
  type SendHandle,
} from "../../../src/sdk/index.ts";

const CHUNK = 4096;
const CODE = { kind: "mds", k: 4, m: 2 } as const;
const BLOCK = { code: CODE, first: 0, count: 4, parityFirst: 0 };
const BYTES = 4 * CHUNK - 7;

interface Begun {
  readonly world: EmulatedWorld;
  readonly context: Context;
  readonly b: QueuePair;
  readonly send: SendHandle;
  readonly receive: ReceiveHandle;
  readonly source: MemoryRegion;
}

/** A message of one block that has begun: nothing of it was sent yet. */
async function begun(): Promise<Begun> {
  const world = new EmulatedWorld({ seed: 9 });
  const [here, context] = [0, 1].map(() => Context.emulated(world, parseLink("delay 1ms")));
  if (here === undefined || context === undefined) throw new Error("unreachable");
  const shape = { packetBytes: 1024, chunkBytes: CHUNK };
  const [a, b] = [here.createQueuePair(shape), context.createQueuePair(shape)];
  await world.run(Promise.all([a.connect(b.info()), b.connect(a.info())]));
  const source = MemoryRegion.allocate(BYTES);
  randomFillSync(source.data);
  const receive = b.postReceive({ region: MemoryRegion.allocate(BYTES), parityChunks: CODE.m });
  const send = a.startSend({ bytes: BYTES });
  await world.run(Promise.all([send.ready, receive.started]));
  return { world, context, b, send, receive, source };
}

describe("recovering by hand", () => {
  it("makes the chunks that were never sent from parity that was", async () => {
    const { world, send, receive, source } = await begun();
    const parity = MemoryRegion.allocate(CODE.m * CHUNK);
    const chunks = (bytes: Uint8Array, count: number) =>
      Array.from({ length: count }, (_, i) => bytes.subarray(i * CHUNK, (i + 1) * CHUNK));
    await new ErasureCode(CODE).encode(chunks(source.data, CODE.k), chunks(parity.data, CODE.m));
    send.continue({ region: source, offset: 0, chunk: 0, bytes: 2 * CHUNK });
    await world.run(world.advance(5e6));
    await expect(world.run(receive.recover(BLOCK))).resolves.toEqual({ chunks: 0, parityUsed: 0 });
    send.continue({ region: parity, offset: 0, chunk: 0, bytes: parity.bytes, parity: true });
    await world.run(world.advance(5e6));
    expect(receive.bitmap.count()).toBe(2);
    expect(receive.parityBitmap?.count()).toBe(2);
    await expect(world.run(receive.recover(BLOCK))).resolves.toEqual({ chunks: 2, parityUsed: 2 });
    await world.run(receive.arrived);
    receive.complete();
    expect(Buffer.compare(receive.region.data, source.data)).toBe(0);
    await expect(receive.recover(BLOCK)).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("refuses blocks that are not the message's", async () => {
    const { receive } = await begun();
    for (const wrong of [{ first: 1 }, { count: 5 }, { parityFirst: 1 }, { first: -1 }])
      await expect(receive.recover({ ...BLOCK, ...wrong })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
  });

  it.each<[string, string, (begun: Begun) => unknown]>([
    ["the receive is completed", "CLOSED", ({ receive }) => receive.complete()],
    ["the receive is aborted", "ABORTED", ({ receive }) => receive.abort()],
    ["the queue pair is closed", "CLOSED", ({ b }) => b.close()],
    ["the context is closed", "CLOSED", ({ context }) => context.close()],
  ])("settles when %s meanwhile", async (_when, code, end) => {
    const one = await begun();
    const recovered = one.receive.recover(BLOCK);
    end(one);
    await expect(one.world.run(recovered)).rejects.toMatchObject({ code });
  });
});
