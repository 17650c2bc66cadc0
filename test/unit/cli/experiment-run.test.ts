/** Sweeps that are run: what a folder has after runs that were killed, in parts, or are of something else. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { SdrError } from "../../../src/base/errors.ts";
import { cellCost, cellKey } from "../../../src/cli/experiment/cell.ts";
import { csvField } from "../../../src/cli/experiment/csv.ts";
import { readExperiment, runFolder } from "../../../src/cli/experiment/experiment.ts";
import { parseExperiment } from "../../../src/cli/experiment/file.ts";
import { readRun } from "../../../src/cli/experiment/folder.ts";
import { mergeRuns } from "../../../src/cli/experiment/merge.ts";
import { shardCells } from "../../../src/cli/experiment/run.ts";
import { version } from "../../../src/cli/version.ts";
import { parseRows } from "../../../src/report/parse-rows.ts";
import type { ResultRow } from "../../../src/report/row.ts";
import { cleanUp, run, scratch, start, until } from "./sdr.ts";

afterEach(cleanUp);

const TEXT = [
  "# three cells in virtual time, three from formulas",
  "name: tiny",
  "link: rate 10gbit delay 100us loss 1%",
  "size: [64KiB, 192KiB, 256KiB]",
  "policy: sr-nack",
  "transport: [model, emulated]",
  "trials: 3",
  "",
].join("\n");
const SHARD = { index: 1, count: 1 };

interface Options {
  readonly text?: string;
  readonly shard?: { readonly index: number; readonly count: number };
}

function runIn(out: string, { text = TEXT, shard = SHARD }: Options = {}) {
  const experiment = parseExperiment(text, "tiny.yaml");
  const { signal } = new AbortController();
  return runFolder({ text, experiment, out, shard, jobs: 1, signal });
}

const bytesOf = (folder: string, name = "results.jsonl") =>
  readFileSync(join(folder, name), "utf8");

/** The folder's files, their contents, in one value. */
function contents(folder: string): Record<string, string> {
  const names = readdirSync(folder).sort();
  return Object.fromEntries(names.map((name) => [name, bytesOf(folder, name)]));
}

async function refusalOf(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    return `${(error as SdrError).code}: ${(error as Error).message}`;
  }
  return "nothing was refused";
}

let whole: Record<string, string>;

beforeAll(async () => {
  const folder = scratch();
  await runIn(folder);
  whole = contents(folder);
});

