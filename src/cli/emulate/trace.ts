/** sdr trace: the life of one message over an emulated link, event by event. */
import { Command } from "commander";
import { SdrError } from "../../base/errors.ts";
import { formatSize, formatTime } from "../../base/units.ts";
import { describeLink, formatLink } from "../../link/profile.ts";
import type { Policy } from "../../reliability/policy.ts";
import { parsePolicy } from "../../reliability/registry.ts";
import { MessageTrace, TRACE_KINDS, type TraceEvent } from "../../report/trace.ts";
import { Context } from "../../sdk/context.ts";
import { MemoryRegion } from "../../sdk/region.ts";
import { reliableReceive, reliableWrite } from "../../sdk/reliable.ts";
import { EmulatedWorld, PACKET_RECORDS_MAX } from "../../transport/emulated.ts";
import { fileError, usage } from "../failure.ts";
import { type PathTexts, parseSeed, readPath } from "../options.ts";
import { note, print, printJson } from "../terminal.ts";
import { version } from "../version.ts";
import { attributes, checkSetting, type TrialSetting, trialSeed } from "./trial.ts";

/** A larger message's picture would show nothing of its packets. */
const MESSAGE_BYTES_MAX = 2 ** 33;

interface Texts extends PathTexts {
  readonly policy: string;
  readonly seed: string;
  readonly out?: string;
  readonly png?: string;
  readonly json?: true;
}

interface Settings {
  readonly setting: TrialSetting;
  readonly policy: Policy;
  readonly out: string | undefined;
  readonly png: string | undefined;
  readonly json: boolean;
}

function read(given: Texts): Settings {
  const setting: TrialSetting = {
    ...readPath(given, MESSAGE_BYTES_MAX),
    seed: parseSeed(given.seed),
  };
  const policy = parsePolicy(given.policy);
  checkSetting(setting, [policy]);
  const { out, png, json = false } = given;
  return { setting, policy, out, png, json };
}

export interface TracedMessage {
  readonly completionNs: number;
  readonly events: readonly TraceEvent[];
}

/** The first trial of `sdr emulate` with the same setting, watched. */
export async function traceMessage(setting: TrialSetting, policy: Policy): Promise<TracedMessage> {
  const { bytes, packetBytes, chunkBytes, forward, reverse, seed } = setting;
  const world = new EmulatedWorld({ seed: trialSeed(seed, 0) });
  const here = Context.emulated(world, forward);
  const there = Context.emulated(world, reverse);
  try {
    const shape = attributes(setting, policy);
    const [sender, receiver] = [here.createQueuePair(shape), there.createQueuePair(shape)];
    await world.run(
      Promise.all([sender.connect(receiver.info()), receiver.connect(sender.info())]),
    );
    const trace = new MessageTrace();
    const watched = trace.watch(policy);
    world.recordPackets();
    const [, { completionNs }] = await world.run(
      Promise.all([
        reliableReceive(receiver, MemoryRegion.phantom(bytes), watched),
        reliableWrite(sender, MemoryRegion.phantom(bytes), watched),
      ]),
    );
    const records = world.takeRecords();
    if (records.length === PACKET_RECORDS_MAX)
      throw new SdrError(
        "TOO_LARGE",
        `more than ${PACKET_RECORDS_MAX} packets were sent`,
        "trace a smaller message, or with larger packets",
      );
    const chunkCount = Math.ceil(bytes / chunkBytes);
    const events = trace.events(records, { packetsPerChunk: chunkBytes / packetBytes, chunkCount });
    return { completionNs, events };
  } finally {
    here.close();
    there.close();
    world.close();
  }
}

function countsOf(events: readonly TraceEvent[]): string {
  const counts = TRACE_KINDS.map((kind) => [kind, events.filter((e) => e.kind === kind).length]);
  return counts
    .filter(([, count]) => count !== 0)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(", ");
}

/** The picture as a page, and as an image. */
async function draw(settings: Settings, { completionNs, events }: TracedMessage): Promise<void> {
  const { setting, policy, out, png } = settings;
  const chunkCount = Math.ceil(setting.bytes / setting.chunkBytes);
  // Vega takes a while to load.
  const { traceChart, tracePage } = await import("../../report/trace-chart.ts");
  const { pageOf, writeWhole } = await import("../../report/html.ts");
  if (out !== undefined) {
    const size = formatSize(setting.bytes);
    const page = tracePage(events, {
      chunkCount,
      title: `${size} with ${policy.name}`,
      subtitle: `one message over ${describeLink(setting.forward)}`,
      facts: [
        ["completion time", formatTime(completionNs)],
        ["message", `${size} in ${chunkCount} chunks of ${formatSize(setting.chunkBytes)}`],
        ["packets", formatSize(setting.packetBytes)],
        ["link", formatLink(setting.forward)],
        ["way back", formatLink(setting.reverse)],
        ["seed", String(setting.seed)],
        ["version", version()],
      ],
    });
    await write(out, () => writeWhole(out, pageOf(page)));
  }
  if (png !== undefined) {
    const { chartPng } = await import("../../report/png.ts");
    const image = await chartPng(traceChart(events, { id: "trace", chunkCount }));
    await write(png, () => writeWhole(png, image));
  }
}

async function write(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw fileError(path, error);
  }
}

async function run(options: object): Promise<void> {
  const settings = usage(() => read(options as Texts));
  const { setting, policy, json } = settings;
  if (!json)
    note(`${formatSize(setting.bytes)} over ${describeLink(setting.forward)}, ${policy.name}`);
  const traced = await traceMessage(setting, policy);
  const { completionNs, events } = traced;
  await draw(settings, traced);
  if (json) printJson({ policy: policy.name, bytes: setting.bytes, completionNs, events });
  else print(`complete after ${formatTime(completionNs)}: ${countsOf(events)}\n`);
}

export function traceCommand(): Command {
  return new Command("trace")
    .description("one message's life over an emulated link: packets, losses, repairs, as a picture")
    .option("--size <size>", "the message", "16MiB")
    .option("--link <link>", "a profile, or terms of tc-netem", "wan-3750km loss 0.1%")
    .option("--reverse-link <link>", "the way back (default: the same link)")
    .option("--policy <policy>", "how losses are repaired", "sr-nack")
    .option("--seed <number>", "all randomness comes from it", "1")
    .option("--packet <size>", "payload of a packet", "4KiB")
    .option("--chunk <size>", "one bit of the bitmap, whole packets", "64KiB")
    .option("--out <file>", "write the picture as a page that opens from disk")
    .option("--png <file>", "write it as an image")
    .option("--json", "print one JSON document on stdout: all events")
    .action(run);
}
