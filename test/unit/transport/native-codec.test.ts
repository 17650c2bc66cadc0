/** The addon's codes on regions, recovery of received chunks, and calls that nobody in this project makes. */
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { addon, CODEC_STATUS, type NativeQpConfig, STATUS } from "../../../src/transport/native.ts";

const K = 4;
const M = 2;
const CHUNK_BYTES = 4000;
const CONFIG: NativeQpConfig = {
  packetBytes: 1000,
  packetsPerChunk: 4,
  slots: 8,
  generations: 4,
  channels: 1,
  maxMessageBytes: 1 << 20,
  split: [10, 18, 4],
  rateBps: 0,
  workRequestsMax: 16,
};

/** A message of one block with a short last chunk, of which chunks 0 and 2 were never sent. */
async function received() {
  const bytes = (K - 1) * CHUNK_BYTES + 1234;
  const data = new Random(2).fill(new Uint8Array(bytes));
  const source = addon().createRegion(data);
  const parity = addon().scratchRegion(M * CHUNK_BYTES);
  const code = addon().createCode(0, K, M);
  expect(await code.encodeBlock(source, 0, bytes, CHUNK_BYTES, parity, 0)).toBe(CODEC_STATUS.ok);

  const world = addon().createWorld(1, 0);
  const a = world.createQp(CONFIG);
  const b = world.createQp(CONFIG);
  const link = world.addLink({});
  expect(world.connect(a, b, link, link)).toBe(STATUS.ok);
  const copy = new Uint8Array(bytes);
  const target = addon().createRegion(copy);
  const room = addon().scratchRegion(M * CHUNK_BYTES);
  expect(b.postReceive(0, target, 0, bytes, room, 0, M)).toBe(STATUS.ok);
  expect(b.setLength(0, bytes)).toBe(STATUS.ok);
  expect(a.openSend(0, bytes, 0)).toBe(STATUS.ok);
  const send = (chunk: number) => {
    const size = Math.min(CHUNK_BYTES, bytes - chunk * CHUNK_BYTES);
    expect(a.postSend(0, chunk, source, chunk * CHUNK_BYTES, chunk, size)).toBe(STATUS.ok);
  };
  for (const chunk of [1, 3]) send(chunk);
  const arrive = () => {
    while (world.advance(Number.POSITIVE_INFINITY) > 0);
  };
  const sendParity = () => {
    expect(a.postSend(0, 99, parity, 0, K, M * CHUNK_BYTES)).toBe(STATUS.ok);
    arrive();
  };
  arrive();
  return { world, b, code, bytes, data, copy, sendParity };
}

describe("recovery", () => {
  it.each(["recover", "recoverNow"] as const)(
    "by %s makes the missing chunks in place",
    async (how) => {
      const { b, code, bytes, data, copy, sendParity } = await received();
      const nothing = { chunks: 0, parityUsed: 0, complete: false };
      expect(await b[how](0, code, 0, K, 0)).toEqual({ status: STATUS.busy, ...nothing });
      sendParity();
      const done = { status: STATUS.ok, chunks: 2, parityUsed: 2, complete: true };
      expect(await b[how](0, code, 0, K, 0)).toEqual(done);
      expect(Buffer.compare(data, copy)).toBe(0);
      expect(b.chunksDone(0)).toBe(K);
      // A word of 32 bits holds those of the message, the next those of its parity.
      expect(b.parityBits(bytes)).toBe(32);
      expect([...new Uint32Array(b.bitmaps, 0, 2)]).toEqual([0b1111, 0b11]);
      const invalid = { status: STATUS.invalid, ...nothing };
      expect(await b[how](0, code, 0, K + 1, 0)).toEqual(invalid);
      expect(await b[how](0, code, 0, K, 1)).toEqual(invalid);
    },
  );

  it("that is under way or waits when the queue pair is closed ends one way or the other", async () => {
    const { b, code, data, copy, sendParity } = await received();
    sendParity();
    const calls = Array.from({ length: 50 }, () => b.recover(0, code, 0, K, 0));
    b.close();
    const statuses = new Set((await Promise.all(calls)).map(({ status }) => status));
    // One may have been at work; while it was, others found the chunks in hand.
    const allowed: number[] = [STATUS.ok, STATUS.busy, STATUS.closed];
    for (const status of statuses) expect(allowed).toContain(status);
    if (statuses.has(STATUS.ok)) expect(Buffer.compare(data, copy)).toBe(0);
  });

  it("that waits when all else has gone is still told", async () => {
    const pending = await (async () => {
      const { b, world, code, sendParity } = await received();
      sendParity();
      const calls = Array.from({ length: 20 }, () => b.recover(0, code, 0, K, 0));
      world.close();
      return calls;
    })();
    for (const { status } of await Promise.all(pending)) expect(typeof status).toBe("number");
  });
});

