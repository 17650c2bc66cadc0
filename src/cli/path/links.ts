/** sdr links [NAME]: the links with a name. sdr links fit is in links-fit.ts. */
import { Command } from "commander";
import { formatProbability, formatRate, formatSize, formatTime } from "../../base/units.ts";
import {
  describeLink,
  findProfile,
  formatLink,
  type LinkProfile,
  meanBurstPackets,
  meanLoss,
  PROFILES,
  rttNs,
} from "../../link/profile.ts";
import { type Column, renderTable } from "../../report/table.ts";
import { usage } from "../failure.ts";
import { parseLinkOption } from "../options.ts";
import { print, printJson } from "../terminal.ts";
import { fitCommand } from "./links-fit.ts";

/** Where one figure is told of a loss that depends on the payload. */
const PAYLOAD_BYTES = 4096;

interface ShownLink {
  /** Undefined: given by its terms. */
  readonly name?: string;
  readonly about?: string;
  readonly source?: string;
  readonly link: LinkProfile;
}

function shipped(): ShownLink[] {
  return PROFILES.map(({ name, about, source }) => ({
    name,
    about,
    source,
    link: parseLinkOption(name),
  }));
}

/** A shipped one, or terms. Errors: INVALID_ARGUMENT. */
function one(text: string): ShownLink {
  const profile = findProfile(text);
  const link = parseLinkOption(text);
  if (profile === undefined) return { link };
  const { name, about, source } = profile;
  return { name, about, source, link };
}

function document({ name, about, source, link }: ShownLink): object {
  const burst = meanBurstPackets(link, PAYLOAD_BYTES);
  return {
    ...(name === undefined ? {} : { name, about, source }),
    link: formatLink(link),
    rateBps: link.rateBps ?? null,
    rttNs: rttNs(link, link),
    jitterNs: link.jitterNs ?? 0,
    payloadBytes: PAYLOAD_BYTES,
    packetLoss: meanLoss(link, PAYLOAD_BYTES),
    /** null: a run that never ends. */
    burstPackets: Number.isFinite(burst) ? burst : null,
  };
}

function lossCell(link: LinkProfile): string {
  const points = link.loss === "by_size" ? (link.lossBySize ?? []) : [];
  const first = points[0];
  const last = points[points.length - 1];
  if (first === undefined || last === undefined || first === last)
    return formatProbability(meanLoss(link, PAYLOAD_BYTES));
  return `${formatProbability(first[1])} to ${formatProbability(last[1])}`;
}

function burstCell(link: LinkProfile): string {
  const burst = meanBurstPackets(link, PAYLOAD_BYTES);
  return burst === 0 ? "-" : Number.isFinite(burst) ? burst.toPrecision(3) : "endless";
}

function rttCell(link: LinkProfile): string {
  return link.delayNs === undefined ? "-" : formatTime(rttNs(link, link));
}

const COLUMNS: readonly Column<ShownLink>[] = [
  { title: "name\n", align: "left", cell: ({ name = "" }) => name },
  { title: "rate\n", cell: ({ link }) => (link.rateBps ? formatRate(link.rateBps) : "-") },
  { title: "round\ntrip", cell: ({ link }) => rttCell(link) },
  { title: "packets\nlost", cell: ({ link }) => lossCell(link) },
  { title: "mean\nburst", cell: ({ link }) => burstCell(link) },
  {
    title: "source\n",
    align: "left",
    cell: ({ source = "" }) => source.split(/[:;]/)[0] as string,
  },
];

/** One link in full: figures, source, and the terms to give to --link. */
function describe({ name, about, source, link }: ShownLink): string {
  const lines: [string, string | undefined][] = [
    ["name", name],
    ["about", about],
    ["source", source],
    ["--link", `"${formatLink(link)}"`],
    ["one way", describeLink(link)],
    ["round trip", rttCell(link)],
    ["packets lost", lossCell(link)],
    ["mean burst", burstCell(link)],
  ];
  if (link.loss === "by_size") {
    const at = `at ${formatSize(PAYLOAD_BYTES)}`;
    lines.push([at, `${formatProbability(meanLoss(link, PAYLOAD_BYTES))} lost`]);
  }
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([title, value]) => `${title.padEnd(13)} ${value}\n`)
    .join("");
}

function run(name: string | undefined, options: { json?: true }): void {
  if (name === undefined) {
    const links = shipped();
    if (options.json) printJson({ links: links.map(document) });
    else print(renderTable(COLUMNS, links));
    return;
  }
  const link = usage(() => one(name));
  if (options.json) printJson(document(link));
  else print(describe(link));
}

export function linksCommand(): Command {
  return new Command("links")
    .description(
      "the links that have a name, or one in full; sdr links fit makes one from a record",
    )
    .argument("[name]", "a link's name, or terms of tc-netem")
    .option("--json", "print one JSON document on stdout")
    .addCommand(fitCommand())
    .action(run);
}
