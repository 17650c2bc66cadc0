/** Parts of the command line that need no process. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { SdrError } from "../../../src/base/errors.ts";
import { trialSeed } from "../../../src/cli/emulate/trial.ts";
import {
  errorLine,
  exitStatus,
  fileError,
  toSdrError,
  UsageError,
  usage,
} from "../../../src/cli/failure.ts";
import { parseEndpoint, parsePort } from "../../../src/cli/options.ts";
import { progressLine, remainingMs } from "../../../src/cli/progress.ts";
import {
  decodeNote,
  encodeNote,
  inFlight,
  segmentCount,
} from "../../../src/cli/transfer/file-protocol.ts";
import { checkName, FileSink } from "../../../src/cli/transfer/file-sink.ts";
import { renderTable } from "../../../src/report/table.ts";
import { cleanUp, scratch } from "./sdr.ts";

afterEach(cleanUp);

describe("addresses", () => {
  test.each([
    ["host:1", { host: "host", port: 1 }],
    ["10.0.0.1:65535", { host: "10.0.0.1", port: 65535 }],
    ["[::1]:9000", { host: "::1", port: 9000 }],
  ])("%s", (text, endpoint) => expect(parseEndpoint(text)).toEqual(endpoint));

  test.each([
    "",
    "host",
    "host:",
    "host:0",
    "host:70000",
    ":1",
    "[::1]",
    "[host]:1",
    "::1:1",
    "a b:1",
    "host:1x",
  ])("%j is refused", (text) => expect(() => parseEndpoint(text)).toThrow(SdrError));

  test("a port to listen on may be 0", () => {
    expect(parsePort("0")).toBe(0);
    for (const text of ["-1", "65536", "1e3", " 1", ""])
      expect(() => parsePort(text)).toThrow(SdrError);
  });
});

describe("errors", () => {
  test("are one line, whatever they hold", () => {
    const error = new SdrError("ENVIRONMENT", "tried\n  a\n  b\n", "build it");
    expect(errorLine(error)).toBe("sdr: ENVIRONMENT: tried a b (build it)\n");
  });

  test("of the file system have our codes", () => {
    const code = (name: string) =>
      fileError("f", Object.assign(new Error(name), { code: name })).code;
    const codes = ["ENOENT", "EACCES", "ENOSPC", "EDQUOT", "EISDIR", "EXOTIC"].map(code);
    expect(codes).toEqual(["NOT_FOUND", "ACCESS_DENIED", "NO_SPACE", "NO_SPACE", "FILE", "FILE"]);
  });

  test("of options are usage errors, others are not, and the remedy is told once", () => {
    const refuse = () => {
      throw new SdrError("TOO_LARGE", "big", "shrink");
    };
    expect(() => usage(refuse)).toThrow(expect.objectContaining({ message: "big (shrink)" }));
    expect(exitStatus(new UsageError("TOO_LARGE", "big", "shrink"))).toBe(2);
    expect(exitStatus(new SdrError("TOO_LARGE", "big", "shrink"))).toBe(1);
    expect(toSdrError(new TypeError("x"))).toMatchObject({ code: "ENVIRONMENT", message: "x" });
    expect(toSdrError(undefined).code).toBe("ENVIRONMENT");
  });
});

describe("progress", () => {
  test("the time left follows the speed so far, once enough is done to know it", () => {
    expect(remainingMs(25, 100, 1000)).toBe(3000);
    expect(remainingMs(1, 100, 1000)).toBeUndefined();
    expect(remainingMs(0, 0, 1000)).toBeUndefined();
  });

  test("a line has label, bar, share, amounts and time left", () => {
    const line = progressLine({ label: "x", total: 2 ** 20 }, 2 ** 19, 2000);
    expect(line).toBe(`x ${"█".repeat(12)}${"░".repeat(12)}  50 % 512 KiB of 1 MiB, 2 s left`);
    expect(progressLine({ label: "x", total: 10, format: String }, 20, 1)).toContain("100 %");
  });
});

describe("tables", () => {
  test("columns line up, a rule stands below the titles", () => {
    const columns = [
      { title: "name\n", align: "left" as const, cell: (row: [string, number]) => row[0] },
      { title: "a\nnumber", cell: (row: [string, number]) => String(row[1]) },
    ];
    const lines = renderTable(columns, [
      ["x", 1],
      ["long name", 12345],
    ]).split("\n");
    expect(lines).toEqual([
      "name            a",
      "           number",
      "─────────────────",
      "x               1",
      "long name   12345",
      "",
    ]);
  });
});

describe("file names from a peer", () => {
  test.each(["a", "ä ö.txt", "-rf", ".hidden", "a".repeat(200), "sr-nack(alpha=1)"])("%j", (name) =>
    expect(checkName(name)).toBe(name),
  );
  test.each([
    "",
    ".",
    "..",
    "a/b",
    "a\\b",
    "a\0",
    "a\nb",
    "\u202egpj.exe",
    "\ud800",
    "a".repeat(201),
    1,
    null,
    undefined,
  ])("%j is refused", (name) =>
    expect(() => checkName(name)).toThrow(expect.objectContaining({ code: "FILE" })),
  );
});

describe("the received file", () => {
  const options = { name: "f", bytes: 6, force: false };

  test("has its name only after commit, and no other file is left", async () => {
    const folder = scratch();
    const sink = await FileSink.create({ ...options, folder });
    await sink.write(Buffer.from("abc"));
    await sink.write(Buffer.from("def"));
    expect(readdirSync(folder)).toHaveLength(1);
    expect(readdirSync(folder)).not.toContain("f");
    await sink.commit();
    await sink.discard();
    expect(readdirSync(folder)).toEqual(["f"]);
    expect(readFileSync(sink.path, "utf8")).toBe("abcdef");
  });

  test("is gone after discard", async () => {
    const folder = scratch();
    const sink = await FileSink.create({ ...options, folder });
    await sink.write(Buffer.from("abc"));
    await sink.discard();
    expect(readdirSync(folder)).toEqual([]);
  });

  test("never replaces one that came first, unless forced; two at once do not meet", async () => {
    const folder = scratch();
    const first = await FileSink.create({ ...options, folder });
    const second = await FileSink.create({ ...options, folder });
    const third = await FileSink.create({ ...options, folder, force: true });
    for (const [sink, text] of [
      [first, "first"],
      [second, "second"],
      [third, "third"],
    ] as const) {
      await sink.write(Buffer.from(text));
    }
    await second.commit();
    await expect(first.commit()).rejects.toMatchObject({ code: "FILE" });
    await first.discard();
    expect(readFileSync(join(folder, "f"), "utf8")).toBe("second");
    await third.commit();
    expect(readFileSync(join(folder, "f"), "utf8")).toBe("third");
    expect(readdirSync(folder)).toEqual(["f"]);
  });

  test("is refused where a file of the name is, or the folder is none", async () => {
    const folder = scratch();
    writeFileSync(join(folder, "f"), "");
    await expect(FileSink.create({ ...options, folder })).rejects.toMatchObject({ code: "FILE" });
    await expect(
      FileSink.create({ ...options, folder: join(folder, "none") }),
    ).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

describe("the file protocol", () => {
  test("segments cover every size, none counts as one", () => {
    const count = (bytes: number) => segmentCount({ bytes, segmentBytes: 100 });
    expect([0, 1, 100, 101, 1000].map(count)).toEqual([1, 1, 1, 2, 10]);
  });

  test("buffers stay within their memory", () => {
    expect([64, 2 ** 20, 128 * 2 ** 20, 256 * 2 ** 20].map(inFlight)).toEqual([4, 4, 4, 2]);
  });

  test("notes survive, hostile ones lose what is not valid", () => {
    const read = (value: unknown) => decodeNote(new TextEncoder().encode(JSON.stringify(value)));
    const sha256 = "0".repeat(64);
    expect(decodeNote(encodeNote({ sha256 }))).toEqual({ sha256 });
    expect(read({ sha256: "x" })).toEqual({});
    expect(read(null)).toEqual({});
    expect(read({ error: { code: "__proto__", text: "a\u001bb" } })).toEqual({
      error: { code: "ABORTED", text: "a b" },
    });
    expect(read({ counters: { wireBytes: -1, packets: 2, dropped: "3" } }).counters).toMatchObject({
      wireBytes: 0,
      packets: 2,
      dropped: 0,
    });
    expect(() => decodeNote(Uint8Array.of(0xff))).toThrow(SdrError);
  });
});

test("trials of a run have seeds of their own, valid ones", () => {
  const seeds = Array.from({ length: 1000 }, (_, trial) => trialSeed(7, trial));
  expect(new Set(seeds).size).toBe(1000);
  expect(seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0)).toBe(true);
  expect(trialSeed(8, 0)).not.toBe(seeds[0]);
});
