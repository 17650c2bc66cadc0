/** Wrong use of the codes: each is refused with a stable code and a message that names the value. */
import { describe, expect, it } from "vitest";
import { SdrError } from "../../../src/base/errors.ts";
import { ErasureCode, type ErasureCodeOptions } from "../../../src/codec/index.ts";
import { expectRefusal } from "../base/refusal.ts";
import { expectRejection } from "./refusal.ts";

const code = new ErasureCode({ kind: "mds", k: 3, m: 2 });
const chunk = (bytes = 8) => new Uint8Array(bytes);
const chunks = (count: number, bytes = 8) => Array.from({ length: count }, () => chunk(bytes));

function detached(): Uint8Array {
  const view = chunk();
  structuredClone(view.buffer, { transfer: [view.buffer] });
  return view;
}

function resizable(): Uint8Array {
  const Resizable = ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer;
  return new Uint8Array(new Resizable(8, { maxByteLength: 16 }));
}

const NO_VIEWS: [name: string, value: unknown, said: string][] = [
  ["null", null, "null"],
  ["undefined", undefined, "undefined"],
  ["a number", 7, "7"],
  ["an ArrayBuffer itself", new ArrayBuffer(8), "ArrayBuffer"],
  ["a list of numbers", [1, 2], "Array"],
  ["shared memory", new Uint8Array(new SharedArrayBuffer(8)), "not an ArrayBuffer"],
  ["a view of shared memory", new DataView(new SharedArrayBuffer(8)), "not an ArrayBuffer"],
  ["a detached buffer", detached(), "detached"],
  ["a buffer that may shrink", resizable(), "resizable"],
];

describe("a shape", () => {
  const wrong: [options: object, said: string][] = [
    [{ kind: "mds", k: 0, m: 1 }, "mds(0,1)"],
    [{ kind: "mds", k: 1, m: 0 }, "mds(1,0)"],
    [{ kind: "mds", k: 200, m: 57 }, "mds(200,57)"],
    [{ kind: "mds", k: 2 ** 32, m: 1 }, "mds(4294967296,1)"],
    [{ kind: "mds", k: 2 ** 32 - 1, m: 1 }, "mds(4294967295,1)"],
    [{ kind: "mds", k: -1, m: 1 }, "mds(-1,1)"],
    [{ kind: "mds", k: 2.5, m: 1 }, "mds(2.5,1)"],
    [{ kind: "mds", k: Number.NaN, m: 1 }, "mds(NaN,1)"],
    [{ kind: "mds", k: "4", m: 1 }, "mds(4,1)"],
    [{ kind: "mds", k: 4 }, "mds(4,undefined)"],
    [{ kind: "xor", k: 3, m: 4 }, "xor(3,4)"],
    [{ kind: "rs", k: 3, m: 2 }, "rs(3,2)"],
    [{ kind: "toString", k: 3, m: 2 }, "toString(3,2)"],
    [{ k: 3, m: 2 }, "undefined(3,2)"],
  ];
  it.each(wrong)("%o is refused", (options, said) => {
    expectRefusal(() => new ErasureCode(options as ErasureCodeOptions), "INVALID_ARGUMENT", [said]);
  });
});

describe("a chunk", () => {
  it.each(NO_VIEWS)("that is %s is refused wherever it stands", async (_name, value, said) => {
    const bad = value as Uint8Array;
    const refused = (promise: Promise<void>, name: string) =>
      expectRejection(promise, "INVALID_ARGUMENT", [name, said]);
    await refused(code.encode([chunk(), bad, chunk()], chunks(2)), "data[1]");
    await refused(code.encode(chunks(3), [chunk(), bad]), "parity[1]");
    await refused(code.update(0, bad, chunks(2)), "chunk");
    await refused(code.update(0, chunk(), [bad, chunk()]), "parity[0]");
    const data = [chunk(), chunk(), bad];
    await refused(code.decode({ data, parity: chunks(2), missing: [0] }), "data[2]");
    if (value === null) return;
    const parity = [chunk(), bad];
    await refused(code.decode({ data: chunks(3), parity, missing: [0] }), "parity[1]");
  });

  it.each([
    ["data longer than the parity", chunks(3, 9), chunks(2), ["data[0]", "9", "8"]],
    ["parity of two lengths", chunks(3), [chunk(8), chunk(10)], ["parity[1]", "10", "8"]],
    ["empty parity", chunks(3, 0), chunks(2, 0), ["parity[0]"]],
    ["too many data chunks", chunks(4), chunks(2), ["data", "4", "1 to 3"]],
    ["no data chunk", [], chunks(2), ["data", "0", "1 to 3"]],
    ["too few parity chunks", chunks(3), chunks(1), ["parity", "1", "2"]],
    ["too many parity chunks", chunks(3), chunks(3), ["parity", "3", "2"]],
    ["data that is no list", chunk(), chunks(2), ["data", "Uint8Array"]],
    ["parity that is no list", chunks(3), undefined, ["parity", "undefined"]],
  ])("to encode: %s", async (_name, data, parity, said) => {
    const call = code.encode(data as Uint8Array[], parity as Uint8Array[]);
    await expectRejection(call, "INVALID_ARGUMENT", said);
  });

  it.each([3, -1, 1.5, Number.NaN, "0", 2 ** 32])("to add at index %s", async (index) => {
    const call = code.update(index as number, chunk(), chunks(2));
    await expectRejection(call, "INVALID_ARGUMENT", ["index"]);
  });

  it("to add that is longer than the parity", async () => {
    const call = code.update(1, chunk(9), chunks(2));
    await expectRejection(call, "INVALID_ARGUMENT", ["chunk", "9", "8"]);
  });
});