describe("a folder of results", () => {
  test("has the experiment, its rows in order, a table, and no lock", () => {
    expect(Object.keys(whole)).toEqual([
      "experiment.yaml",
      "results.csv",
      "results.jsonl",
      "run.json",
    ]);
    expect(whole["experiment.yaml"]).toBe(TEXT);
    const rows = parseRows(whole["results.jsonl"]!, "results.jsonl", version()).rows;
    const { cells } = parseExperiment(TEXT, "tiny.yaml");
    expect(rows.map(({ key }) => key)).toEqual(cells.map(cellKey));
    for (const row of rows) {
      expect(row.version).toBe(version());
      expect(row.meanNs).toBeGreaterThanOrEqual(row.idealNs);
      expect(row.chunkLoss).toBeCloseTo(1 - 0.99 ** 16, 9);
    }
    const lines = whole["results.csv"]!.trimEnd().split("\r\n");
    expect(lines).toHaveLength(1 + rows.length);
    expect(lines[0]).toMatch(/^version,experiment,key,/);
  });

  test("a cell's figures are those of sdr emulate", async () => {
    const link = ["--link", "rate 10gbit delay 100us loss 1%", "--trials", "3"];
    const ended = await run(
      "emulate",
      "--size",
      "256KiB",
      "--policy",
      "sr-nack",
      ...link,
      "--json",
    );
    const [result] = JSON.parse(ended.stdout).results;
    const rows = whole["results.jsonl"]!.trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const row = rows.find(({ bytes, method }) => bytes === 256 << 10 && method === "emulated");
    const { mean, ci95, p50, p99, p999, min, max } = result.completionNs;
    expect(row).toMatchObject({
      meanNs: mean,
      meanCi95Ns: ci95,
      p50Ns: p50,
      p99Ns: p99,
      p999Ns: p999,
    });
    expect(row).toMatchObject({ minNs: min, maxNs: max, wireOverhead: result.overhead });
  });

  test("run again changes nothing", async () => {
    const folder = scratch();
    await runIn(folder);
    const ran = await runIn(folder);
    expect(ran.kept).toBe(ran.rows.length);
    expect(contents(folder)).toEqual(whole);
  });

  test("resumes from a file cut at any byte, without losing or repeating a row", async () => {
    const folder = scratch();
    await runIn(folder);
    const text = whole["results.jsonl"]!;
    const bytes = Buffer.byteLength(text);
    const last = text.trimEnd().lastIndexOf("\n") + 1;
    const before = text.lastIndexOf("\n", last - 2) + 1;
    const path = join(folder, "results.jsonl");
    for (let cut = bytes; cut >= before; cut--) {
      const expected = text.slice(0, cut).split("\n").length - 1;
      truncateSync(path, cut);
      const { lines, isTorn } = readRun(folder);
      const found = { cut, isTorn, lines: lines.length };
      expect(found).toEqual({ cut, isTorn: text[cut - 1] !== "\n", lines: expected });
      // What is found is seen at every byte; all of a run follows at the ends of lines, and every so often.
      const isEnd = [bytes, last, before].some((end) => Math.abs(end - cut) < 3);
      if (!isEnd && cut % 29 !== 0) continue;
      const { kept, rows } = await runIn(folder);
      expect({ cut, kept, rows: rows.length }).toEqual({ cut, kept: expected, rows: 6 });
      expect(bytesOf(folder) === text, `cut at ${cut}`).toBe(true);
    }
    expect(contents(folder)).toEqual(whole);
  });

  test("resumes where only the folder, or only a part of it, was made", async () => {
    for (const names of [[], ["experiment.yaml"], ["experiment.yaml", "results.jsonl.tmp"]]) {
      const folder = scratch();
      for (const name of names) writeFileSync(join(folder, name), "half of some");
      await runIn(folder);
      expect(bytesOf(folder)).toBe(whole["results.jsonl"]);
      expect(bytesOf(folder, "experiment.yaml")).toBe(TEXT);
    }
  });

  test("puts rows in their order that came in another", async () => {
    const folder = scratch();
    await runIn(folder);
    const lines = whole["results.jsonl"]!.trimEnd().split("\n");
    writeFileSync(join(folder, "results.jsonl"), `${lines.toReversed().join("\n")}\n`);
    await runIn(folder);
    expect(contents(folder)).toEqual(whole);
  });
});

