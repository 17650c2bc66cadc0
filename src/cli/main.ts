#!/usr/bin/env node
/** The command line: commands, exit statuses (0 ok, 1 failed, 2 usage), errors as one line on stderr. */
import { Command, CommanderError } from "commander";
import { demoCommand } from "./demo.ts";
import { devicesCommand } from "./devices/devices.ts";
import { emulateCommand } from "./emulate/emulate.ts";
import { traceCommand } from "./emulate/trace.ts";
import { experimentCommand } from "./experiment/experiment.ts";
import { figuresCommand } from "./experiment/figures.ts";
import { EXIT, errorDocument, errorLine, exitStatus, toSdrError, UsageError } from "./failure.ts";
import { modelCommand } from "./model.ts";
import { linksCommand } from "./path/links.ts";
import { probeCommand } from "./path/probe.ts";
import { perfCommand } from "./perf/perf.ts";
import { planCommand } from "./plan.ts";
import { reportCommand } from "./report.ts";
import { printJson } from "./terminal.ts";
import { recvCommand } from "./transfer/recv.ts";
import { sendCommand } from "./transfer/send.ts";
import { version } from "./version.ts";

const DEBUG_VARIABLE = "SDR_DEBUG";

/** In the order of the help text. */
const COMMANDS: readonly (() => Command)[] = [
  demoCommand,
  sendCommand,
  recvCommand,
  emulateCommand,
  modelCommand,
  planCommand,
  traceCommand,
  experimentCommand,
  figuresCommand,
  reportCommand,
  linksCommand,
  probeCommand,
  perfCommand,
  devicesCommand,
];

function makeProgram(): Command {
  const program = new Command("sdr")
    .description("Software-defined reliability for RDMA: files and messages over lossy paths.")
    .version(version())
    .addHelpText(
      "after",
      "\nSizes: 128MiB, 1GB. Rates: 400gbit. Times: 25ms. Exit status: 0 ok, 1 failed, 2 usage.",
    );
  for (const make of COMMANDS) program.addCommand(make().showHelpAfterError(false));
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ outputError: () => {} });
  }
  return program;
}

/** Commander's complaint as a usage error; undefined when it only showed help or the version. */
function usageError(error: CommanderError): UsageError | undefined {
  if (error.exitCode === 0) return undefined;
  const what =
    error.code === "commander.help" ? "no command" : error.message.replace(/^error: /, "");
  return new UsageError("INVALID_ARGUMENT", what.replace(/\s*\n\s*/g, " "), "see sdr --help", {
    cause: error,
  });
}

async function main(): Promise<void> {
  // A reader that has seen enough (head) is no failure of ours.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT.ok);
    throw error;
  });
  const json = process.argv.includes("--json");
  try {
    await makeProgram().parseAsync();
  } catch (thrown) {
    const error = thrown instanceof CommanderError ? usageError(thrown) : toSdrError(thrown);
    if (error === undefined) return;
    if (process.env[DEBUG_VARIABLE]) console.error(thrown);
    process.stderr.write(errorLine(error));
    if (json) printJson(errorDocument(error));
    process.exitCode = exitStatus(error);
  }
}

await main();
