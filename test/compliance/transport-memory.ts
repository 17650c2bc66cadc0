/** Compliance cases of memory and arguments: wrong kinds, wrong ranges, closed, detached and phantom regions. */
import { expect, test } from "vitest";
import { MemoryRegion, reliableReceive, reliableWrite } from "../../src/sdk/index.ts";
import {
  caseIf,
  codeOf,
  codeThrown,
  expectArrived,
  type FixtureMaker,
  source,
  target,
  withPair,
} from "./fixture.ts";
import { openStream, SOME_POLICY, sendOnce, transferOf } from "./transfers.ts";

const policy = SOME_POLICY;

export function memoryCases(maker: FixtureMaker, chunk: number): void {
  test("memory of the wrong kind is INVALID_ARGUMENT", () => {
    const detached = new ArrayBuffer(16);
    structuredClone(detached, { transfer: [detached] });
    const wrong: unknown[] = [
      undefined,
      null,
      7,
      "text",
      [1, 2],
      {},
      new SharedArrayBuffer(16),
      new Uint8Array(new SharedArrayBuffer(16)),
      detached,
    ];
    for (const value of wrong)
      expect(codeThrown(() => MemoryRegion.register(value as ArrayBuffer))).toBe(
        "INVALID_ARGUMENT",
      );
    for (const bytes of [-1, 1.5, Number.NaN, 2 ** 60])
      expect(["INVALID_ARGUMENT", "ENVIRONMENT"]).toContain(
        codeThrown(() => MemoryRegion.allocate(bytes)),
      );
  });

  test("a buffer of 0 bytes, a DataView and a Buffer can be registered", () =>
    withPair(maker, {}, async (pair) => {
      const bytes = new Uint8Array(64).fill(9);
      const views = [
        new DataView(bytes.buffer, 3, 17),
        Buffer.from(bytes.buffer, 5, 9),
        new ArrayBuffer(0),
      ];
      for (const view of views) {
        const region = MemoryRegion.register(view);
        const to = target(region.bytes);
        const receive = pair.qb.postReceive({
          region: to.region,
          offset: to.offset,
          maxBytes: to.bytes,
        });
        pair.qa.send(region);
        await pair.run(receive.arrived);
        receive.complete();
        expect([...to.data]).toEqual([...region.data]);
      }
    }));

  test("ranges outside a region, bad lengths and immediates are INVALID_ARGUMENT", () =>
    withPair(maker, {}, async ({ qa, qb }) => {
      const { region } = target(chunk);
      const size = region.bytes;
      const calls: (() => unknown)[] = [
        () => qa.send(region, { offset: 1, bytes: size }),
        () => qa.send(region, { offset: -1, bytes: 1 }),
        () => qa.send(region, { offset: 0.5, bytes: 1 }),
        () => qa.send(region, { bytes: -1 }),
        () => qa.send(region, { bytes: Number.NaN }),
        () => qa.send(region, { offset: Number.NaN }),
        () => qa.startSend({ bytes: 1.5 }),
        () => qa.startSend({ bytes: 1, immediate: -1 }),
        () => qa.startSend({ bytes: 1, immediate: 2 ** 32 }),
        () => qb.postReceive({ region, offset: size + 1 }),
        () => qb.postReceive({ region, maxBytes: size + 1 }),
        () => qb.postReceive({ region, offset: -1, maxBytes: 1 }),
        () => reliableWrite(qa, region, policy, { offset: 2, bytes: size }),
        () => reliableReceive(qb, region, policy, { offset: 2, bytes: size }),
      ];
      for (const [i, call] of calls.entries())
        expect(codeThrown(call), `call ${i}`).toBe("INVALID_ARGUMENT");
      const large = qa.attributes.maxMessageBytes + 1;
      expect(codeThrown(() => qa.startSend({ bytes: large }))).toBe("TOO_LARGE");
    }));

  test("wrong ranges of a stream are INVALID_ARGUMENT, posts after its end CLOSED", () =>
    withPair(maker, {}, async (pair) => {
      const { send, from } = await openStream(pair, 3 * chunk + 1, 88);
      const { region } = from;
      const request = { region, offset: 0, chunk: 0, bytes: chunk };
      const wrong = [
        { chunk: -1 },
        { chunk: 4 },
        { chunk: 1.5 },
        { bytes: 0 },
        { bytes: chunk - 1 },
        { bytes: 5 * chunk },
        { chunk: 3, bytes: chunk },
        { offset: region.bytes },
        { offset: -1 },
      ];
      for (const change of wrong)
        expect(codeThrown(() => send.continue({ ...request, ...change }))).toBe("INVALID_ARGUMENT");
      send.end();
      expect(codeThrown(() => send.continue(request))).toBe("CLOSED");
    }));

  const { packetBytesMin } = maker.capabilities;
  test("a policy whose name no frame can carry is INVALID_ARGUMENT at once, on either end", () =>
    withPair(
      maker,
      { attributes: { packetBytes: packetBytesMin, chunkBytes: packetBytesMin } },
      async (pair) => {
        const names = ["x".repeat(65), "naïve", "line\nbreak"];
        if (packetBytesMin < 90) names.push("x".repeat(64));
        const { region } = target(100);
        for (const name of names) {
          const named = { ...policy, name };
          expect(codeThrown(() => reliableWrite(pair.qa, region, named))).toBe("INVALID_ARGUMENT");
          expect(codeThrown(() => reliableReceive(pair.qb, region, named))).toBe(
            "INVALID_ARGUMENT",
          );
        }
        const next = transferOf(pair, packetBytesMin + 1);
        await pair.run(Promise.all([next.write, next.receive]));
        expectArrived(next.to, next.from);
      },
    ));

  test("a closed region takes no work, and work that has it goes on", () =>
    withPair(maker, {}, async (pair) => {
      const [from, to] = [source(3 * chunk, 89), target(3 * chunk)];
      const { region, offset } = to;
      const receive = pair.qb.postReceive({ region, offset, maxBytes: to.bytes });
      region.close();
      expect(codeThrown(() => pair.qb.postReceive({ region, maxBytes: 1 }))).toBe("CLOSED");
      expect(codeThrown(() => pair.qa.send(region))).toBe("CLOSED");
      pair.qa.send(from.region, { offset: from.offset, bytes: from.bytes });
      await pair.run(receive.arrived);
      receive.complete();
      expectArrived(to, from);
    }));

  test("a buffer detached before its send begins fails that send alone, INVALID_ARGUMENT", () =>
    withPair(maker, {}, async (pair) => {
      const buffer = new ArrayBuffer(2 * chunk);
      const write = reliableWrite(pair.qa, buffer, policy);
      const kept = structuredClone(buffer, { transfer: [buffer] });
      const to = target(2 * chunk);
      const receive = reliableReceive(pair.qb, to.region, policy, {
        offset: to.offset,
        bytes: to.bytes,
      });
      const codes = Promise.all([codeOf(write), codeOf(receive)]);
      expect(await pair.run(codes)).toEqual(["INVALID_ARGUMENT", "INVALID_ARGUMENT"]);
      expect(kept.byteLength).toBe(2 * chunk);
      const next = transferOf(pair, chunk);
      await pair.run(Promise.all([next.write, next.receive]));
      expectArrived(next.to, next.from);
    }));

  test("a detached buffer cannot be posted", () =>
    withPair(maker, {}, async ({ qa, qb }) => {
      const buffer = new ArrayBuffer(64);
      const region = MemoryRegion.register(buffer);
      const kept = structuredClone(buffer, { transfer: [buffer] });
      expect(codeThrown(() => qb.postReceive({ region }))).toBe("INVALID_ARGUMENT");
      expect(kept.byteLength).toBe(64);
      expect(qa.isConnected).toBe(true);
    }));

  const { phantom } = maker.capabilities;
  caseIf(!phantom, `${maker.name} takes phantoms`, "a phantom region is refused", () =>
    withPair(maker, {}, async ({ qb }) => {
      const region = MemoryRegion.phantom(chunk);
      expect(codeThrown(() => qb.postReceive({ region }))).toBe("INVALID_ARGUMENT");
    }),
  );
  caseIf(
    phantom,
    `${maker.name} needs memory`,
    "phantom messages set bitmaps and touch no memory",
    () =>
      withPair(maker, {}, async (pair) => {
        const region = MemoryRegion.phantom(5 * chunk + 1);
        const receive = pair.qb.postReceive({ region });
        pair.qa.send(region);
        await pair.run(receive.arrived);
        expect(receive.bitmap.count()).toBe(6);
        receive.complete();
        const real = await sendOnce(pair, chunk, 90);
        real.receive.complete();
        expectArrived(real.to, real.from);
      }),
  );
}
