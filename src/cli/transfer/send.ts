/** sdr send FILE HOST:PORT */
import { basename } from "node:path";
import { Command } from "commander";
import { formatRate, formatSize, formatTime } from "../../base/units.ts";
import { POLICIES, parsePolicy } from "../../reliability/registry.ts";
import { tryDevice } from "../device.ts";
import { usage } from "../failure.ts";
import { parseEndpoint } from "../options.ts";
import { interruptible, print, printJson } from "../terminal.ts";
import { FILE_LIMITS } from "./file-protocol.ts";
import { type SendFileReport, sendFile } from "./file-send.ts";
import { checkName } from "./file-sink.ts";
import { FileSource } from "./file-source.ts";
import { addShapeOptions, addTransferOptions, readShape, readTransfer } from "./options.ts";

const POLICY_NAMES = POLICIES.map(({ name }) => name).join(", ");

/** A report's figures under the names of the JSON output. */
function sendDocument(file: string, peer: string, report: SendFileReport): object {
  const { sent, received } = report;
  return {
    file,
    peer,
    bytes: report.bytes,
    sha256: report.sha256,
    policy: report.policy,
    packetBytes: report.packetBytes,
    chunkBytes: report.chunkBytes,
    chunks: report.chunks,
    segments: report.segments,
    rttNs: report.rttNs,
    completionNs: report.completionNs,
    goodputBps: goodputBps(report),
    overhead: overhead(report),
    chunksRetransmitted: report.chunksRetransmitted,
    timeouts: report.timeouts,
    parityChunks: report.parityChunks,
    fallbacks: report.fallbacks,
    sent,
    received,
  };
}

export function goodputBps({ bytes, completionNs }: SendFileReport): number {
  return completionNs === 0 ? 0 : Math.round((bytes * 8e9) / completionNs);
}

/** What both ends sent beyond the file itself, as a share of it. */
export function overhead({ bytes, sent, received }: SendFileReport): number {
  return bytes === 0 ? 0 : (sent.wireBytes + received.wireBytes) / bytes - 1;
}

async function run(file: string, to: string, options: object): Promise<void> {
  const settings = usage(() => ({
    ...readTransfer(options),
    ...readShape(options, FILE_LIMITS.segmentBytes),
    to: parseEndpoint(to),
    policy: parsePolicy((options as { policy: string }).policy),
  }));
  const name = checkName(basename(file));
  tryDevice(settings.device);
  const source = await FileSource.open(file);
  try {
    const report = await interruptible((signal) =>
      sendFile(source, { ...settings, name, label: name, signal }),
    );
    if (settings.json) return printJson(sendDocument(file, to, report));
    const rate = formatRate(goodputBps(report), 3);
    print(
      `sent ${file} (${formatSize(report.bytes)}) to ${to} in ${formatTime(report.completionNs)}, ${rate}, ` +
        `${report.policy}, ${report.chunksRetransmitted} of ${report.chunks} chunks sent again\n` +
        `SHA-256 ${report.sha256}, the same on both ends\n`,
    );
  } finally {
    await source.close();
  }
}

export function sendCommand(): Command {
  const command = new Command("send")
    .description("send a file to a waiting sdr recv")
    .argument("<file>", "the file to send")
    .argument("<host:port>", "where sdr recv listens; an IPv6 address in brackets")
    .option("--policy <policy>", `reliability policy: ${POLICY_NAMES}`, "sr-nack");
  return addShapeOptions(addTransferOptions(command)).action(run);
}
