// Runs any number of the swarm's seeds, in child processes, so that a crash or a hang is a finding too.
//   npm run swarm -- [--from 1] [--count N] [--seconds S] [--jobs J]
// Ends after --count seeds or --seconds, whichever comes first. Exit status 1 when a seed failed. One seed prints all
// of its settings first; of many, those that fail do.
import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { registerTypeScript } from "./load-ts.mjs";

const REPORT_EVERY_SEEDS = 1000;
const SEED_MS_MAX = 120_000;
const FAILURES_MAX = 20;
const WATCH_EVERY_MS = 1000;

function whole(name, text, least) {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= least) return value;
  process.stderr.write(`--${name} ${text} is not a whole number of at least ${least}\n`);
  process.exit(2);
}

function readOptions() {
  const text = { type: "string" };
  const options = { from: text, count: text, seconds: text, jobs: text };
  const { values } = parseArgs({ options });
  const seconds = values.seconds === undefined ? Infinity : whole("seconds", values.seconds, 1);
  const usual = seconds === Infinity ? "1000" : String(Number.MAX_SAFE_INTEGER);
  return {
    from: whole("from", values.from ?? "1", 0),
    count: whole("count", values.count ?? usual, 1),
    seconds,
    jobs: whole("jobs", values.jobs ?? String(availableParallelism()), 1),
  };
}

async function loadSwarm() {
  registerTypeScript();
  const [{ drawScenario, describeScenario }, { runScenario }] = await Promise.all([
    import("./scenario.ts"),
    import("./swarm.ts"),
  ]);
  return { drawScenario, describeScenario, runScenario };
}

/** A child: runs the seeds it is told, one at a time, and says what became of each. */
async function work() {
  const { drawScenario, runScenario } = await loadSwarm();
  process.on("message", async (seed) => {
    try {
      const outcome = await runScenario(drawScenario(seed));
      process.send({ seed, outcome, rssBytes: process.memoryUsage.rss() });
    } catch (error) {
      process.send({ seed, failure: String(error?.stack ?? error) });
    }
  });
  process.on("disconnect", () => process.exit(0));
  process.send({ ready: true });
}

class Swarm {
  constructor(options, swarm) {
    this.options = options;
    this.swarm = swarm;
    this.next = options.from;
    this.startMs = performance.now();
    this.totals = {
      seeds: 0,
      failed: 0,
      messages: 0,
      completed: 0,
      givenUp: 0,
      bytes: 0,
      virtualNs: 0,
    };
    this.rssBytes = 0;
    this.open = 0;
  }

  seconds() {
    return (performance.now() - this.startMs) / 1000;
  }

  take() {
    const { from, count, seconds } = this.options;
    const isOver = this.next >= from + count || this.seconds() >= seconds;
    return isOver || this.totals.failed >= FAILURES_MAX ? undefined : this.next++;
  }

  start() {
    const child = fork(fileURLToPath(import.meta.url), {
      env: { ...process.env, SDR_SWARM_CHILD: "1" },
    });
    let seed;
    let sinceMs = performance.now();
    const give = () => {
      seed = this.take();
      sinceMs = performance.now();
      if (seed === undefined) child.disconnect();
      else child.send(seed);
    };
    child.on("message", (message) => {
      if (message.ready) return give();
      this.note(message);
      give();
    });
    const watch = setInterval(() => {
      if (seed !== undefined && performance.now() - sinceMs > SEED_MS_MAX) child.kill("SIGKILL");
    }, WATCH_EVERY_MS);
    this.open++;
    child.on("exit", (code, signal) => {
      clearInterval(watch);
      this.open--;
      const crashed = seed !== undefined;
      if (crashed) this.note({ seed, failure: `the process ended with ${signal ?? code}` });
      if (crashed && this.next > seed) this.start();
      else if (this.open === 0) this.finish();
    });
  }

  note({ seed, outcome, failure, rssBytes = 0 }) {
    const { totals } = this;
    totals.seeds++;
    this.rssBytes = Math.max(this.rssBytes, rssBytes);
    if (failure === undefined) {
      for (const [name, value] of Object.entries(outcome)) totals[name] += value;
    } else {
      totals.failed++;
      const { describeScenario, drawScenario } = this.swarm;
      process.stdout.write(
        `seed ${seed} FAILED: ${failure}\n${describeScenario(drawScenario(seed))}\n` +
          `reproduce: npm run swarm -- --from ${seed} --count 1\n`,
      );
    }
    if (totals.seeds % REPORT_EVERY_SEEDS === 0) this.report();
  }

  report() {
    const { seeds, failed, messages, completed, givenUp, bytes, virtualNs } = this.totals;
    const rate = (seeds / this.seconds()).toFixed(0);
    process.stdout.write(
      `${seeds} seeds up to ${this.next - 1}, ${failed} failed; ${messages} messages, ${completed} completed, ` +
        `${givenUp} given up, ${(bytes / 1e9).toFixed(2)} GB; ${(virtualNs / 1e9).toFixed(0)} virtual s ` +
        `in ${this.seconds().toFixed(0)} s, ${rate} seeds/s, ${Math.round(this.rssBytes / 2 ** 20)} MiB a process\n`,
    );
  }

  finish() {
    if (this.totals.seeds % REPORT_EVERY_SEEDS !== 0) this.report();
    process.exitCode = this.totals.failed > 0 ? 1 : 0;
  }
}

async function main() {
  const options = readOptions();
  const swarm = await loadSwarm();
  const { from, count, seconds, jobs } = options;
  if (count === 1) process.stdout.write(`${swarm.describeScenario(swarm.drawScenario(from))}\n`);
  else
    process.stdout.write(
      `swarm: seeds from ${from}, at most ${count}, at most ${seconds} s, ${jobs} jobs\n`,
    );
  const run = new Swarm(options, swarm);
  for (let i = 0; i < Math.min(jobs, count); i++) run.start();
}

if (process.env.SDR_SWARM_CHILD === "1") await work();
else await main();
