/** sdr perf [HOST] */
import { Command } from "commander";
import { check, type SdrError } from "../../base/errors.ts";
import { parseTime } from "../../base/units.ts";
import { formatLink } from "../../link/profile.ts";
import { type Device, type DeviceTexts, readDevice, tryDevice } from "../device.ts";
import { errorLine, usage } from "../failure.ts";
import { parsePort, parseSizeWithin, parseWhole } from "../options.ts";
import { interruptible, note, print, printJson } from "../terminal.ts";
import { addEndOptions, readEnd, type TransferSettings } from "../transfer/options.ts";
import { Client } from "./client.ts";
import { checkLocal, runLocal } from "./local.ts";
import { integrityError } from "./receive.ts";
import type { RunResult } from "./result.ts";
import { PerfServer } from "./server.ts";
import { checkShape, PERF_LIMITS, RAW, type RunShape } from "./shape.ts";
import { dropLine, headerLine, rowLine, type TextOptions } from "./text.ts";

/** perftest's. */
const PORT = "18515";
const SIZE = "64KiB";
const ITERATIONS = "1000";
const DEPTH = "16";
const VERIFY_EVERY = "16";
/** Of -a: as perftest's. */
const ALL_FROM_LOG = 1;
const ALL_TO_LOG = 23;

type Texts = DeviceTexts & Readonly<Record<string, string | boolean | undefined>>;

interface Settings extends TransferSettings, TextOptions {
  readonly port: number;
  readonly shapes: readonly RunShape[];
}

function text(options: Texts, name: string): string | undefined {
  const value = options[name];
  return typeof value === "string" ? value : undefined;
}

/** Comma-separated values of an option; undefined when it was not given. */
function list<T>(options: Texts, name: string, read: (value: string) => T): T[] | undefined {
  return text(options, name)
    ?.split(",")
    .map((one) => read(one.trim()));
}

/** perftest's -D takes seconds. */
function readDuration(given: string): number {
  const ns = /^\d+(\.\d+)?$/.test(given) ? Number(given) * 1e9 : parseTime(given, "duration");
  check(
    ns >= 1e6 && ns <= PERF_LIMITS.durationNsMax,
    `duration "${given}" is not valid`,
    "use 1ms to 3600s; a bare number is seconds",
  );
  return Math.round(ns);
}

/** Undefined: what the path takes. For RDMA devices -m is the path's MTU, which is the packet's size too. */
function readPacket(options: Texts): number | undefined {
  const mtu = text(options, "mtu");
  return mtu === undefined ? undefined : parseSizeWithin("mtu", mtu, 64, 65_000);
}

function readShapes(options: Texts, device: Device): RunShape[] {
  const { bytesMax, iterationsMax, queuePairsMax, depthMax, channelsMax } = PERF_LIMITS;
  const readBytes = (value: string) => parseSizeWithin("size", value, 1, bytesMax);
  const readChunk = (value: string) => parseSizeWithin("chunk", value, 64, 2 ** 30);
  const readChannels = (value: string) => parseWhole("channels", value, 1, channelsMax);
  const duration = text(options, "duration");
  const iterations = text(options, "iters");
  check(
    duration === undefined || iterations === undefined,
    "both --iters and --duration are given",
    "give one of them",
  );
  const all = Array.from(
    { length: ALL_TO_LOG - ALL_FROM_LOG + 1 },
    (_, i) => 2 ** (ALL_FROM_LOG + i),
  );
  const sizes = options.all === true ? all : [readBytes(text(options, "size") ?? SIZE)];
  const chunk = text(options, "chunk");
  const chunks = list(options, "sweepChunk", readChunk) ?? [
    chunk === undefined ? undefined : readChunk(chunk),
  ];
  const channelCounts = list(options, "sweepChannels", readChannels) ?? [
    readChannels(text(options, "channels") ?? "1"),
  ];
  check(
    device.kind !== "emu" || channelCounts.every((count) => count === 1),
    "virtual time has no threads to have several channels",
    "leave out --channels and --sweep-channels",
  );
  const common = {
    iterations:
      duration === undefined
        ? parseWhole("iters", iterations ?? ITERATIONS, 1, iterationsMax)
        : undefined,
    durationNs: duration === undefined ? undefined : readDuration(duration),
    queuePairs: parseWhole("qp", text(options, "qp") ?? "1", 1, queuePairsMax),
    depth: parseWhole("tx-depth", text(options, "txDepth") ?? DEPTH, 1, depthMax),
    packetBytes: readPacket(options),
    policy: text(options, "policy") ?? RAW,
    both: options.bidirectional === true,
    verifyEvery: parseWhole(
      "verify-every",
      text(options, "verifyEvery") ?? VERIFY_EVERY,
      0,
      iterationsMax,
    ),
  };
  const shapes = channelCounts.flatMap((channels) =>
    chunks.flatMap((chunkBytes) =>
      sizes.map((bytes): RunShape => ({ ...common, channels, chunkBytes, bytes })),
    ),
  );
  const { runsMax } = PERF_LIMITS;
  check(
    shapes.length <= runsMax,
    `${shapes.length} runs are too many`,
    `ask for at most ${runsMax}`,
  );
  shapes.forEach(checkShape);
  return shapes;
}

function readPerf(options: Texts): Settings {
  const device = readDevice(options);
  const settings = {
    ...readEnd(options),
    device,
    gbits: options.report_gbits === true,
    port: parsePort(text(options, "port") ?? PORT),
    shapes: readShapes(options, device),
  };
  if (device.kind === "emu" || device.kind === "dpa") checkLocal(settings);
  return settings;
}