describe("a block of a region", () => {
  const code = addon().createCode(1, K, M);
  const region = (bytes: number) => addon().scratchRegion(bytes);
  const wrong: [name: string, call: () => unknown, said: RegExp][] = [
    ["no source", () => code.encodeBlock(null as never, 0, 8, 8, region(16), 0), /source/],
    ["a phantom", () => code.encodeBlock(addon().phantomRegion(8), 0, 8, 8, region(16), 0), /sou/],
    [
      "phantom parity",
      () => code.encodeBlock(region(8), 0, 8, 8, addon().phantomRegion(16), 0),
      /p/,
    ],
    ["bytes beyond the source", () => code.encodeBlock(region(8), 1, 8, 8, region(16), 0), /sourc/],
    ["an offset beyond it", () => code.encodeBlock(region(8), 9, 0, 8, region(16), 0), /9/],
    ["too little parity", () => code.encodeBlock(region(8), 0, 8, 8, region(15), 0), /15/],
    ["parity beyond", () => code.encodeBlock(region(8), 0, 8, 8, region(16), 1), /16/],
    ["more than k chunks", () => code.encodeBlock(region(99), 0, 33, 8, region(16), 0), /33/],
    ["empty chunks", () => code.encodeBlock(region(8), 0, 8, 0, region(16), 0), /8/],
    ["huge chunks", () => code.encodeBlock(region(8), 0, 8, 2 ** 53 - 1, region(16), 0), /parity/],
    ["no stride", () => code.encodeBlock(region(8), 0, 8, 8, region(16), 0, 0), /apart/],
    ["a huge stride", () => code.encodeBlock(region(9), 1, 9, 1, region(2), 0, 2 ** 32 - 1), /sou/],
    ["more rows", () => code.encodeBlock(region(8), 0, 8, 8, region(16), 0, 1, 1, 2), /rows/],
    ["no such row", () => code.encodeBlock(region(8), 0, 8, 8, region(16), 0, 1, 3, 0), /rows/],
    ["no region", () => code.encodeBlock({} as never, 0, 8, 8, region(16), 0), /region/],
  ];
  it.each(wrong)("is refused with %s", (_name, call, said) => {
    expect(call).toThrow(said);
  });

  it("has its chunks a stride apart, and of its parity the rows that are wanted", async () => {
    const mds = addon().createCode(0, K, M);
    const bytes = 9 * 8 + 3; // the last of four, 3 apart, is short
    const all = new Random(3).fill(new Uint8Array(bytes));
    const packed = new Uint8Array(3 * 8 + 3);
    for (let i = 0; i < K; i++) packed.set(all.subarray(i * 24, i * 24 + 8), i * 8);
    const encoded = async (from: Uint8Array, ...rest: number[]) => {
      const parity = addon().allocateRegion(M * 8);
      const source = addon().createRegion(from);
      expect(await mds.encodeBlock(source, 0, from.length, 8, parity, 0, ...rest)).toBe(0);
      return [...new Uint8Array(parity.buffer, 0, M * 8)];
    };
    const expected = await encoded(packed);
    expect(await encoded(all, 3)).toEqual(expected);
    const zeros = new Array<number>(8).fill(0);
    expect(await encoded(all, 3, 1, 1)).toEqual([...zeros, ...expected.slice(8)]);
    expect(await encoded(all, 3, 0, 1)).toEqual([...expected.slice(0, 8), ...zeros]);
    expect(await encoded(all, 3, 2, 0)).toEqual([...zeros, ...zeros]);
  });

  it("that overlaps its parity says so", async () => {
    const both = region(64);
    expect(await code.encodeBlock(both, 0, 32, 8, both, 31)).toBe(CODEC_STATUS.overlap);
    expect(await code.encodeBlock(both, 0, 32, 8, both, 32)).toBe(CODEC_STATUS.ok);
  });

  it("stays alive while it is encoded, closed or not", async () => {
    const source = region(4 << 20);
    const parity = region(2 << 20);
    const calls = Array.from({ length: 8 }, () =>
      code.encodeBlock(source, 0, 4 << 20, 1 << 20, parity, 0),
    );
    source.close();
    parity.close();
    expect(await Promise.all(calls)).toEqual(calls.map(() => CODEC_STATUS.ok));
  });
});

