// How fast the model draws messages: 1000 trials of the standard one on one core, and the whole grid of sizes and chunk
// losses (SDR-RDMA, arXiv 2505.05366, figure 9) on two. Means are checked against the formulas' in the same run.
import { mean, summarize } from "../dist/base/statistics.js";
import { runJobs } from "../dist/cli/emulate/jobs.js";
import { COLUMN, COLUMNS } from "../dist/cli/emulate/trial.js";
import { predict } from "../dist/model/predict.js";
import { sampleTrials } from "../dist/model/sample.js";
import { parseScheme } from "../dist/model/scheme.js";
import { settingOf } from "../dist/model/setting.js";
import { renderTable } from "../dist/report/table.js";

const TRIALS = 1000;
const STANDARD_MS_MAX = 50;
const GRID_SECONDS_MAX = 10;
const GRID_JOBS = 2;
const POLICIES = ["sr-rto", "sr-nack", "ec-mds(32,8)", "ec-xor(32,8)"];
const SIZES = Array.from({ length: 17 }, (_, i) => 2 ** (17 + i)); // 128 KiB to 8 GiB
const LOSSES = Array.from({ length: 11 }, (_, i) => 10 ** (-6 + i / 2));
const STANDARD = { bytes: 2 ** 27, losses: [1e-3, 1e-4, 1e-5], repeats: 15, warmUp: 3 };
const SEED = 1;
// Where formulas are exact, what is left is chance; of few losses in 1000 trials the spread is not well known.
const TOLERANCE_EXACT = 0.01;
const TOLERANCE = 0.06;
const ERRORS = 3;

function sizesOf(bytes) {
  return { bytes, packetBytes: 4096, chunkBytes: 65_536 };
}

/** 400 Gbit/s and 12.5 ms each way; data packets are lost so that this share of chunks is. */
function linksOf(chunkLoss) {
  const reverse = { rateBps: 400e9, delayNs: 12.5e6 };
  const lossProbability = -Math.expm1(Math.log1p(-chunkLoss) / 16);
  return { forward: { ...reverse, loss: "bernoulli", lossProbability }, reverse };
}

function verify(policy, bytes, loss, completionNs) {
  const { forward, reverse } = linksOf(loss);
  const setting = settingOf(forward, reverse, sizesOf(bytes));
  const { exact, meanNs: predicted } = predict(parseScheme(policy, setting), setting);
  const { ci95, mean: sampled } = summarize(completionNs);
  const room = (exact ? TOLERANCE_EXACT : TOLERANCE) * predicted + ERRORS * ci95;
  if (Math.abs(sampled - predicted) <= room) return Math.abs(sampled / predicted - 1);
  const where = `${policy}, ${bytes} B, chunk loss ${loss}`;
  throw new Error(`${where}: ${sampled} ns on average where formulas say ${predicted}`);
}

/** The median time of 1000 trials of the standard message, in milliseconds, for each loss. */
function measureStandard({ bytes, losses, repeats, warmUp }) {
  return losses.map((loss) => {
    const { forward, reverse } = linksOf(loss);
    const setting = settingOf(forward, reverse, sizesOf(bytes));
    const scheme = parseScheme("sr-rto");
    const times = [];
    for (let repeat = 0; repeat < repeats + warmUp; repeat++) {
      const range = { seed: SEED + repeat, first: 0, count: TRIALS };
      const startedMs = performance.now();
      const { completionNs } = sampleTrials(scheme, setting, range);
      if (repeat >= warmUp) times.push(performance.now() - startedMs);
      verify("sr-rto", bytes, loss, completionNs);
    }
    const { max, min, p50 } = summarize(times);
    return { bytes, loss, medianMs: p50, minMs: min, maxMs: max };
  });
}

async function measureGrid(sizes, progress) {
  const cells = POLICIES.flatMap((policy) =>
    sizes.flatMap((bytes) => LOSSES.map((loss) => ({ policy, bytes, loss }))),
  );
  const tasks = cells.map(({ policy, bytes, loss }) => ({
    kind: "sampled",
    setting: { ...sizesOf(bytes), ...linksOf(loss), seed: SEED, messages: 1, warmup: 0 },
    policy,
    trials: TRIALS,
  }));
  const results = [];
  const cpu = process.cpuUsage(); // Of all threads.
  const startedMs = performance.now();
  await runJobs(tasks, {
    jobs: GRID_JOBS,
    signal: new AbortController().signal,
    onTrials: (task) => progress(`model: cell ${task + 1} of ${tasks.length}`),
    onDone: (task, rows) => (results[task] = rows),
  });
  const seconds = (performance.now() - startedMs) / 1e3;
  const { system, user } = process.cpuUsage(cpu);
  const errors = cells.map(({ policy, bytes, loss }, cell) => {
    const completionNs = [];
    for (let at = COLUMN.completionNs; at < results[cell].length; at += COLUMNS)
      completionNs.push(results[cell][at]);
    if (completionNs.length !== TRIALS) throw new Error(`${completionNs.length} trials of a cell`);
    return verify(policy, bytes, loss, completionNs);
  });
  const cpuSeconds = (system + user) / 1e6;
  const trials = cells.length * TRIALS;
  return { cells: cells.length, trials, seconds, cpuSeconds, meanError: mean(errors) };
}

export async function measureModel({ quick, progress }) {
  progress("model: standard message");
  const standard = measureStandard(STANDARD);
  const grid = await measureGrid(quick ? SIZES.filter((_, i) => i % 4 === 0) : SIZES, progress);
  const requirements = [
    {
      name: "model: ms for 1000 trials of sr-rto, 128 MiB, one core",
      most: STANDARD_MS_MAX,
      measured: Math.max(...standard.map(({ medianMs }) => medianMs)),
    },
  ];
  if (!quick)
    requirements.push({
      name: `model: seconds for the grid of ${grid.cells} cells of 1000 trials, ${GRID_JOBS} cores`,
      most: GRID_SECONDS_MAX,
      measured: grid.seconds,
    });
  return { standard, grid, requirements };
}

export function modelTables({ standard, grid }) {
  const columns = [
    { title: "1000 trials", align: "left", cell: (row) => `sr-rto, ${row.bytes / 2 ** 20} MiB` },
    { title: "chunk loss", cell: (row) => row.loss.toExponential() },
    { title: "median", cell: (row) => `${row.medianMs.toFixed(2)} ms` },
    { title: "least", cell: (row) => `${row.minMs.toFixed(2)} ms` },
    { title: "most", cell: (row) => `${row.maxMs.toFixed(2)} ms` },
  ];
  const { cells, cpuSeconds, meanError, seconds, trials } = grid;
  const each = `${cpuSeconds.toFixed(2)} s of processor time`;
  const error = `means ${(100 * meanError).toFixed(2)} % from the formulas' on average`;
  const line = `grid: ${cells} cells, ${trials} trials in ${seconds.toFixed(2)} s, ${each}; ${error}`;
  return `${renderTable(columns, standard)}\n${line}\n`;
}
