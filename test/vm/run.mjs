// `npm run test:rxe`: builds, boots two guests, runs test/vm/*.vm.ts against them, and powers them off. Arguments go to
// vitest. Exit status: 0 also where it cannot run, with the reason printed; SDR_VM_REQUIRED=1 makes that a failure.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Guests } from "./guests.mjs";
import { CannotRun, prepare, root } from "./prepare.mjs";

/** Whatever hangs ends here. Boot, suites and power-off take three minutes where two cores are free, more where not. */
const RUN_MS_MAX = process.env.SDR_VM_POLICIES === "all" ? 1_500_000 : 900_000;
const SMP = Number(process.env.SDR_VM_CPUS ?? 1);

const log = (text) => process.stderr.write(`> ${text}\n`);

function build() {
  for (const what of ["build", "agent"]) {
    const done = spawnSync(process.execPath, ["cmake/build.mjs", what], {
      cwd: root,
      stdio: "inherit",
    });
    if (done.status !== 0) throw new Error(`node cmake/build.mjs ${what} failed`);
  }
}

/** Runs the suites; gives vitest's exit status. */
async function runSuites(guests, args, deadline) {
  const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
  const config = join(root, "test", "vm", "vitest.config.ts");
  const child = spawn(process.execPath, [vitest, "run", "--config", config, ...args], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, SDR_VM_FOLDER: guests.folder },
    detached: true, // a group of its own: its workers end with it
  });
  const killAll = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  };
  process.on("exit", killAll);
  const timer = setTimeout(killAll, Math.max(deadline - Date.now(), 0));
  const [status] = await once(child, "close");
  clearTimeout(timer);
  process.off("exit", killAll);
  if (status === null) throw new Error(`the suites were not done after ${RUN_MS_MAX / 1000} s`);
  return status;
}

async function main(args) {
  build();
  const files = prepare(log);
  const startedMs = Date.now();
  const seconds = () => ((Date.now() - startedMs) / 1000).toFixed(1);
  const guests = new Guests();
  // Also what SIGINT and SIGTERM come to.
  process.on("exit", () => guests.kill());
  try {
    await guests.boot(files, SMP);
    const cpu = () => guests.processorSeconds.toFixed(1);
    log(`two guests are up after ${seconds()} s (${cpu()} s of processor time)`);
    const status = await runSuites(guests, args, startedMs + RUN_MS_MAX);
    if (status !== 0) process.stderr.write(guests.consoles());
    log(`the suites ended after ${seconds()} s (${cpu()} s of the guests' processor time)`);
    if (!(await guests.powerOff())) log("a guest did not power off by itself and was killed");
    log(`done after ${seconds()} s`);
    return status;
  } catch (error) {
    process.stderr.write(`${error.message}\n${guests.consoles()}`);
    return 1;
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(130));
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof CannotRun)) throw error;
  process.stdout.write(`skipped test:rxe: ${error.message}\n`);
  process.exitCode = process.env.SDR_VM_REQUIRED === "1" ? 1 : 0;
}
process.exit();
