/**
 * What the native addon does with values that no caller in this project gives it: each is refused by an exception,
 * none reaches the engine, the links or the sockets.
 */
import { constants } from "node:buffer";
import { describe, expect, it } from "vitest";
import {
  addon,
  type NativeLink,
  type NativeQp,
  type NativeQpConfig,
  type NativeUdpOptions,
  type NativeWorld,
  STATUS,
} from "../../../src/transport/native.ts";

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
const OPTIONS: NativeUdpOptions = {
  address: "127.0.0.1",
  port: 0,
  channels: 1,
  socketBufferBytes: 1 << 20,
  allowGso: true,
  allowGro: true,
};

const NO_PARITY = [null, 0, 0] as const;

/** Numbers that are wrong wherever a whole number of moderate size is asked for. */
const NOT_WHOLE = [Number.NaN, Number.POSITIVE_INFINITY, -1, 1.5, 2 ** 53, 1e300, "1", null, 1n];

const world = (): NativeWorld => addon().createWorld(1, 0);

function connected(): { world: NativeWorld; a: NativeQp; b: NativeQp } {
  const made = world();
  const a = made.createQp(CONFIG);
  const b = made.createQp(CONFIG);
  const link = made.addLink({});
  expect(made.connect(a, b, link, link)).toBe(STATUS.ok);
  return { world: made, a, b };
}

describe("a link from JavaScript", () => {
  const wrong: [name: string, link: object][] = [
    ...NOT_WHOLE.flatMap((value) =>
      ["delayNs", "jitterNs", "reorderGap", "limitPackets"].map((name): [string, object] => [
        `${name} ${String(value)}`,
        { [name]: value },
      ]),
    ),
    ...[Number.NaN, 2 ** 31, -(2 ** 31) - 1, 0.5].map((value): [string, object] => [
      `packetOverheadBytes ${value}`,
      { packetOverheadBytes: value },
    ]),
    ...[Number.NaN, -1, 0.5, 1e16, Number.POSITIVE_INFINITY, "1gbit"].map(
      (value): [string, object] => [`rateBps ${value}`, { rateBps: value }],
    ),
    ["limitPackets 2^32", { limitPackets: 2 ** 32 }],
    ["reorderGap 2^32", { reorderGap: 2 ** 32 }],
    ["delayNs beyond 11 days", { delayNs: 1e15 + 1 }],
    ["lossProbability 1.1", { lossProbability: 1.1 }],
    ["geP NaN", { geP: Number.NaN }],
    ["corruptCorrelation -0.1", { corruptCorrelation: -0.1 }],
    ["loss unknown", { loss: "some" }],
    ["distribution unknown", { distribution: "some" }],
    ["loss by size without sizes", { loss: "by_size" }],
    [
      "sizes that descend",
      {
        loss: "by_size",
        lossBySize: [
          [9, 0.1],
          [8, 0.1],
        ],
      },
    ],
    ["a size's probability above 1", { loss: "by_size", lossBySize: [[9, 1.1]] }],
    ["sizes of another type", { loss: "by_size", lossBySize: { length: 1 } }],
    ["a size of another type", { loss: "by_size", lossBySize: [7] }],
    ["more sizes than the limit", { loss: "by_size", lossBySize: new Array(4097) }],
    ["a trace without packets", { loss: "trace", lossTrace: new Uint8Array() }],
    ["a trace of another type", { loss: "trace", lossTrace: new Float64Array(4) }],
    ["a trace longer than the limit", { loss: "trace", lossTrace: new Uint8Array((1 << 24) + 1) }],
    ["drops of another type", { drops: 7 }],
    ["a drop of another type", { drops: [undefined] }],
    ["a drop of an unknown kind", { drops: [{ kind: 10, first: 1, last: 1 }] }],
    ["a drop before the first", { drops: [{ kind: 0, first: 0, last: 1 }] }],
    ["a drop that ends before it begins", { drops: [{ kind: 0, first: 2, last: 1 }] }],
    ["more drops than the limit", { drops: new Array(5000) }],
    ["an endless list", { drops: new Array(2 ** 32 - 1) }],
  ];

  it.each(wrong)("is refused with %s", (_name, link) => {
    const { world: made, a } = connected();
    expect(() => made.addLink(link as NativeLink)).toThrow();
    expect(() => a.setLink(link as NativeLink)).toThrow();
  });

  it("is taken at the ends of its ranges", () => {
    const made = world();
    expect(
      made.addLink({ rateBps: 1e15, delayNs: 1e15, jitterNs: 0, limitPackets: 2 ** 32 - 1 }),
    ).toBe(0);
    expect(made.addLink({ rateBps: 1, packetOverheadBytes: -(2 ** 31) })).toBe(1);
  });
});

