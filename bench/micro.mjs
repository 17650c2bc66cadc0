// Costs of single operations, by the package `benchmark`: operations a second with the relative margin of error of
// their mean (95 %). A case is { name, unit, perRun, run, verify }: `run` does `perRun` units of work, and `verify`,
// before and after the timing, throws when what `run` produced is wrong.
import Benchmark from "benchmark";
import { renderTable } from "../dist/report/table.js";
import { emulationCases } from "./micro-emulation.mjs";
import { plannerCases } from "./micro-planner.mjs";
import { frameCases, policyCases } from "./micro-policies.mjs";

const SECONDS = 2; // of each case, beside its warm-up
const SECONDS_QUICK = 0.3;
const SAMPLES_MIN = 5;
const PLANS_PER_SECOND_MIN = 1000; // a plan a message: under a millisecond
export const TRIALS_PER_SECOND_MIN = 100; // 1000 trials in ten seconds on one core

function options(quick) {
  return { maxTime: quick ? SECONDS_QUICK : SECONDS, minSamples: SAMPLES_MIN };
}

/** Operations a second of a case, in its unit. */
function measure(one, quick) {
  return new Promise((resolve, reject) => {
    const deferred = one.asynchronous === true;
    const fn = deferred ? (turn) => one.run().then(() => turn.resolve(), reject) : () => one.run();
    const bench = new Benchmark(one.name, fn, { ...options(quick), defer: deferred });
    bench.on("complete", () => {
      if (bench.error) reject(bench.error);
      else
        resolve({
          hz: bench.hz * one.perRun,
          rme: bench.stats.rme,
          runs: bench.stats.sample.length,
        });
    });
    bench.run({ async: deferred });
  });
}

async function measureCase(one, quick) {
  await one.run();
  await one.verify();
  const { hz, rme, runs } = await measure(one, quick);
  await one.verify();
  one.close?.();
  const { group, name, unit } = one;
  return { group, name, unit, perSecond: hz, rmePercent: rme, samples: runs };
}

export async function measureMicro({ quick, progress }) {
  const results = [];
  for (const one of [
    ...frameCases(),
    ...policyCases(),
    ...plannerCases(),
    ...(await emulationCases()),
  ]) {
    progress(`micro: ${one.name}`);
    results.push(await measureCase(one, quick));
  }
  const trials = results.find((one) => one.unit === "trials");
  const plans = results.filter((one) => one.unit === "plans");
  const requirements = [
    {
      name: "micro: trials/s of `sdr emulate`, sr-nack, 128 MiB, one core",
      least: TRIALS_PER_SECOND_MIN,
      measured: trials.perSecond,
    },
    {
      name: "micro: plans/s of the slowest question to the planner, one core",
      least: PLANS_PER_SECOND_MIN,
      measured: Math.min(...plans.map(({ perSecond }) => perSecond)),
    },
  ];
  return { results, requirements };
}

function perSecondText(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  return value >= 1e4 ? `${(value / 1e3).toFixed(1)} k` : value.toFixed(1);
}

function eachText(value) {
  const ns = 1e9 / value;
  if (ns < 1e3) return `${ns.toFixed(1)} ns`;
  return ns < 1e6 ? `${(ns / 1e3).toFixed(2)} us` : `${(ns / 1e6).toFixed(2)} ms`;
}

export function microTables({ results }) {
  const columns = [
    { title: "single operations", align: "left", cell: (row) => `${row.group}: ${row.name}` },
    { title: "a second", cell: (row) => perSecondText(row.perSecond) },
    { title: "", align: "left", cell: (row) => row.unit },
    { title: "rme", cell: (row) => `±${row.rmePercent.toFixed(1)} %` },
    { title: "each", cell: (row) => eachText(row.perSecond) },
  ];
  return renderTable(columns, results);
}
