/** sdr probe HOST and sdr probe --listen: a link measured between two processes. */
import { Command } from "commander";
import { check, SdrError } from "../../base/errors.ts";
import { formatProbability, formatRate, formatSize, formatTime } from "../../base/units.ts";
import { formatLink, LINK_LIMITS } from "../../link/profile.ts";
import { type Column, renderTable } from "../../report/table.ts";
import { errorLine, usage } from "../failure.ts";
import { parsePace, parsePort, parseSizeWithin, parseWhole } from "../options.ts";
import { interruptible, note, print, printJson } from "../terminal.ts";
import { addEndOptions, readEnd } from "../transfer/options.ts";
import { writeLink } from "./links-fit.ts";
import { measure, type ProbeReport, type SizeReport } from "./probe-measure.ts";
import { PROBE_LIMITS } from "./probe-protocol.ts";
import { ProbeServer } from "./probe-serve.ts";

const PORT = "7481";
const PAYLOADS = "256,1KiB,1400,4KiB,8KiB";
const PACKETS = 10_000;
const RATE = "100mbit";

interface Texts {
  readonly port: string;
  readonly listen?: true | string;
  readonly payload?: string;
  readonly packets?: string;
  readonly seconds?: string;
  readonly rate: string;
  readonly out?: string;
  readonly json?: true;
}

/** Sizes ascending, each once. */
function parsePayloads(text: string): number[] {
  const most = LINK_LIMITS.lossSizeBytesMax;
  const sizes = text.split(",").map((size) => parseSizeWithin("payload", size, 1, most));
  check(
    sizes.length <= PROBE_LIMITS.payloadsMax,
    `${sizes.length} payloads`,
    `give at most ${PROBE_LIMITS.payloadsMax}`,
  );
  check(new Set(sizes).size === sizes.length, `payloads ${text} repeat`, "give each size once");
  return sizes.sort((a, b) => a - b);
}

/** Packets of each size. */
function readPackets(given: Texts, payloads: readonly number[], rateBps: number): number {
  const { packetsMax, secondsMax } = PROBE_LIMITS;
  if (given.packets !== undefined) {
    check(given.seconds === undefined, "both --packets and --seconds", "give one of them");
    return parseWhole("packets", given.packets, 1, packetsMax);
  }
  if (given.seconds === undefined) return PACKETS;
  const seconds = parseWhole("seconds", given.seconds, 1, secondsMax);
  const together = payloads.reduce((sum, bytes) => sum + bytes, 0);
  const packets = Math.floor((seconds * rateBps) / 8 / together);
  check(
    packets >= 1 && packets <= packetsMax,
    `${seconds} s at ${formatRate(rateBps)} are ${packets} packets of each payload`,
    `choose --seconds, --rate and --payload so that they are 1 to ${packetsMax}`,
  );
  return packets;
}

function readMeasure(host: string, given: Texts) {
  const payloads = parsePayloads(given.payload ?? PAYLOADS);
  const rateBps = parsePace(given.rate);
  check(rateBps !== undefined, "a rate of 0", "pace the packets below what the path carries");
  return {
    ...readEnd(given),
    to: { host, port: parsePort(given.port, 1) },
    payloads,
    leaveOut: given.payload === undefined,
    packets: readPackets(given, payloads, rateBps),
    rateBps,
  };
}

/** Exact: 1400 B is no round number of KiB. */
function payloadText(bytes: number): string {
  return bytes % 1024 === 0 ? formatSize(bytes) : `${bytes} B`;
}

const COLUMNS: readonly Column<SizeReport>[] = [
  { title: "payload\n", cell: ({ payloadBytes }) => payloadText(payloadBytes) },
  { title: "packets\nsent", cell: ({ fit }) => String(fit.packets) },
  { title: "\nlost", cell: ({ fit }) => String(fit.lost) },
  { title: "\nshare", cell: ({ fit }) => formatProbability(fit.loss) },
  {
    title: "95 % sure\n",
    cell: ({ fit }) => `${formatProbability(fit.lossLow)} to ${formatProbability(fit.lossHigh)}`,
  },
  {
    title: "mean\nburst",
    cell: ({ fit }) => (fit.lost === 0 ? "-" : fit.meanBurst.toPrecision(3)),
  },
  { title: "longest\nburst", cell: ({ fit }) => (fit.lost === 0 ? "-" : String(fit.longestBurst)) },
];