describe("what is missing", () => {
  const decode = (missing: unknown, data = chunks(3), parity: (Uint8Array | null)[] = chunks(2)) =>
    code.decode({ data, parity, missing: missing as number[] });

  it.each([5, -1, 0.5, Number.NaN, "1", null, 2 ** 53])("is no chunk %s", async (index) => {
    await expectRejection(decode([index]), "INVALID_ARGUMENT", [String(index), "mds(3,2)"]);
    expectRefusal(() => code.isRecoverable([index as number]), "INVALID_ARGUMENT", [String(index)]);
  });

  it.each([undefined, null, 1, new Set([1])])("is not given by %s", async (missing) => {
    await expectRejection(decode(missing), "INVALID_ARGUMENT", ["missing"]);
  });

  it("is no chunk that a short block does not have", async () => {
    await expectRejection(decode([2], chunks(2)), "INVALID_ARGUMENT", ["chunk 2", "2"]);
    await expectRejection(decode([1], chunks(1)), "INVALID_ARGUMENT", ["chunk 1", "1"]);
  });

  it("is not made from chunks of unequal length", async () => {
    const parity = [chunk(8), chunk(7)];
    await expectRejection(decode([0], chunks(3), parity), "INVALID_ARGUMENT", ["parity[1]", "7"]);
    await expectRejection(decode([0], chunks(3, 9)), "INVALID_ARGUMENT", ["data[0]", "9"]);
  });

  it("is not made from too little, and then nothing is written", async () => {
    const data = chunks(3).map((view) => view.fill(3));
    const parity = chunks(2);
    await code.encode(data, parity);
    const lost = { code: "UNRECOVERABLE_LOSS", message: expect.stringContaining("0, 1, 2") };
    await expect(decode([0, 1, 2], data, parity)).rejects.toMatchObject(lost);
    const gone = { code: "UNRECOVERABLE_LOSS", message: expect.stringContaining("1, 3, 4") };
    await expect(decode([1], data, [null, null])).rejects.toMatchObject(gone);
    await expect(decode([1, 3, 4], data, parity)).rejects.toMatchObject(gone);
    for (const view of data) expect([...view]).toEqual(Array(8).fill(3));
  });
});

describe("buffers that overlap", () => {
  const memory = new Uint8Array(64);
  const at = (begin: number) => memory.subarray(begin, begin + 8);

  it.each([
    ["a data chunk and a parity chunk", [at(0), at(8), at(16)], [at(23), at(32)], [2, "parity[0]"]],
    ["two parity chunks", [at(0), at(8), at(16)], [at(32), at(32)], ["parity[0]", "parity[1]"]],
  ])("are refused to encode: %s", async (_name, data, parity, said) => {
    const names = said.map((name) => (typeof name === "number" ? `data[${name}]` : name));
    await expectRejection(code.encode(data, parity), "INVALID_ARGUMENT", names);
  });

  it("are refused to add", async () => {
    const call = code.update(0, at(4), [at(0), at(16)]);
    await expectRejection(call, "INVALID_ARGUMENT", ["chunk", "parity[0]"]);
  });

  it("are refused to decode, where one is written", async () => {
    const parity = [at(24), at(32)];
    const call = (data: Uint8Array[]) => code.decode({ data, parity, missing: [1] });
    const refused = (data: Uint8Array[], names: string[]) =>
      expectRejection(call(data), "INVALID_ARGUMENT", names);
    await refused([at(0), at(7), at(16)], ["data[0]", "data[1]"]);
    await refused([at(0), at(25), at(16)], ["data[1]", "parity[0]"]);
  });

  it("are taken where both are only read", async () => {
    const parity = [at(24), at(32)];
    await code.encode([at(0), at(0), at(4)], parity);
    await code.decode({ data: [at(0), at(48), at(4)], parity, missing: [1] });
    expect(at(48)).toEqual(at(0));
  });
});

it("refusals are SdrErrors with their cause", async () => {
  const error = await code.encode(chunks(3, 9), chunks(2)).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(SdrError);
  expect((error as SdrError).cause).toBeInstanceOf(RangeError);
});
