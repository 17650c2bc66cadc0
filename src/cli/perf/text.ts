/** A run's figures as lines of text, in perftest's columns and then in ours. */
import type { RunResult } from "./result.ts";

export interface TextOptions {
  /** Gbit/s in place of MiB/s. */
  readonly gbits: boolean;
}

interface Column {
  readonly title: string;
  cell(result: RunResult, options: TextOptions): string;
}

const MIB_BITS = 8 * 2 ** 20;

function rate(bps: number | null, { gbits }: TextOptions): string {
  if (bps === null) return "-";
  return gbits ? (bps / 1e9).toFixed(2) : (bps / MIB_BITS).toFixed(2);
}

function millions(perSecond: number | null): string {
  return perSecond === null ? "-" : (perSecond / 1e6).toFixed(6);
}

function share(value: number | null): string {
  return value === null ? "-" : (value * 100).toFixed(1);
}

function totalDrops({ drops }: RunResult): number {
  return Object.values(drops).reduce((sum, count) => sum + count, 0);
}

function columns({ gbits }: TextOptions): Column[] {
  const unit = gbits ? "Gb/sec" : "MiB/sec";
  return [
    { title: " #bytes", cell: ({ bytes }) => ` ${bytes}` },
    { title: "#iterations", cell: ({ iterations }) => `${iterations}` },
    { title: `BW peak[${unit}]`, cell: ({ peakBps }, options) => rate(peakBps, options) },
    { title: `BW average[${unit}]`, cell: ({ averageBps }, options) => rate(averageBps, options) },
    { title: "MsgRate[Mpps]", cell: ({ messagesPerSecond }) => millions(messagesPerSecond) },
    { title: `goodput[${unit}]`, cell: ({ goodputBps }, options) => rate(goodputBps, options) },
    { title: "packets[Mpps]", cell: ({ packetsPerSecond }) => millions(packetsPerSecond) },
    {
      title: "busy[%] tx/rx",
      cell: ({ senderBusy, receiverBusy }) => `${share(senderBusy)}/${share(receiverBusy)}`,
    },
    { title: "incomplete", cell: ({ incomplete }) => `${incomplete}` },
    { title: "dropped", cell: (result) => `${totalDrops(result)}` },
    {
      title: "verified",
      cell: ({ verified, corrupt }) => (corrupt > 0 ? `${corrupt} BAD` : `${verified} ok`),
    },
    { title: "chunk", cell: ({ chunkBytes }) => `${chunkBytes}` },
    { title: "channels", cell: ({ channels }) => `${channels}` },
  ];
}

export function headerLine(options: TextOptions): string {
  return columns(options)
    .map(({ title }) => title.padEnd(widthOf(title)))
    .join(" ")
    .trimEnd();
}

export function rowLine(result: RunResult, options: TextOptions): string {
  return columns(options)
    .map(({ title, cell }) => cell(result, options).padEnd(widthOf(title)))
    .join(" ")
    .trimEnd();
}

function widthOf(title: string): number {
  return Math.max(10, title.length);
}

/** "linkDropped 12, late 3": why packets were lost or not taken; undefined when none was. */
export function dropLine({ bytes, drops, missingChunks }: RunResult): string | undefined {
  const named = Object.entries(drops).filter(([, count]) => count > 0);
  if (named.length === 0 && missingChunks === 0) return undefined;
  const reasons = named.map(([name, count]) => `${name} ${count}`);
  if (missingChunks > 0) reasons.push(`chunks missing ${missingChunks}`);
  return `   of ${bytes} B messages: ${reasons.join(", ")}`;
}
