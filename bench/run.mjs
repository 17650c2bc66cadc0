// npm run bench -- [--only codec,engine,dpa,udp,wan,model,micro] [--quick] [--json [FILE]]
// Measures, verifies what it measures in the same run, and prints tables; a figure whose output was wrong is never
// printed: the run fails. --json writes one document instead, to FILE or (tables then go to stderr) to stdout.
import { writeFileSync } from "node:fs";
import { Command, InvalidArgumentError } from "commander";
import { codecTables, measureCodec } from "./codec.mjs";
import { dpaTables, measureDpa } from "./dpa.mjs";
import { engineTables, measureEngine } from "./engine.mjs";
import { describeCommit, describeMachine } from "./machine.mjs";
import { measureMicro, microTables } from "./micro.mjs";
import { measureModel, modelTables } from "./model.mjs";
import { requirementsTable } from "./requirements.mjs";
import { measureUdp, udpTables } from "./udp.mjs";
import { measureWan, wanTables } from "./wan.mjs";

const PARTS = {
  codec: { measure: measureCodec, tables: codecTables },
  engine: { measure: measureEngine, tables: engineTables },
  dpa: { measure: measureDpa, tables: dpaTables },
  udp: { measure: measureUdp, tables: udpTables },
  wan: { measure: measureWan, tables: wanTables },
  model: { measure: measureModel, tables: modelTables },
  micro: { measure: measureMicro, tables: microTables },
};

function parseParts(text) {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !Object.hasOwn(PARTS, name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(`"${unknown}" is none of ${Object.keys(PARTS).join(", ")}`);
  return names;
}

function parseArguments() {
  const command = new Command("npm run bench --")
    .option("--only <parts>", `comma-separated: ${Object.keys(PARTS).join(", ")}`, parseParts)
    .option("--quick", "fewer and smaller repeats: a look, not a figure to quote", false)
    .option("--json [file]", "one JSON document, to the file or to stdout");
  command.exitOverride((stop) => process.exit(stop.exitCode === 0 ? 0 : 2));
  return command.parse().opts();
}

function header(report) {
  const { machine, commit, command } = report;
  const memory = `${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  const at = commit === undefined ? "unknown" : commit.hash.slice(0, 12);
  return [
    `machine  ${machine.cpu}, ${machine.cores} cores, ${memory}; ${machine.kernel}; node ${machine.node}`,
    `load     ${machine.loadAverage.toFixed(2)} before`,
    `commit   ${at}${commit?.modified ? ", modified" : ""}`,
    `command  ${command}`,
    "",
  ].join("\n");
}

async function main() {
  const { only, quick, json } = parseArguments();
  const show = (text) => (json === true ? process.stderr : process.stdout).write(`${text}\n`);
  const report = {
    bench: "sdr-rdma",
    command: ["npm run bench --", ...process.argv.slice(2)].join(" "),
    startedAt: new Date().toISOString(),
    machine: describeMachine(),
    commit: describeCommit(),
    quick,
    requirements: [],
  };
  show(header(report));
  const progress = (text) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`);
  for (const name of only ?? Object.keys(PARTS)) {
    const { requirements, ...result } = await PARTS[name].measure({ quick, progress });
    progress("");
    report[name] = result;
    report.requirements.push(...requirements);
    show(PARTS[name].tables(result));
  }
  if (report.requirements.length > 0) show(requirementsTable(report.requirements));
  const text = `${JSON.stringify(report, undefined, 2)}\n`;
  if (json === true) process.stdout.write(text);
  else if (json !== undefined) writeFileSync(json, text);
}

await main();