describe("a queue pair's configuration from JavaScript", () => {
  const fields = ["packetBytes", "packetsPerChunk", "slots", "generations", "channels"];
  const wrong: [name: string, config: object][] = [
    ...NOT_WHOLE.flatMap((value) =>
      [...fields, "maxMessageBytes", "workRequestsMax"].map((name): [string, object] => [
        `${name} ${String(value)}`,
        { [name]: value },
      ]),
    ),
    ...fields.map((name): [string, object] => [`${name} 2^32 + 1`, { [name]: 2 ** 32 + 1 }]),
    ...[Number.NaN, -1, 0.5, 1e300, "1"].map((value): [string, object] => [
      `rateBps ${value}`,
      { rateBps: value },
    ]),
    ["workRequestsMax above the limit", { workRequestsMax: 2 ** 20 + 1 }],
    // 266 would be 10 in a byte.
    ["a split part beyond a byte", { split: [266, 18, 4] }],
    ["a split of two", { split: [10, 22] }],
    ["a split of four", { split: [10, 18, 2, 2] }],
    ["no split", { split: undefined }],
  ];

  it.each(wrong)("is refused with %s", (_name, change) => {
    const config = { ...CONFIG, ...change } as NativeQpConfig;
    expect(() => world().createQp(config)).toThrow();
    const context = addon().createUdpContext(OPTIONS, () => {});
    try {
      expect(() => context.createQp(config, 1n)).toThrow();
    } finally {
      context.close();
    }
  });
});

describe("a UDP context's options from JavaScript", () => {
  const create = (...args: unknown[]) =>
    (addon().createUdpContext as (...args: unknown[]) => unknown)(...args);

  it.each([
    ["no options", undefined],
    ["a port above 65535", { ...OPTIONS, port: 65_536 }],
    ["no channels", { ...OPTIONS, channels: 0 }],
    ["65 channels", { ...OPTIONS, channels: 65 }],
    ["an address with a name", { ...OPTIONS, address: "localhost" }],
    ["an address with a zero byte", { ...OPTIONS, address: "127.0.0.1\0" }],
  ])("are refused with %s", (_name, options) => {
    expect(() => create(options, () => {})).toThrow();
  });

  it("need a function to wake", () => {
    for (const wake of [undefined, null, {}, 7])
      expect(() => create(OPTIONS, wake)).toThrow(/function/);
  });

  it("name a peer by addresses and a key of 64 bits", () => {
    const context = addon().createUdpContext(OPTIONS, () => {});
    const qp = context.createQp(CONFIG, 2n ** 64n - 1n);
    const connect = context.connect.bind(context) as (...args: unknown[]) => unknown;
    const peer = context.addresses();
    try {
      expect(() => context.createQp(CONFIG, 2n ** 64n)).toThrow(/64 bits/);
      expect(() => context.createQp(CONFIG, -1n)).toThrow();
      expect(() => connect(qp, peer, 7, {}, 1)).toThrow(/bigint/);
      expect(() => connect(qp, "127.0.0.1", 7n, {}, 1)).toThrow(/array/);
      expect(() => connect(qp, new Array(65), 7n, {}, 1)).toThrow(/more than 64/);
      expect(() => connect(qp, [null], 7n, {}, 1)).toThrow(/object/);
      expect(() => connect(qp, [{ address: "::1", port: -1 }], 7n, {}, 1)).toThrow(/port/);
      expect(() => connect(qp, peer, 7n, {}, -1)).toThrow(/seed/);
      expect(() => connect({}, peer, 7n, {}, 1)).toThrow(/queue pair/);
      expect(connect(qp, peer, 7n, {}, 1)).toBe(STATUS.ok);
    } finally {
      context.close();
    }
  });
});

