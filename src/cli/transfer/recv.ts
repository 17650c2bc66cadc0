/** sdr recv PORT */
import { stat } from "node:fs/promises";
import { Command, Option } from "commander";
import { SdrError } from "../../base/errors.ts";
import { formatSize } from "../../base/units.ts";
import { listen, type RendezvousServer } from "../../sdk/rendezvous.ts";
import type { Connection } from "../../sdk/rendezvous-exchange.ts";
import { checkPeerKind, tryDevice } from "../device.ts";
import { errorLine, fileError, toSdrError, usage } from "../failure.ts";
import { parsePort } from "../options.ts";
import { interruptible, note, print, printJson } from "../terminal.ts";
import { decodeOffer, FILE_LIMITS, messageBytes } from "./file-protocol.ts";
import { type ReceiveFileReport, receiveFile } from "./file-receive.ts";
import { checkRoom } from "./file-sink.ts";
import { addTransferOptions, openContext, readTransfer, type TransferSettings } from "./options.ts";

interface Settings extends TransferSettings {
  readonly port: number;
  readonly host: string | undefined;
  readonly folder: string;
  readonly force: boolean;
  readonly keep: boolean;
  /** Spoken to by a parent process over its channel: tells the port, ends when the parent does. */
  readonly child: boolean;
}

function read(port: string, options: object): Settings {
  const given = options as { out: string; host?: string; force?: true; keep?: true; child?: true };
  return {
    ...readTransfer(options),
    port: parsePort(port),
    host: given.host,
    folder: given.out,
    force: given.force === true,
    keep: given.keep === true,
    child: given.child === true,
  };
}

async function checkFolder(folder: string): Promise<void> {
  const status = await stat(folder).catch((error: unknown) => {
    throw fileError(folder, error);
  });
  if (!status.isDirectory())
    throw new SdrError("FILE", `${folder} is not a folder`, "give a folder");
}

function open(settings: Settings): Promise<RendezvousServer> {
  const { secret, peerTimeoutNs, folder, force, host, port } = settings;
  return listen((path) => openContext(path, settings), {
    port,
    ...(host === undefined ? {} : { host }),
    ...(secret === undefined ? {} : { secret }),
    attributes: { peerTimeoutNs },
    limits: {
      maxMessageBytes: FILE_LIMITS.segmentBytesMax,
      maxParityBytes: FILE_LIMITS.parityBytesMax,
      maxMessages: FILE_LIMITS.messages,
      channels: FILE_LIMITS.channelsMax,
    },
    // Refused here, before anything is sent, the sender learns why.
    meta: async (offered: unknown) => {
      const offer = decodeOffer(offered);
      checkPeerKind((offered as { device?: unknown }).device, settings.device);
      messageBytes(offer);
      await checkRoom({ folder, force, name: offer.name, bytes: offer.bytes });
      return { ok: true };
    },
    onRefused: (error, remote) => process.stderr.write(errorLine(withPeer(error, remote))),
  });
}

function withPeer(error: SdrError, remote: string): SdrError {
  return new SdrError(
    error.code,
    `${remote === "" ? "a peer" : remote} was refused: ${error.message}`,
    "",
  );
}

/** One file, or with --keep any number, one after the other, until a signal. */
async function serve(
  server: RendezvousServer,
  settings: Settings,
  signal: AbortSignal,
): Promise<ReceiveFileReport[]> {
  const { folder, force, keep, json } = settings;
  const reports: ReceiveFileReport[] = [];
  for (;;) {
    let connection: Connection;
    try {
      connection = await server.accept({ signal });
    } catch (error) {
      // With --keep a signal is the usual way to end.
      if (keep && signal.aborted) return reports;
      throw signal.aborted ? toSdrError(signal.reason) : error;
    }
    try {
      const report = await receiveFile(connection, { folder, force, signal });
      reports.push(report);
      if (!json)
        print(
          `received ${report.path} (${formatSize(report.bytes)}) from ${report.peer}, SHA-256 ${report.sha256}\n`,
        );
    } catch (error) {
      if (!keep) throw error;
      if (signal.aborted) return reports;
      process.stderr.write(errorLine(toSdrError(error)));
    }
    if (!keep) return reports;
  }
}

async function run(port: string, options: object): Promise<void> {
  const settings = usage(() => read(port, options));
  await checkFolder(settings.folder);
  tryDevice(settings.device);
  const reports = await interruptible(async (signal) => {
    const server = await open(settings);
    const where =
      settings.host === undefined ? `port ${server.port}` : `${settings.host} port ${server.port}`;
    if (settings.child) announce(server);
    else note(`listening on ${where}`);
    try {
      return await serve(server, settings, signal);
    } finally {
      await server.close();
      if (settings.child) process.disconnect?.();
    }
  });
  if (settings.json) printJson({ files: reports });
}

function announce(server: RendezvousServer): void {
  process.on("disconnect", () => process.kill(process.pid, "SIGTERM"));
  process.send?.({ port: server.port });
}

export function recvCommand(): Command {
  const command = new Command("recv")
    .description("receive a file from sdr send, or several with --keep")
    .argument("<port>", "TCP port to listen on; 0 takes a free one, and tells it")
    .option("--out <folder>", "where files go", ".")
    .option("--host <address>", "address to listen on (default: all)")
    .option("--force", "replace files that exist")
    .option("--keep", "go on after the first file, until a signal")
    .addOption(new Option("--child").hideHelp());
  return addTransferOptions(command).action(run);
}