describe("a code from JavaScript", () => {
  const code = addon().createCode(0, K, M);
  const views = (count: number, bytes = 8) =>
    Array.from({ length: count }, () => new Uint8Array(bytes));

  it("has a shape, or is refused with it", () => {
    for (const [kind, k, m] of [
      [2, 1, 1],
      [0, 0, 1],
      [0, 256, 1],
      [1, 2, 3],
      [0, 2 ** 32 - 1, 2],
    ] as const)
      expect(() => addon().createCode(kind, k, m)).toThrow(`k ${k} and m ${m}`);
    for (const value of [-1, 0.5, Number.NaN, "1", null, undefined, 2 ** 32] as number[]) {
      expect(() => addon().createCode(value, 2, 1)).toThrow(TypeError);
      expect(() => addon().createCode(0, value, 1)).toThrow(TypeError);
      expect(() => addon().createCode(0, 2, value)).toThrow(TypeError);
    }
  });

  it("has as many chunks as its shape says", () => {
    expect(() => code.encode(views(K + 1), views(M))).toThrow(RangeError);
    expect(() => code.encode(views(K - 1), views(M))).toThrow(RangeError);
    expect(() => code.encode(views(K), views(M + 1))).toThrow(RangeError);
    expect(() => code.encode(new Array(2 ** 32 - 1), views(M))).toThrow(/more than/);
    expect(() => code.encode(views(K), [null, null] as never)).toThrow(TypeError);
    expect(() => code.isRecoverable(new Uint8Array(K))).toThrow(RangeError);
    expect(() => code.isRecoverable([1, 1, 1, 1, 1, 1] as never)).toThrow(TypeError);
  });

  it("decodes into memory only, from what it is given", () => {
    const present = Uint8Array.of(1, 0, 1, 1, 1, 1);
    const data = [...views(1), null, ...views(2)];
    expect(() => code.decode(data, views(M), present, 8)).toThrow("data[1]");
    expect(() => code.decode(views(K), [null, ...views(1)], present, 8)).toThrow("parity[0]");
    expect(() => code.decode(views(K), views(M), present, 9)).toThrow("parity[0]");
    expect(() => code.decode(views(K), views(M), present, 7)).toThrow("data[0]");
    expect(() => code.decode(views(K), views(M), present, -1)).toThrow(TypeError);
  });

  it("takes the flags as they are at the call", async () => {
    const data = views(K).map((view, i) => view.fill(i + 1));
    const parity = views(M);
    expect(await code.encode(data, parity)).toBe(CODEC_STATUS.ok);
    data[1]!.fill(0);
    const present = Uint8Array.of(255, 0, 1, 1, 1, 7);
    const pending = code.decode(data, parity, present, 8);
    present.fill(0);
    expect(await pending).toBe(CODEC_STATUS.ok);
    expect([...data[1]!]).toEqual(Array(8).fill(2));
  });
});
