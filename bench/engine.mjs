// How many completions a second one worker steps: runs bench/native/engine_bench, which checks every bitmap, counter
// and immediate of what it times, and fails when one is wrong.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { renderTable } from "../dist/report/table.js";
import { root } from "./machine.mjs";

const REPEATS = 15;
const REPEATS_QUICK = 3;
export const COMPLETIONS_PER_SECOND_MIN = 60e6; // of one core, at 16 packets a chunk

export async function measureEngine({ quick }) {
  const program = join(root, "build-native", "engine_bench");
  const repeats = String(quick ? REPEATS_QUICK : REPEATS);
  const result = JSON.parse(execFileSync(program, [repeats], { encoding: "utf8" }));
  if (result.verified !== true) throw new Error("engine_bench did not verify its results");
  const main = result.results.find((one) => one.name === "step" && one.packetsPerChunk === 16);
  const requirements = [
    {
      name: "engine: M completions/s, one core, 16 packets a chunk",
      least: COMPLETIONS_PER_SECOND_MIN / 1e6,
      measured: main.completionsPerSecond / 1e6,
    },
  ];
  return { ...result, requirements };
}

export function engineTables(result) {
  const million = (value) => (value / 1e6).toFixed(1);
  const columns = [
    { title: "engine worker\none core", align: "left", cell: (row) => row.name },
    { title: "packets\na chunk", cell: (row) => String(row.packetsPerChunk) },
    { title: "M completions/s\nmedian", cell: (row) => million(row.completionsPerSecond) },
    { title: "least", cell: (row) => million(row.min) },
    { title: "most", cell: (row) => million(row.max) },
  ];
  return renderTable(columns, result.results);
}
