/** sdr figures: the shipped experiments that are the paper's figures, their report, and what they say. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import type { ResultRow } from "../../report/row.ts";
import { renderTable } from "../../report/table.ts";
import { usage } from "../failure.ts";
import { parseJobs } from "../options.ts";
import { interruptible, note, print, printJson } from "../terminal.ts";
import { version } from "../version.ts";
import { readExperiment, runFolder } from "./experiment.ts";
import { type Finding, findingsOf } from "./findings.ts";

const FOLDER = "sdr-figures";
const REPORT = "report.html";
const WHOLE = { index: 1, count: 1 };

/** From the model, which takes seconds. */
const PREDICTED = [
  ...["fig-03a", "fig-03b", "fig-03c", "fig-09", "fig-10a", "fig-10b", "fig-10c", "fig-10d"],
  ...["fig-12", "fig-13", "fig-15"],
];
/** Packet by packet. */
const EMULATED = ["fig-spot-checks", "fig-auto"];

interface Texts {
  readonly out: string;
  readonly quick?: true;
  readonly jobs?: string;
  readonly json?: true;
}

/** The experiments' folder, beside src and dist alike. */
function shipped(name: string): string {
  return fileURLToPath(new URL(`../../../experiments/${name}.yaml`, import.meta.url));
}

function findingsTable(findings: readonly Finding[]): string {
  return renderTable<Finding>(
    [
      { title: "figure", align: "left", cell: ({ figure }) => figure },
      { title: "finding", align: "left", cell: ({ what }) => what },
      { title: "paper", align: "left", cell: ({ paper }) => paper },
      { title: "here", align: "left", cell: ({ here }) => here },
    ],
    findings,
  );
}

async function run(given: Texts): Promise<void> {
  const { out, quick, json } = given;
  const jobs = usage(() => parseJobs(given.jobs));
  const names = quick ? PREDICTED : [...PREDICTED, ...EMULATED];
  const rows: ResultRow[] = [];
  const titles: Record<string, string> = {};
  await interruptible(async (signal) => {
    for (const name of names) {
      const { text, experiment } = readExperiment(shipped(name));
      const folder = join(out, name);
      const ran = await runFolder({ text, experiment, out: folder, shard: WHOLE, jobs, signal });
      rows.push(...ran.rows);
      titles[name] = experiment.about;
      if (!json) note(`${experiment.about}: ${ran.rows.length} rows`);
    }
  });
  // Vega takes a while to load, and no other command is to wait for it.
  const { chartSections } = await import("../../report/charts.ts");
  const { writeReport } = await import("../../report/html-report.ts");
  const report = join(out, REPORT);
  const sections = chartSections(rows, titles);
  await writeReport(rows, report, { title: "The paper's figures", version: version(), sections });
  const findings = findingsOf(rows);
  if (json) return printJson({ figures: names, rows: rows.length, report, findings });
  print(findingsTable(findings));
  note(`${rows.length} rows below ${out}; ${report} opens in a browser`);
}

export function figuresCommand(): Command {
  return new Command("figures")
    .description("the paper's figures from shipped experiments, with our policies added")
    .option("--out <folder>", "where results and report.html go; run again, it goes on", FOLDER)
    .option("--quick", "from the model alone, without the emulator")
    .option("--jobs <number>", "threads (default: one a core); results do not depend on it")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