function reportText({ rtt, sizes, leftOut, link, bySize }: ProbeReport): string {
  const [min, median, p99, jitter] = [rtt.minNs, rtt.medianNs, rtt.p99Ns, rtt.jitterNs].map((ns) =>
    formatTime(ns),
  );
  const bursts = bySize
    ? "loss depends on the payload; bursts, which such a link cannot have, are in the table\n"
    : "";
  return (
    `round trip: least ${min}, median ${median}, p99 ${p99}, jitter ${jitter} ` +
    `(${rtt.samples} packets came back, ${rtt.lost} did not)\n\n` +
    `${renderTable(COLUMNS, sizes)}\n` +
    leftOut.map(({ payloadBytes, reason }) => `left out ${payloadBytes} B: ${reason}\n`).join("") +
    `${bursts}the link has no jitter: there every packet draws a delay of its own, and overtakes\n` +
    `--link "${formatLink(link)}"\n`
  );
}

function reportDocument(report: ProbeReport, to: object, rateBps: number): object {
  const { rtt, sizes, leftOut, link } = report;
  return {
    ...to,
    rateBps,
    link: formatLink(link),
    rtt,
    sizes: sizes.map(({ payloadBytes, fit }) => ({
      payloadBytes,
      packets: fit.packets,
      lost: fit.lost,
      loss: fit.loss,
      lossLow: fit.lossLow,
      lossHigh: fit.lossHigh,
      bursts: fit.bursts,
      meanBurst: fit.meanBurst,
      longestBurst: fit.longestBurst,
      link: formatLink(fit.link),
    })),
    leftOut,
  };
}

async function probe(host: string, given: Texts): Promise<void> {
  const settings = usage(() => readMeasure(host, given));
  const { packets, rateBps, json } = settings;
  /** How long it takes is told first. */
  const onConnected = (payloads: readonly number[]) => {
    if (json) return;
    const seconds = (packets * 8 * payloads.reduce((sum, bytes) => sum + bytes, 0)) / rateBps;
    note(
      `sending ${packets} packets of ${payloads.map(payloadText).join(", ")} at ${formatRate(rateBps)}: ` +
        `${formatTime(seconds * 1e9, 2)} and some round trips`,
    );
  };
  const report = await interruptible((signal) => measure({ ...settings, signal, onConnected }));
  if (given.out !== undefined) writeLink(given.out, report.link);
  if (json) printJson(reportDocument(report, settings.to, rateBps));
  else print(reportText(report));
}

async function listen(given: Texts): Promise<void> {
  const settings = usage(() => ({ ...readEnd(given), port: parsePort(given.port) }));
  const host = typeof given.listen === "string" ? given.listen : undefined;
  let probes = 0;
  await interruptible(async (signal) => {
    const server = await ProbeServer.open({
      ...settings,
      ...(host === undefined ? {} : { host }),
      onProbed: ({ peer, payloadBytes, packets, lost }) => {
        if (payloadBytes === undefined) return;
        probes++;
        note(`${peer}: ${lost} of ${packets} packets of ${payloadBytes} B lost`);
      },
      onFailed: (error, peer) => {
        const who = peer === "" ? "a peer" : peer;
        process.stderr.write(errorLine(new SdrError(error.code, `${who}: ${error.message}`, "")));
      },
    });
    note(`listening on ${host === undefined ? "" : `${host} `}port ${server.port}`);
    await server.run(signal);
  });
  if (settings.json) printJson({ probes });
}

async function run(host: string | undefined, options: Texts): Promise<void> {
  if (options.listen !== undefined) {
    usage(() => {
      const asked = [host, options.payload, options.packets, options.seconds, options.out];
      const nothing = asked.every((value) => value === undefined);
      check(nothing, "--listen only answers", "leave out the host and what is to be measured");
    });
    return listen(options);
  }
  usage(() => check(host !== undefined, "no host", "give one, or --listen"));
  return probe(host as string, options);
}

export function probeCommand(): Command {
  const command = new Command("probe")
    .description("measure a path: loss by payload, bursts, round trip; prints it as a link")
    .argument("[host]", "where sdr probe --listen runs")
    .option("--listen [address]", "answer probes, until a signal")
    .option("--port <port>", "TCP port of the listening end; 0 there takes a free one", PORT)
    .option("--payload <sizes>", `payloads of packets (default: ${PAYLOADS}, as the path takes)`)
    .option("--packets <number>", `packets of each payload (default: ${PACKETS})`)
    .option("--seconds <number>", "send for so long instead, all payloads together")
    .option("--rate <rate>", "send at this rate, below what the path carries", RATE)
    .option("--out <file>", "write the link's terms to a new file");
  return addEndOptions(command).action(run);
}