describe("what is not ours to write to is refused, and stays as it is", () => {
  type Case = readonly [string, (folder: string) => void, RegExp, Options?];
  const cases: readonly Case[] = [
    [
      "another version's",
      (folder) => edit(folder, "run.json", /"version": "[^"]*"/, '"version": "0.0.1"'),
      /^INVALID_ARGUMENT: .* is of version 0\.0\.1, this is version /,
    ],
    [
      "another format's",
      (folder) => edit(folder, "run.json", /"format": 1/, '"format": 2'),
      /^UNSUPPORTED: .*run\.json is not one of format 1/,
    ],
    [
      "another experiment's",
      () => {},
      /^INVALID_ARGUMENT: .* is of experiment tiny, not other/,
      { text: TEXT.replace("name: tiny", "name: other") },
    ],
    [
      "one whose file has changed",
      () => {},
      /^INVALID_ARGUMENT: .* is of another tiny: the file has changed/,
      { text: TEXT.replace("trials: 3", "trials: 4") },
    ],
    ["another shard's", () => {}, /is of shard 1\/1, not 1\/2/, { shard: { index: 1, count: 2 } }],
    [
      "one without run.json",
      (folder) => writeFileSync(join(folder, "run.json"), "{"),
      /^FILE: .*run\.json is not JSON/,
    ],
    [
      "one that is damaged in the middle",
      (folder) => edit(folder, "results.jsonl", /"trials":3/, '"trials":3]'),
      /^FILE: .*results\.jsonl:2 is damaged/,
    ],
    [
      "one that has a row twice",
      (folder) => {
        const text = bytesOf(folder);
        writeFileSync(join(folder, "results.jsonl"), text + text.slice(0, text.indexOf("\n") + 1));
      },
      /^FILE: .*results\.jsonl:7 is the second row of model sr-nack 64KiB/,
    ],
    [
      "one with a row of nothing here",
      (folder) => edit(folder, "results.jsonl", /"key":"model sr-nack/, '"key":"model sr-other'),
      /^FILE: .* has a row of another run: model sr-other/,
    ],
    [
      "one with a row of another version",
      (folder) => edit(folder, "results.jsonl", /"version":"[^"]*"/, '"version":"9.9.9"'),
      /^FILE: .*results\.jsonl:1 is no row of tiny, version /,
    ],
  ];
  test.each(cases.map((one) => ({ name: one[0], one })))("$name", async ({ one }) => {
    const [, spoil, expected, options] = one;
    const folder = scratch();
    await runIn(folder);
    spoil(folder);
    const before = contents(folder);
    expect(await refusalOf(() => runIn(folder, options))).toMatch(expected);
    expect(contents(folder)).toEqual(before);
  });

  test("a folder of other things", async () => {
    const folder = scratch();
    writeFileSync(join(folder, "thesis.tex"), "words");
    expect(await refusalOf(() => runIn(folder))).toMatch(
      /is no folder of results: it has thesis\.tex/,
    );
    expect(contents(folder)).toEqual({ "thesis.tex": "words" });
  });
});

function edit(folder: string, name: string, from: RegExp, to: string): void {
  const text = bytesOf(folder, name);
  expect(text).toMatch(from);
  writeFileSync(join(folder, name), text.replace(from, to));
}

/** Empty while it changes hands. */
function lockOf(folder: string): string {
  try {
    return bytesOf(folder, "lock");
  } catch {
    return "";
  }
}

describe("a folder's lock", () => {
  test("keeps out a second run while the first one's process lives", async () => {
    const folder = scratch();
    const experiment = join(scratch(), "long.yaml");
    const long = ["link: wan-3750km", "size: 256MiB", "policy: gbn", "trials: 100000"];
    writeFileSync(experiment, `${long.join("\n")}\n`);
    const first = start("experiment", experiment, "--out", folder, "--jobs", "1");
    await until("it has the lock", () => existsSync(join(folder, "results.jsonl")));
    const second = await run("experiment", experiment, "--out", folder);
    expect(second.status).toBe(1);
    expect(second.stderr).toMatch(
      /^sdr: BUSY: process \d+ is writing to .*\(wait for it; if it is gone/,
    );
    first.kill("SIGKILL");
    await first.end();
    expect(existsSync(join(folder, "lock"))).toBe(true);
    // Its holder is gone: the next run has the folder, and gives it back when it is asked to end.
    const third = start("experiment", experiment, "--out", folder, "--jobs", "1");
    await until("it has the lock", () => lockOf(folder).includes(`"pid":${third.child.pid},`));
    third.kill("SIGTERM");
    const ended = await third.end();
    expect(ended.stderr).toMatch(/^sdr: ABORTED: interrupted by SIGTERM/m);
    expect(existsSync(join(folder, "lock"))).toBe(false);
  });

  const holder = (value: object) => `${JSON.stringify(value)}\n`;
  const ancient = new Date(Date.now() - 3_600_000);

  test.each([
    ["of a process number that is another process's now", holder({ pid: 1, place: "", began: "" })],
    [
      "of another machine that has not been heard of",
      holder({ pid: 1, place: "elsewhere", began: "1" }),
    ],
    ["that was cut off", '{"pid":1'],
  ])("is taken when it is one %s", async (_, text) => {
    const folder = scratch();
    writeFileSync(join(folder, "lock"), text);
    utimesSync(join(folder, "lock"), ancient, ancient);
    await runIn(folder);
    expect(contents(folder)).toEqual(whole);
  });

  test("of another machine is left alone while it is fresh", async () => {
    const folder = scratch();
    const text = holder({ pid: 1, place: `not ${hostname()}`, began: "" });
    writeFileSync(join(folder, "lock"), text);
    expect(await refusalOf(() => runIn(folder))).toMatch(/^BUSY: process 1 is writing to /);
    expect(contents(folder)).toEqual({ lock: text });
  });
});

describe("shards", () => {
  const text = [
    ...["name: parts", "link: rate 10gbit delay 100us loss 1%", "trials: 2", "seed: [1, 2]"],
    ...["size: [16KiB, 64KiB, 256KiB, 1MiB]", 'policy: [sr-nack, "ec-mds(4,2)"]', ""],
  ].join("\n");
  const { cells } = parseExperiment(text, "parts.yaml");

  test("have every cell once, and cost about the same", () => {
    for (const count of [1, 2, 3, 5]) {
      const shards = Array.from({ length: count }, (_, i) =>
        shardCells(cells, { index: i + 1, count }),
      );
      const keys = shards.flat().map(cellKey);
      expect(keys.toSorted()).toEqual(cells.map(cellKey).toSorted());
      const costs = shards.map((shard) => shard.reduce((sum, cell) => sum + cellCost(cell), 0));
      const dearest = Math.max(...cells.map(cellCost));
      expect(Math.max(...costs) - Math.min(...costs)).toBeLessThanOrEqual(dearest);
    }
  });

  test("merged are byte for byte what one run gives", async () => {
    const one = scratch();
    await runIn(one, { text });
    const folders: string[] = [];
    for (const index of [3, 1, 2]) {
      const folder = scratch();
      await runIn(folder, { text, shard: { index, count: 3 } });
      folders.push(folder);
    }
    const before = folders.map(contents);
    const out = join(scratch(), "new", "merged");
    mergeRuns(folders, out, version());
    expect(contents(out)).toEqual(contents(one));
    expect(folders.map(contents)).toEqual(before);
    // What was merged is a run like another: it is resumed, and merged again.
    expect((await runIn(out, { text })).kept).toBe(cells.length);
    mergeRuns([out, ...folders], join(scratch(), "again"), version());
  });

  test("that are not all there, differ, or are of different things are refused", async () => {
    const [one, two, other] = [scratch(), scratch(), scratch()];
    await runIn(one, { text, shard: { index: 1, count: 2 } });
    await runIn(two, { text, shard: { index: 2, count: 2 } });
    await runIn(other);
    const out = join(scratch(), "out");
    const merging = (...folders: string[]) => refusalOf(() => mergeRuns(folders, out, version()));
    expect(await merging(one)).toMatch(/^INVALID_ARGUMENT: \d+ of 16 rows are missing, .* is 1\/2/);
    expect(await merging(one, other)).toMatch(/are of parts and tiny/);
    expect(await refusalOf(() => mergeRuns([one, two], out, "9.9.9"))).toMatch(/^UNSUPPORTED: /);
    truncateSync(join(two, "results.jsonl"), bytesOf(two).length - 1);
    expect(await merging(one, two)).toMatch(/^INVALID_ARGUMENT: 1 of 16 rows are missing/);
    expect(existsSync(out)).toBe(false);
    await runIn(two, { text, shard: { index: 2, count: 2 } });
    const three = scratch();
    for (const name of readdirSync(two)) copyFileSync(join(two, name), join(three, name));
    edit(three, "results.jsonl", /"failed":0/, '"failed":1');
    expect(await merging(one, two, three)).toMatch(/ differ in emulated /);
    expect(existsSync(out)).toBe(false);
    mkdirSync(out);
    writeFileSync(join(out, "mine"), "");
    expect(await merging(one, two)).toMatch(/is no folder of results/);
    expect(contents(out)).toEqual({ mine: "" });
    expect(await merging(one, two.concat("-none"))).toMatch(/^NOT_FOUND: /);
  });
});

describe("rows", () => {
  const rowsOf = async (...lines: string[]): Promise<readonly ResultRow[]> => {
    const text = `${["name: rows", "link: rate 10gbit delay 100us", ...lines].join("\n")}\n`;
    return (await runIn(scratch(), { text })).rows;
  };

  test("of phases tell each one's time, and the whole", async () => {
    const [row] = await rowsOf(
      ...["size: 256KiB", "policy: sr-nack", "trials: 4", "warmup: 1", "phases:"],
      ...["  - { messages: 3, loss: 0 }", "  - { messages: 2, loss: 5% }"],
    );
    const { phases = [], messages, totalNs } = row!;
    expect(messages).toBe(5);
    const [clear, lossy] = phases;
    expect(clear!.meanNs / clear!.idealNs).toBeCloseTo(1, 3);
    expect(lossy!.meanNs).toBeGreaterThan(1.2 * lossy!.idealNs);
    expect(phases.map((phase) => phase.totalNs)).toEqual([3 * clear!.meanNs, 2 * lossy!.meanNs]);
    expect(totalNs).toBeCloseTo(clear!.totalNs + lossy!.totalNs, 6);
    expect(row!.meanNs).toBeCloseTo((totalNs ?? 0) / 5, 3);
    expect(csvField(phases)).toMatch(/^"\[\{""link"":/);
  });

  test("of nothing delivered have no times, and reports take them", async () => {
    const rows = await rowsOf(
      ...["size: 64KiB", "policy: sr-nack", "trials: 2", "link: rate 1gbit drop data 1-1000000000"],
    ).catch((error: Error) => error.message);
    expect(rows).toMatch(/link is given twice/);
    const [row] = await rowsOf(
      ...["size: 64KiB", "policy: sr-nack", "trials: 2", "reverse-link: drop ack 1-1000000000"],
    );
    expect(row).toMatchObject({ failed: 2, meanNs: null, quantilesNs: [], wireOverhead: 0 });
    expect(parseRows(`${JSON.stringify(row)}\n`, "x", version()).rows).toHaveLength(1);
  });

  test("of warmed-up connections count only the messages that follow", async () => {
    const rows = await rowsOf(
      ...["size: 64KiB", "policy: sr-nack", "trials: 3", "warmup: [0, 2]", "messages: [1, 4]"],
    );
    expect(rows.map(({ warmup, messages }) => [warmup, messages])).toEqual([
      ...[
        [0, undefined],
        [0, 4],
        [2, undefined],
        [2, 4],
      ],
    ]);
    for (const row of rows) {
      expect(row.meanNs / row.idealNs).toBeCloseTo(1, 3);
      // Frames of one message's end come with the next; a whole message more would be 1.
      expect(row.wireOverhead).toBeLessThan(1);
    }
  });

  test("drawn are the same for any number of threads, and over UDP bytes arrive", async () => {
    const path = join(scratch(), "both.yaml");
    const lines = [
      ...["link: rate 1gbit delay 1ms loss 1%", "size: 256KiB", "policy: sr-nack", "packet: 1400"],
      ...["chunk: 14000", "trials: 300", "transport: [sampled, emulated]"],
    ];
    writeFileSync(path, `${lines.join("\n")}\n`);
    const [one, three] = [scratch(), scratch()];
    for (const [out, jobs] of [
      [one, "1"],
      [three, "3"],
    ] as const) {
      const ended = await run("experiment", path, "--out", out, "--jobs", jobs, "--json");
      expect({ status: ended.status, stderr: ended.stderr }).toEqual({ status: 0, stderr: "" });
      expect(JSON.parse(ended.stdout)).toMatchObject({ experiment: "both", rows: 2, failed: 0 });
    }
    expect(contents(one)).toEqual(contents(three));
    writeFileSync(
      path,
      `${lines.join("\n").replace("[sampled, emulated]", "udp").replace("300", "2")}\n`,
    );
    const { text, experiment } = readExperiment(path);
    const { signal } = new AbortController();
    const options = { text, experiment, out: scratch(), shard: SHARD, jobs: 1, signal };
    const [row] = (await runFolder(options)).rows;
    expect(row).toMatchObject({ transport: "udp", method: "measured", failed: 0, trials: 2 });
    expect(row!.minNs).toBeGreaterThanOrEqual(row!.idealNs);
  });
});

describe("CSV", () => {
  test.each([
    ["plain", "plain"],
    ["a,b", '"a,b"'],
    ['say "x"', '"say ""x"""'],
    ["two\nlines", '"two\nlines"'],
    [undefined, ""],
    [null, ""],
    [0, "0"],
    [false, "false"],
  ])("%j", (value, expected) => {
    expect(csvField(value)).toBe(expected);
  });
});
