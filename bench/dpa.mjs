// How many completions a second the DPA's receive worker takes, under emulation: runs bench/native/dpa_bench, which
// checks every bit and count of what it times, and fails when one is wrong.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { renderTable } from "../dist/report/table.js";
import { root } from "./machine.mjs";

const REPEATS = 15;
const REPEATS_QUICK = 3;
const MILLIONS_MIN = { 1: 40, 16: 98 }; // of one worker, by packets a chunk; 98: 3.2 Tbit/s of 4 KiB packets

export async function measureDpa({ quick }) {
  const program = join(root, "build-native", "dpa_bench");
  const repeats = String(quick ? REPEATS_QUICK : REPEATS);
  const result = JSON.parse(execFileSync(program, [repeats], { encoding: "utf8" }));
  if (result.verified !== true) throw new Error("dpa_bench did not verify its results");
  const requirements = Object.entries(MILLIONS_MIN).map(([packets, least]) => {
    const row = result.results.find(
      (one) => one.workers === 1 && one.packetsPerChunk === Number(packets),
    );
    return {
      name: `dpa (${result.device}): M completions/s, one core, ${packets} packets a chunk`,
      least,
      measured: row.completionsPerSecondEach / 1e6,
    };
  });
  return { ...result, requirements };
}

export function dpaTables(result) {
  const million = (value) => (value / 1e6).toFixed(1);
  const columns = [
    { title: "DPA program\nunder emulation", align: "left", cell: () => result.device },
    { title: "workers", cell: (row) => String(row.workers) },
    { title: "packets\na chunk", cell: (row) => String(row.packetsPerChunk) },
    {
      title: "M completions/s\neach, median",
      cell: (row) => million(row.completionsPerSecondEach),
    },
    { title: "least", cell: (row) => million(row.min) },
    { title: "most", cell: (row) => million(row.max) },
    { title: "together", cell: (row) => million(row.completionsPerSecondTogether) },
  ];
  return renderTable(columns, result.results);
}
