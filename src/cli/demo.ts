/** sdr demo: a real file from this process to another, over UDP through an injected WAN, once with each policy. */
import { type ChildProcess, fork } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { check, SdrError } from "../base/errors.ts";
import { formatSize } from "../base/units.ts";
import { describeLink, formatLink, type LinkProfile, rttNs } from "../link/profile.ts";
import type { Policy } from "../reliability/policy.ts";
import { POLICIES } from "../reliability/registry.ts";
import { type TransferRow, transferTable } from "../report/transfer.ts";
import { fileError, toSdrError, usage } from "./failure.ts";
import { collect, parseLinkOption, parsePolicies, parseSeed } from "./options.ts";
import { interruptible, note, print, printJson } from "./terminal.ts";
import { FILE_LIMITS } from "./transfer/file-protocol.ts";
import { type SendFileReport, sendFile } from "./transfer/file-send.ts";
import { checkName } from "./transfer/file-sink.ts";
import { FileSource } from "./transfer/file-source.ts";
import { readShape, type ShapeSettings } from "./transfer/options.ts";
import { goodputBps, overhead } from "./transfer/send.ts";

const HOST = "127.0.0.1";
const LINK = "demo-wan";
const PEER_TIMEOUT = "10s";
/** Before every payload on the wire. */
const HEADER_BYTES = 24;
const KILL_AFTER_MS = 5000;

interface Settings extends ShapeSettings {
  readonly file: string | undefined;
  readonly link: LinkProfile;
  readonly linkText: string;
  readonly policies: Policy[];
  readonly seed: number;
  readonly json: boolean;
}

function read(options: object): Settings {
  const given = options as {
    file?: string;
    link: string;
    policy?: string[];
    seed: string;
    json?: true;
  };
  const policies = parsePolicies(given.policy ?? POLICIES.map(({ name }) => name));
  const names = new Set(policies.map(({ name }) => name));
  check(names.size === policies.length, "a policy is given twice", "give each once");
  return {
    ...readShape(options, FILE_LIMITS.segmentBytesMax),
    file: given.file,
    link: parseLinkOption(given.link),
    linkText: given.link,
    policies,
    seed: parseSeed(given.seed),
    json: given.json === true,
  };
}

