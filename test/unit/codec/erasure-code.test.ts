import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.ts";
import { codecInfo, ErasureCode } from "../../../src/codec/index.ts";
import { areGuardsIntact, type Block, encoded, lose, subsets } from "./blocks.ts";
import { expectRejection } from "./refusal.ts";

const LENGTHS = [1, 2, 31, 64, 65, 1001];

/** What the definition says: any m losses of mds; of xor one of each group with its parity. */
function shouldRecover({ kind, k, m }: ErasureCode, missing: readonly number[]): boolean {
  const data = missing.filter((i) => i < k);
  if (kind === "mds") return data.length === 0 || missing.length <= m;
  const groups = data.map((i) => i % m);
  return (
    new Set(groups).size === groups.length && groups.every((group) => !missing.includes(k + group))
  );
}

async function decodeOf(code: ErasureCode, block: Block, missing: readonly number[]) {
  const parity = lose(block, code.k, missing);
  await code.decode({ data: block.data, parity, missing: missing.filter((i) => i < code.k) });
}

describe.each([
  { kind: "mds", k: 4, m: 3 },
  { kind: "mds", k: 1, m: 4 },
  { kind: "xor", k: 5, m: 2 },
  { kind: "xor", k: 3, m: 3 },
] as const)("$kind($k,$m)", ({ kind, k, m }) => {
  const code = new ErasureCode({ kind, k, m });
  const patterns = Array.from({ length: k + m + 1 }, (_none, size) => [...subsets(k + m, size)]);

  it("gives back exactly what the definition says, for every pattern of losses", async () => {
    for (const chunkBytes of LENGTHS) {
      const random = new Random(chunkBytes, String(code));
      const lastBytes = random.int(k === 1 ? chunkBytes : 0, chunkBytes);
      for (const missing of patterns.flat()) {
        const where = `${chunkBytes} B, last ${lastBytes} B, without ${missing}`;
        const block = await encoded(code, { chunkBytes, lastBytes }, random);
        expect(code.isRecoverable(missing), where).toBe(shouldRecover(code, missing));
        if (shouldRecover(code, missing)) {
          await decodeOf(code, block, missing);
          expect(block.data, where).toEqual(block.copy);
        } else {
          await expectRejection(decodeOf(code, block, missing), "UNRECOVERABLE_LOSS", [
            `chunks ${missing.join(", ")} are missing`,
            String(code),
          ]);
          for (const i of missing)
            expect(block.data[i]?.every((byte) => byte === 0xee) ?? true, where).toBe(true);
        }
        expect(areGuardsIntact([...block.data, ...block.parity]), where).toBe(true);
      }
    }
  });

  it("takes blocks that have fewer chunks: the others count as zeros", async () => {
    for (let count = 1; count <= k; count++) {
      const random = new Random(count, String(code));
      const block = await encoded(code, { chunkBytes: 70, lastBytes: 33, count }, random);
      const whole = Array.from({ length: k }, (_none, i) => block.copy[i] ?? new Uint8Array(70));
      const parity = Array.from({ length: m }, () => new Uint8Array(70));
      await code.encode(whole, parity);
      expect(block.parity.map((chunk) => chunk.slice())).toEqual(parity);
      await decodeOf(code, block, [count - 1]);
      expect(block.data).toEqual(block.copy);
    }
  });

  it("adds chunks one by one, in any order, to the same parity", async () => {
    const random = new Random(9, String(code));
    const block = await encoded(code, { chunkBytes: 333, lastBytes: 100 }, random);
    const parity = Array.from({ length: m }, () => new Uint8Array(333));
    for (const i of random.shuffle([...block.data.keys()]))
      await code.update(i, block.data[i]!, parity);
    expect(parity).toEqual(block.parity.map((chunk) => chunk.slice()));
  });
});

