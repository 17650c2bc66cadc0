/** sdr links fit TRACE: a link from a record of what a path did to packets. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { Command } from "commander";
import { SdrError } from "../../base/errors.ts";
import { formatProbability, formatTime } from "../../base/units.ts";
import { type FittedModel, fitLoss, type LossFit } from "../../link/fit.ts";
import { type DelayFit, fitDelay } from "../../link/fit-delay.ts";
import { formatLink, type LinkProfile, meanLoss } from "../../link/profile.ts";
import { type PathRecord, parseRecord, RECORD_LIMITS } from "../../link/record.ts";
import { type Column, renderTable } from "../../report/table.ts";
import { fileError, usage } from "../failure.ts";
import { print, printJson } from "../terminal.ts";

function readRecord(path: string): PathRecord {
  let text: string;
  try {
    const { size } = statSync(path);
    const most = RECORD_LIMITS.charactersMax;
    if (size > most)
      throw new SdrError(
        "TOO_LARGE",
        `${path} has ${size} B`,
        `give a record of at most ${most} B`,
      );
    text = readFileSync(path, "latin1");
  } catch (error) {
    throw fileError(path, error);
  }
  try {
    return parseRecord(text);
  } catch (error) {
    if (!(error instanceof SdrError)) throw error;
    const problem = error.message.replace(` (${error.remedy})`, "");
    throw new SdrError(error.code, `${path}: ${problem}`, error.remedy, { cause: error });
  }
}

/** Writes a link's terms as one line, into a new file only. Errors: FILE and others of the file system. */
export function writeLink(path: string, link: LinkProfile): void {
  try {
    writeFileSync(path, `${formatLink(link)}\n`, { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST")
      throw new SdrError("FILE", `${path} exists`, "give another name, or remove it");
    throw fileError(path, error);
  }
}

const MODELS: Readonly<Record<FittedModel, string>> = {
  bernoulli: "independent losses",
  gilbert: "Gilbert: bad spells lose all",
  "gilbert-elliott-3": "Gilbert-Elliott: bad spells lose some",
  "gilbert-elliott-4": "Gilbert-Elliott: losses between spells, too",
};

/** "0.99 % (95 % sure: 0.9 % to 1.1 %)". */
export function lossInterval({ loss, lossLow, lossHigh }: LossFit): string {
  const [share, low, high] = [loss, lossLow, lossHigh].map((value) => formatProbability(value));
  return `${share} (95 % sure: ${low} to ${high})`;
}

function lossText(fit: LossFit): string {
  const { packets, lost, bursts, meanBurst, longestBurst, candidates } = fit;
  if (lost === 0)
    return `none of ${packets} packets was lost: the loss is below ${formatProbability(fit.lossHigh)} (95 % sure)\n`;
  if (lost === packets)
    return `all ${packets} packets were lost: the loss is above ${formatProbability(fit.lossLow)} (95 % sure)\n`;
  const runs = fit.runLengths.map(({ from, to, observed, expected }, i) => {
    const last = i === fit.runLengths.length - 1;
    const length = last ? `${from} and more` : from === to ? `${from}` : `${from} to ${to}`;
    return { length, observed, expected };
  });
  const least = candidates[0]?.bic ?? 0;
  const models: Column<(typeof candidates)[number]>[] = [
    { title: "loss model", align: "left", cell: ({ model }) => MODELS[model] },
    { title: "BIC above the best", cell: ({ bic }) => (bic - least).toFixed(1) },
    { title: "terms", align: "left", cell: ({ link }) => formatLink(link) },
  ];
  const lengths: Column<(typeof runs)[number]>[] = [
    { title: "packets in a run", cell: ({ length }) => length },
    { title: "observed", cell: ({ observed }) => String(observed) },
    { title: "expected", cell: ({ expected }) => expected.toFixed(1) },
  ];
  const { distance, distanceMax } = fit;
  const verdict = distance <= distanceMax ? "as chance explains" : "more than chance explains";
  return (
    `${lost} of ${packets} packets lost: ${lossInterval(fit)}\n` +
    `${bursts} runs of losses, mean ${meanBurst.toPrecision(3)} packets (fitted ` +
    `${fit.fittedBurst.toPrecision(3)}), longest ${longestBurst}\n\n` +
    `${renderTable(models, candidates)}\n${renderTable(lengths, runs)}` +
    `largest difference of the two distributions ${distance.toFixed(3)}, ${verdict} (${distanceMax.toFixed(3)})\n`
  );
}

function delayText(fit: DelayFit): string {
  const { samples, minNs, medianNs, p99Ns, maxNs, candidates } = fit;
  const columns: Column<(typeof candidates)[number]>[] = [
    { title: "distribution", align: "left", cell: ({ distribution }) => distribution },
    { title: "delay", cell: ({ delayNs }) => formatTime(delayNs) },
    { title: "jitter", cell: ({ jitterNs }) => formatTime(jitterNs) },
    { title: "error", cell: ({ errorNs }) => formatTime(errorNs) },
  ];
  const [min, median, p99, max] = [minNs, medianNs, p99Ns, maxNs].map((ns) => formatTime(ns));
  const table = candidates.length === 0 ? "" : `\n${renderTable(columns, candidates)}`;
  return (
    `\ndelay of ${samples} packets: least ${min}, median ${median}, p99 ${p99}, most ${max}\n` +
    table
  );
}

function lossDocument(fit: LossFit): object {
  const { candidates, link, fittedBurst, ...rest } = fit;
  return {
    ...rest,
    link: formatLink(link),
    fittedLoss: meanLoss(link, 1),
    fittedBurst: Number.isFinite(fittedBurst) ? fittedBurst : null,
    candidates: candidates.map((one) => ({ ...one, link: formatLink(one.link) })),
  };
}

function run(path: string, _: object, command: Command): void {
  // The command above has a --json too, and takes the words' one for its own.
  const options: { out?: string; json?: true } = command.optsWithGlobals();
  const { loss, delay } = usage(() => {
    const { lost, delaysNs } = readRecord(path);
    const measured = delaysNs !== undefined && delaysNs.length > 0;
    return { loss: fitLoss(lost), delay: measured ? fitDelay(delaysNs) : undefined };
  });
  const link: LinkProfile = { ...delay?.link, ...loss.link };
  const text = formatLink(link);
  if (options.out !== undefined) writeLink(options.out, link);
  if (options.json) {
    const delayDocument = delay && { ...delay, link: formatLink(delay.link) };
    printJson({ file: path, link: text, loss: lossDocument(loss), delay: delayDocument ?? null });
    return;
  }
  print(`${lossText(loss)}${delay === undefined ? "" : delayText(delay)}\n--link "${text}"\n`);
}

export function fitCommand(): Command {
  return new Command("fit")
    .description("fit a link to a record of lost packets, and of delays where it has times")
    .argument(
      "<trace>",
      "0 (arrived) and 1 (lost), one a packet; or lines of sequence,sent_ns,received_ns",
    )
    .option("--out <file>", "write the link's terms to a new file")
    .option("--json", "print one JSON document on stdout")
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .action(run);
}