/** The receiving process: sdr recv, whose port arrives over the channel between the two. */
async function startReceiver(
  folder: string,
  settings: Settings,
  signal: AbortSignal,
): Promise<{ child: ChildProcess; port: number }> {
  const main = fileURLToPath(new URL("./main.js", import.meta.url));
  const args = ["recv", "0", "--host", HOST, "--out", folder, "--keep", "--child"];
  const impaired = [
    "--link",
    settings.linkText,
    "--seed",
    String(settings.seed + 1),
    "--peer-timeout",
    PEER_TIMEOUT,
  ];
  // Its errors pass through a pipe, which is no terminal: one progress bar is enough.
  const child = fork(main, [...args, ...impaired], {
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  child.stderr?.pipe(process.stderr);
  const gone = once(child, "exit").then(([status]) => {
    throw new SdrError(
      "ENVIRONMENT",
      `the receiving process ended with status ${status}`,
      "see its message above",
    );
  });
  gone.catch(() => {});
  try {
    const [message] = await Promise.race([once(child, "message", { signal }), gone]);
    return { child, port: (message as { port: number }).port };
  } catch (error) {
    child.kill("SIGKILL");
    throw signal.aborted ? toSdrError(signal.reason) : error;
  }
}

async function stopReceiver(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  const late = setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
  child.kill("SIGTERM");
  await exited;
  clearTimeout(late);
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

/** Serialisation of the file's packets with their headers at the link's rate, and one round trip. */
function idealNs(report: SendFileReport, link: LinkProfile): number | null {
  if (!link.rateBps) return null;
  const packets = Math.max(1, Math.ceil(report.bytes / report.packetBytes));
  const wireBytes = report.bytes + packets * (HEADER_BYTES + (link.packetOverheadBytes ?? 0));
  return Math.round((wireBytes * 8e9) / link.rateBps + rttNs(link, link));
}

function toRow(report: SendFileReport, link: LinkProfile, verdict: string): TransferRow {
  const { sent, received } = report;
  const ideal = idealNs(report, link);
  return {
    policy: report.policy,
    completionNs: report.completionNs,
    idealNs: ideal,
    slowdown: ideal === null ? null : report.completionNs / ideal,
    goodputBps: goodputBps(report),
    overhead: overhead(report),
    dropped: sent.dropped + received.dropped,
    duplicated: sent.duplicated + received.duplicated,
    reordered: sent.reordered + received.reordered,
    chunksRetransmitted: report.chunksRetransmitted,
    parityChunks: report.parityChunks,
    fallbacks: report.fallbacks,
    controlFrames: sent.controlFrames + received.controlFrames,
    verdict,
  };
}

interface Run {
  readonly settings: Settings;
  readonly source: FileSource;
  readonly sha256: string;
  readonly out: string;
  readonly port: number;
  readonly signal: AbortSignal;
}

/** One policy: the file is sent, read back from the disk and compared, and taken away. */
async function runPolicy(
  policy: Policy,
  { settings, source, sha256, out, port, signal }: Run,
): Promise<TransferRow> {
  const name = checkName(`${basename(source.path)}.${policy.name}`);
  const report = await sendFile(source, {
    ...settings,
    to: { host: HOST, port },
    name,
    policy,
    udpPort: 0,
    peerTimeoutNs: 10e9,
    signal,
    label: policy.name.padEnd(12),
  });
  const path = join(out, name);
  const arrived = await sha256Of(path).catch((error: unknown) => {
    throw fileError(path, error);
  });
  await rm(path);
  const intact = arrived === sha256 && report.sha256 === sha256;
  return toRow(report, settings.link, intact ? "intact" : "DIFFERS");
}

async function runAll(settings: Settings, folder: string, signal: AbortSignal): Promise<boolean> {
  const { link, linkText, policies, json } = settings;
  const path = settings.file ?? join(folder, "node");
  if (settings.file === undefined) await copyFile(process.execPath, path);
  const out = await mkdtemp(join(folder, "out-"));
  const source = await FileSource.open(path);
  const sha256 = await sha256Of(path);
  const what = settings.file ?? "a copy of the node executable";
  if (!json) {
    note(`${what}, ${formatSize(source.bytes)}, from this process to another over UDP on ${HOST}`);
    note(`each direction through ${linkText}: ${describeLink(link)}`);
  }
  const { child, port } = await startReceiver(out, settings, signal);
  const rows: TransferRow[] = [];
  try {
    for (const policy of policies) {
      rows.push(await runPolicy(policy, { settings, source, sha256, out, port, signal }));
    }
  } finally {
    await source.close();
    await stopReceiver(child);
  }
  const file = { name: basename(path), bytes: source.bytes, sha256 };
  if (json)
    printJson({
      file,
      link: formatLink(link),
      rttNs: rttNs(link, link),
      seed: settings.seed,
      results: rows,
    });
  else print(`${transferTable(rows)}SHA-256 of every copy, read back from disk: ${sha256}\n`);
  return rows.every(({ verdict }) => verdict === "intact");
}

async function run(options: object): Promise<void> {
  const settings = usage(() => read(options));
  await interruptible(async (signal) => {
    const folder = await mkdtemp(join(tmpdir(), "sdr-demo-"));
    try {
      const intact = await runAll(settings, folder, signal);
      if (!intact) throw new SdrError("INTEGRITY", "a copy differs from the file", "report this");
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

export function demoCommand(): Command {
  return new Command("demo")
    .description(
      "carry a file between two processes over UDP through an injected WAN, once with each policy",
    )
    .option("--file <file>", "what to carry (default: a copy of the node executable)")
    .option("--link <link>", "each direction's impairments: a profile, or terms of tc-netem", LINK)
    .option("--policy <policy>", "only this policy; may be given several times", collect)
    .option("--seed <number>", "seed of the impairments", "1")
    .option("--packet <size>", "payload of a packet (default: what the path takes)")
    .option("--chunk <size>", "one bit of the bitmap, whole packets (default: about 64KiB)")
    .option("--json", "print one JSON document on stdout")
    .action(run);
}