describe("large shapes", () => {
  it.each([
    { kind: "mds", k: 200, m: 50 },
    { kind: "mds", k: 1, m: 255 },
    { kind: "mds", k: 255, m: 1 },
    { kind: "xor", k: 128, m: 128 },
    { kind: "xor", k: 240, m: 16 },
  ] as const)("$kind($k,$m) recovers as many losses as it can", async ({ kind, k, m }) => {
    const code = new ErasureCode({ kind, k, m });
    const random = new Random(5, String(code));
    for (const chunkBytes of [1, 777]) {
      const block = await encoded(code, { chunkBytes, lastBytes: 1 }, random);
      const chunks = random.shuffle([...Array(k + m).keys()]);
      // Of xor the first of each group; else as many as there is parity.
      const groups = [...Array(m).keys()].map(
        (group) => group + m * (kind === "xor" ? random.int(0, k / m - 1) : 0),
      );
      const missing = kind === "mds" ? chunks.slice(0, m) : groups;
      await decodeOf(code, block, missing);
      expect(block.data).toEqual(block.copy);
    }
  });
});

describe("the codes' definition", () => {
  it("of xor: parity i is the sum of the data chunks j with j mod m = i", async () => {
    const code = new ErasureCode({ kind: "xor", k: 7, m: 3 });
    const { data, parity } = await encoded(code, { chunkBytes: 50, lastBytes: 20 }, new Random(3));
    const sums = parity.map(() => new Uint8Array(50));
    for (const [j, chunk] of data.entries())
      for (const [at, byte] of chunk.entries()) sums[j % 3]![at]! ^= byte;
    expect(parity.map((chunk) => chunk.slice())).toEqual(sums);
  });

  it("sees a parity chunk that was falsified: what is decoded differs", async () => {
    const code = new ErasureCode({ kind: "mds", k: 3, m: 2 });
    const block = await encoded(code, { chunkBytes: 40, lastBytes: 40 }, new Random(4));
    block.parity[0]![17]! ^= 1;
    await decodeOf(code, block, [1]);
    expect(block.data).not.toEqual(block.copy);
  });
});

describe("an erasure code", () => {
  const code = new ErasureCode({ kind: "mds", k: 2, m: 2 });

  it("takes views of any kind", async () => {
    const source = Uint8Array.from({ length: 24 }, (_none, i) => i * 11);
    const copy = source.slice();
    const data = [new DataView(source.buffer, 4, 6), Buffer.from(source.buffer, 10, 6)];
    const parity = [new Uint16Array(3), new Int8Array(new ArrayBuffer(9), 3, 6)];
    await code.encode(data, parity);
    source.fill(0, 4, 16);
    await code.decode({ data, parity, missing: [1, 0] });
    expect(source).toEqual(copy);
  });

  it("names itself as policies do", () => {
    expect(String(code)).toBe("mds(2,2)");
    expect(`${new ErasureCode({ kind: "xor", k: 32, m: 8 })}`).toBe("xor(32,8)");
  });

  it("tells what does the work", () => {
    const { kernel, threads } = codecInfo();
    expect(["scalar", "avx2", "gfni", "neon"]).toContain(kernel);
    expect(threads).toBeGreaterThan(0);
    expect(threads).toBeLessThanOrEqual(64);
  });

  it("does nothing when nothing is missing, and leaves missing parity alone", async () => {
    const random = new Random(6);
    const block = await encoded(code, { chunkBytes: 10, lastBytes: 10 }, random);
    await code.decode({ data: block.data, parity: [null, null], missing: [] });
    const kept = block.parity.map((chunk) => chunk.slice());
    await code.decode({ data: block.data, parity: block.parity, missing: [2] });
    expect(block.data).toEqual(block.copy);
    expect(block.parity.map((chunk) => chunk.slice())).toEqual(kept);
  });

  it("keeps the buffers of a call from collection", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const bytes = 1 << 16;
    const one = new Random(8).fill(new Uint8Array(bytes));
    const expected = [new Uint8Array(bytes), new Uint8Array(bytes)];
    await code.encode([one, one], expected);
    // Nothing of ours refers to the data while it is read; collected, other memory would take its place.
    const pending = Array.from({ length: 200 }, () => {
      const parity = [new Uint8Array(bytes), new Uint8Array(bytes)];
      return code.encode([one.slice(), one.slice()], parity).then(() => parity);
    });
    collect();
    const others = Array.from({ length: 200 }, (_none, i) => new Uint8Array(bytes).fill(i));
    for (const parity of await Promise.all(pending))
      for (const [i, chunk] of parity.entries())
        expect(Buffer.compare(chunk, expected[i]!)).toBe(0);
    expect(others.every((other, i) => other[bytes - 1] === i % 256)).toBe(true);
  });
});