describe("a queue pair's calls from JavaScript", () => {
  it("take whole numbers of 32 bits for messages, work requests and chunks", () => {
    const { a } = connected();
    const code = addon().createCode(0, 4, 2);
    for (const value of [...NOT_WHOLE, 2 ** 32] as number[]) {
      expect(() => a.openSend(value, 10, 0)).toThrow(TypeError);
      expect(() => a.openSend(0, 10, value)).toThrow(TypeError);
      expect(() => a.postReceive(value, null, 0, 10, ...NO_PARITY)).toThrow(TypeError);
      expect(() => a.postReceive(0, null, 0, 10, null, 0, value)).toThrow(TypeError);
      expect(() => a.parityBits(value === 2 ** 32 ? -1 : value)).toThrow(TypeError);
      for (const recover of [a.recover, a.recoverNow] as ((...all: unknown[]) => unknown)[]) {
        expect(() => recover.call(a, value, code, 0, 1, 0)).toThrow(TypeError);
        expect(() => recover.call(a, 0, code, value, 1, 0)).toThrow(TypeError);
        expect(() => recover.call(a, 0, code, 0, value, 0)).toThrow(TypeError);
        expect(() => recover.call(a, 0, code, 0, 1, value)).toThrow(TypeError);
        expect(() => recover.call(a, 0, {}, 0, 1, 0)).toThrow(/not a code/);
      }
      expect(() => a.postSend(0, value, null, 0, 0, 10)).toThrow(TypeError);
      expect(() => a.postSend(0, 0, null, 0, value, 10)).toThrow(TypeError);
      expect(() => a.complete(value)).toThrow(TypeError);
      expect(() => a.chunksDone(value)).toThrow(TypeError);
      expect(() => a.userImmediate(value)).toThrow(TypeError);
    }
  });

  it("send control from a Uint8Array only, and no further than it reaches", () => {
    const { a } = connected();
    const bytes = new Uint8Array(8);
    expect(a.sendControl(1, bytes, 8)).toBe(STATUS.ok);
    expect(() => a.sendControl(1, bytes, 9)).toThrow(TypeError);
    expect(() => a.sendControl(0, bytes, 8)).toThrow(TypeError);
    expect(() => a.sendControl(1, new Uint16Array(8) as never, 8)).toThrow(TypeError);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    expect(() => a.sendControl(1, bytes, 8)).toThrow(TypeError);
    expect(a.sendControl(1, bytes, 0)).toBe(STATUS.invalid);
  });

  it("expand a chunk into a BigUint64Array with room only", () => {
    const { a } = connected();
    expect(a.postReceive(0, null, 0, 5000, ...NO_PARITY)).toBe(STATUS.ok);
    expect(a.chunkExpand(0, 0, new BigUint64Array(1))).toBe(STATUS.ok);
    expect(a.chunkExpand(0, 0, new BigUint64Array(0))).toBe(STATUS.invalid);
    expect(a.chunkExpand(0, 2, new BigUint64Array(1))).toBe(STATUS.invalid);
    expect(() => a.chunkExpand(0, 0, new Float64Array(1) as never)).toThrow(TypeError);
  });

  it("refuse anything that is not a region, and a region whose buffer is gone", () => {
    const { a } = connected();
    expect(() => a.postReceive(0, {} as never, 0, 10, ...NO_PARITY)).toThrow(/region/);
    expect(() => a.postReceive(0, Object.create(null) as never, 0, 10, ...NO_PARITY)).toThrow(
      /region/,
    );
    const buffer = new ArrayBuffer(100);
    const region = addon().createRegion(buffer);
    expect(a.postReceive(0, region, 50, 51, ...NO_PARITY)).toBe(STATUS.invalid);
    expect(a.postReceive(0, region, 101, 0, ...NO_PARITY)).toBe(STATUS.invalid);
    structuredClone(buffer, { transfer: [buffer] });
    expect(() => a.postReceive(0, region, 0, 10, ...NO_PARITY)).toThrow(/detached/);
    expect(() => addon().createRegion(buffer)).toThrow(/detached/);
  });

  it("take no buffer whose length may change", () => {
    const options = { maxByteLength: 200 };
    const Resizable = ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer;
    const buffer = new Resizable(100, options);
    expect(() => addon().createRegion(buffer)).toThrow(/resizable/);
    expect(() => addon().createRegion(new Uint8Array(buffer))).toThrow(/resizable/);
  });

  it("allocate no more than an ArrayBuffer can hold", () => {
    for (const bytes of [constants.MAX_LENGTH + 1, 2 ** 50, Number.MAX_SAFE_INTEGER])
      if (bytes <= Number.MAX_SAFE_INTEGER)
        expect(() => addon().allocateRegion(bytes)).toThrow(RangeError);
    for (const bytes of NOT_WHOLE)
      expect(() => addon().allocateRegion(bytes as number)).toThrow(TypeError);
  });

  it("throw after close", () => {
    const { a, world: made } = connected();
    a.close();
    a.close();
    expect(() => a.counters()).toThrow(/closed/);
    expect(() => a.openSend(0, 1, 0)).toThrow(/closed/);
    expect(() => a.recover(0, addon().createCode(0, 2, 1), 0, 1, 0)).toThrow(/closed/);
    made.close();
    made.close();
    expect(() => made.advance(1)).toThrow(/closed/);
  });

  it("leave bitmap views that were moved elsewhere readable after close", () => {
    const context = addon().createUdpContext(OPTIONS, () => {});
    const qp = context.createQp(CONFIG, 7n);
    let moved: ArrayBuffer | undefined;
    try {
      moved = structuredClone(qp.bitmaps, { transfer: [qp.bitmaps] });
    } catch {
      // This version of Node does not let such memory be moved.
    }
    qp.close();
    context.close();
    expect(qp.bitmaps.byteLength).toBe(0);
    if (moved !== undefined) expect(new Uint8Array(moved).every((byte) => byte === 0)).toBe(true);
  });

  it("count datagrams that the system would not send", async () => {
    const context = addon().createUdpContext(OPTIONS, () => {});
    try {
      const qp = context.createQp(CONFIG, 7n);
      // Not without a permission that these sockets never ask for.
      const everyone = [{ address: "255.255.255.255", port: 9 }];
      expect(context.connect(qp, everyone, 8n, {}, 1)).toBe(STATUS.ok);
      expect(qp.sendControl(6, new Uint8Array(3), 3)).toBe(STATUS.ok);
      await expect.poll(() => qp.counters().sendErrors, { timeout: 60_000 }).toBe(1);
    } finally {
      context.close();
    }
  });
});
