// How fast one core encodes and decodes: runs bench/native/codec_bench, which compares what was made with the scalar
// kernel's and fails when it is wrong, beside a read-only scan of the same data and, where it is installed, Debian's
// libisal. All take turns in rounds, a scan before each; a ratio compares figures of one round.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { renderTable } from "../dist/report/table.js";
import { root, spread, spreadText } from "./machine.mjs";

const SECONDS = 40;
const SECONDS_QUICK = 5;
/** Data that 400 Gbit/s carries. */
const LINE_GBPS = 50;

/** Last processor that this process may use: the first one often serves the system's interrupts. */
function lastProcessor() {
  try {
    const status = readFileSync("/proc/self/status", "utf8");
    return /^Cpus_allowed_list:.*?(\d+)$/m.exec(status)?.[1];
  } catch {
    return undefined;
  }
}

/** The benchmark's output; `processor` is the one it was kept on, undefined where it may wander. */
function runProgram(args) {
  const program = join(root, "build-native", "codec_bench");
  const options = { encoding: "utf8" };
  const processor = lastProcessor();
  if (processor !== undefined) {
    try {
      const pinned = execFileSync("taskset", ["-c", processor, program, ...args], options);
      return { processor: Number(processor), output: pinned };
    } catch (error) {
      if (error.code !== "ENOENT") throw error; // without taskset
    }
  }
  return { output: execFileSync(program, args, options) };
}

/** Round by round, one series over the other; undefined when either is missing. */
function ratio(numerators, denominators) {
  if (numerators === undefined || denominators === undefined) return undefined;
  return spread(numerators.map((value, round) => value / denominators[round]));
}

function describeRow(row, all) {
  // libisal chooses its own instructions, or is held to AVX2; a kernel of ours is compared with its like.
  const rival = row.kernel === "avx2" ? "isal-avx2" : "isal";
  const same = (one) => isCase(one, row) && one.operation === row.operation;
  const theirs = all.find((one) => one.kernel === rival && same(one));
  const gbps = spread(row.gbps);
  return {
    ...row,
    rounds: row.gbps,
    gbps,
    ratioToScan: ratio(row.gbps, row.scanGBps),
    ratioToIsal: isRival(row) ? undefined : ratio(row.gbps, theirs?.gbps),
    coresAt400Gbit: Math.ceil(LINE_GBPS / gbps.median),
  };
}

function isRival({ kernel }) {
  return kernel.startsWith("isal");
}

function isCase(one, { code, k, m, chunkBytes }) {
  return one.code === code && one.k === k && one.m === m && one.chunkBytes === chunkBytes;
}

/** What is asked of (32,8), from rows as codec_bench gives them. Without libisal nothing is asked against it. */
function requirementsOf(results, best) {
  const find = (code, operation, { kernel = best, chunkBytes = 65536 } = {}) =>
    results.find(
      (one) =>
        isCase(one, { code, k: 32, m: 8, chunkBytes }) &&
        one.operation === operation &&
        one.kernel === kernel,
    );
  const mds = find("mds", "encode");
  const xor = find("xor", "encode");
  const avx2 = find("mds", "encode", { kernel: "avx2" });
  const small = find("mds", "encode", { chunkBytes: 4096 });
  const atLeast = (name, least, measured) =>
    measured === undefined ? [] : [{ name: `codec: ${name}`, least, measured: measured.median }];
  const name = "mds(32,8) encode, 64 KiB chunks,";
  return [
    ...atLeast(`${name} of a read-only scan`, 0.6, mds.ratioToScan),
    ...atLeast(`${name} times libisal`, 4, mds.ratioToIsal),
    ...atLeast(`${name} AVX2 alone, times libisal's AVX2`, 1, avx2?.ratioToIsal),
    ...atLeast(
      "mds(32,8) decode of 8 losses, of its encode",
      0.8,
      ratio(find("mds", "decode").rounds, mds.rounds),
    ),
    ...atLeast(
      "mds(32,8) encode, 4 KiB chunks, of its 64 KiB",
      0.5,
      ratio(small.rounds, mds.rounds),
    ),
    ...atLeast("xor(32,8) encode, 64 KiB chunks, of a read-only scan", 0.7, xor.ratioToScan),
    ...[mds, xor].map(({ code, coresAt400Gbit }) => ({
      name: `codec: cores that hide ${code}(32,8) at 400 Gbit/s, from one core's rate`,
      most: 2,
      measured: coresAt400Gbit,
    })),
  ];
}

export async function measureCodec({ quick, progress }) {
  progress("codec");
  const args = ["--seconds", String(quick ? SECONDS_QUICK : SECONDS)];
  const { processor, output } = runProgram(args);
  const { results: rows, bestKernel, isal, scanGBps, rounds, dataBytes } = JSON.parse(output);
  const results = rows.map((row) => describeRow(row, rows));
  const requirements = requirementsOf(results, bestKernel);
  const setting = { processor, bestKernel, isal, rounds, dataBytes };
  return { ...setting, scanGBps: spread(scanGBps), results, requirements };
}

export function codecTables({ results, scanGBps, processor, bestKernel, isal, dataBytes, rounds }) {
  const times = (value) => (value === undefined ? "-" : value.median.toFixed(2));
  const columns = [
    {
      title: "codec, one core\ncode",
      align: "left",
      cell: (row) => `${row.code}(${row.k},${row.m})`,
    },
    { title: "\noperation", align: "left", cell: (row) => row.operation },
    { title: "\nkernel", align: "left", cell: (row) => row.kernel },
    { title: "chunk\nKiB", cell: (row) => String(row.chunkBytes / 1024) },
    { title: "GB/s of data\nmedian (range)", cell: (row) => spreadText(row.gbps) },
    { title: "of a\nscan", cell: (row) => times(row.ratioToScan) },
    { title: "times\nlibisal", cell: (row) => times(row.ratioToIsal) },
    { title: "cores at\n400 Gbit/s", cell: (row) => String(row.coresAt400Gbit) },
  ];
  const where = processor === undefined ? "not kept on one processor" : `on processor ${processor}`;
  const note =
    `${dataBytes / 2 ** 20} MiB, ${rounds} rounds, ${where}; a read-only scan: ${spreadText(scanGBps)} GB/s; ` +
    `libisal is ${isal ? "" : "not "}installed;\n` +
    `best kernel here: ${bestKernel}; cores at 400 Gbit/s hide encoding, extrapolated from one core's rate\n`;
  return renderTable(columns, results) + note;
}