/** Rows as they come, or all of them as one document. */
class Printer {
  readonly results: RunResult[] = [];
  private readonly settings: Settings;

  constructor(settings: Settings) {
    this.settings = settings;
  }

  add(result: RunResult): void {
    this.results.push(result);
    const { json } = this.settings;
    if (json) return;
    if (this.results.length === 1) print(this.head(result));
    print(`${rowLine(result, this.settings)}\n`);
    const drops = dropLine(result);
    if (drops !== undefined) print(`${drops}\n`);
  }

  private head(result: RunResult): string {
    const { device } = this.settings;
    const time = result.virtualTime ? ", virtual time" : "";
    const rule = "-".repeat(headerLine(this.settings).length);
    const policy = result.policy === RAW ? "no policy: every chunk once" : result.policy;
    return (
      `${rule}\n` +
      ` device ${device.name} (${result.transport}${time}), packets of ${result.packetBytes} B, ` +
      `${result.queuePairs} QP, ${result.depth} messages in flight each, ${policy}` +
      `${result.bidirectional ? ", both directions added" : ""}\n` +
      `${rule}\n${headerLine(this.settings)}\n`
    );
  }

  /** Errors: INTEGRITY. */
  end(): void {
    const { device, json, link } = this.settings;
    if (json)
      printJson({
        device: device.name,
        kind: device.kind,
        link: formatLink(link),
        runs: this.results,
      });
    const corrupt = this.results.reduce((sum, result) => sum + result.corrupt, 0);
    const verified = this.results.reduce((sum, result) => sum + result.verified, 0);
    if (corrupt > 0) throw integrityError(corrupt, verified);
  }
}

async function measure(settings: Settings, host: string | undefined): Promise<void> {
  const printer = new Printer(settings);
  const { shapes, port, device } = settings;
  await interruptible(async (signal) => {
    const client =
      host === undefined ? undefined : new Client({ ...settings, to: { host, port }, signal });
    for (const [index, shape] of shapes.entries()) {
      signal.throwIfAborted();
      const last = index === shapes.length - 1;
      printer.add(
        client === undefined
          ? await runLocal(shape, { ...settings, device, signal })
          : await client.run(shape, last),
      );
    }
  });
  printer.end();
}

async function serve(settings: Settings, keep: boolean, host: string | undefined): Promise<void> {
  const printer = new Printer(settings);
  await interruptible(async (signal) => {
    const server = await PerfServer.open({
      ...settings,
      host,
      onResult: (result) => printer.add(result),
      onRefused: (error, peer) => complain(error, peer),
      onFailed: (error) => complain(error, ""),
    });
    note(`listening on ${host === undefined ? "" : `${host} `}port ${server.port}`);
    await server.serve(signal, keep);
  });
  printer.end();
}

function complain(error: SdrError, peer: string): void {
  process.stderr.write(
    peer === "" ? errorLine(error) : errorLine(error).replace("sdr: ", `sdr: ${peer}: `),
  );
}

async function run(host: string | undefined, options: Texts): Promise<void> {
  const settings = usage(() => readPerf(options));
  const { kind, name } = settings.device;
  if (kind === "emu" || kind === "dpa") {
    usage(() => {
      const alone = host === undefined && options.keep !== true;
      check(alone, `${name} has both ends in this process`, "leave out the host and --keep");
    });
    return measure(settings, undefined);
  }
  usage(() =>
    check(
      host === undefined || settings.port > 0,
      "port 0 is nobody's",
      "give the server's --port",
    ),
  );
  tryDevice(settings.device);
  if (host === undefined) return serve(settings, options.keep === true, text(options, "host"));
  return measure(settings, host);
}

export function perfCommand(): Command {
  const command = new Command("perf")
    .description("bandwidth and packet rates in the manner of ib_write_bw, and what arrived")
    .argument("[host]", "where sdr perf runs without a host, as the server")
    .option("-d, --device <name>", "udp, udp:ADDRESS, emu, dpa, or an RDMA device", "udp")
    .option("-i, --ib-port <number>", "port of the RDMA device (default: the first active one)")
    .option("-x, --gid-index <number>", "GID of that port (default: chosen, RoCE v2 first)")
    .option("-p, --port <port>", "TCP port of the server", PORT)
    .option("-s, --size <size>", `bytes of a message (default: ${SIZE})`)
    .option("-a, --all", "sizes from 2 B to 8 MiB")
    .option("-n, --iters <number>", `messages a queue pair (default: ${ITERATIONS})`)
    .option("-D, --duration <seconds>", "run for so long instead")
    .option("-q, --qp <number>", "queue pairs", "1")
    .option("-t, --tx-depth <number>", "messages in flight, a queue pair", DEPTH)
    .option("-b, --bidirectional", "both ends send")
    .option("-m, --mtu <bytes>", "bytes of a packet, and an RDMA device's path MTU")
    .option("-c, --chunk <size>", "one bit of the bitmap (default: about 64KiB)")
    .option("--channels <number>", "channels, each with a worker thread", "1")
    .option("--policy <policy>", "none, or a reliability policy", RAW)
    .option("--sweep-channels <numbers>", "one run for each: 1,2,4")
    .option("--sweep-chunk <sizes>", "one run for each: 4KiB,16KiB,64KiB")
    .option("--verify-every <number>", "compare every so-manieth message; 0: none", VERIFY_EVERY)
    .option("--report_gbits", "Gbit/s in place of MiB/s")
    .option("--host <address>", "address for the server to listen on (default: all)")
    .option("--keep", "as a server go on after the first client, until a signal");
  return addEndOptions(command).action(run);
}
