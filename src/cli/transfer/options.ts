/** Options that send, recv and demo share, and their reading. */
import { type Command, Option } from "commander";
import type { LinkProfile } from "../../link/profile.ts";
import type { Context } from "../../sdk/context.ts";
import type { RendezvousPath } from "../../sdk/rendezvous-exchange.ts";
import { addDeviceOptions, type Device, openDevice, readRemoteDevice } from "../device.ts";
import {
  parseLinkOption,
  parsePace,
  parsePeerTimeout,
  parsePort,
  parseSeed,
  parseSizeWithin,
  parseWhole,
} from "../options.ts";
import { FILE_LIMITS } from "./file-protocol.ts";

const PEER_TIMEOUT = "5s";
const SECRET_VARIABLE = "SDR_SECRET";

/** Adds what both ends of a transfer know. */
export function addEndOptions(command: Command): Command {
  return command
    .addOption(new Option("--secret <text>", "both ends must have the same").env(SECRET_VARIABLE))
    .option("--link <link>", "impair what this end sends: a profile, or terms of tc-netem", "none")
    .option("--seed <number>", "seed of the impairments (default: drawn anew)")
    .option("--udp-port <port>", "first UDP port of this end (0: any free one)", "0")
    .option("--peer-timeout <time>", "a peer silent for so long is gone", PEER_TIMEOUT)
    .option("--json", "print one JSON document on stdout");
}

/** Adds those, and the device. */
export function addTransferOptions(command: Command): Command {
  return addDeviceOptions(addEndOptions(command));
}

/** Adds what the sending end decides for both. */
export function addShapeOptions(command: Command): Command {
  return command
    .option("--packet <size>", "payload of a packet (default: what the path takes)")
    .option("--chunk <size>", "one bit of the bitmap, whole packets (default: about 64KiB)")
    .option("--segment <size>", "bytes of one message (default: 64MiB)")
    .option("--channels <number>", "UDP sockets and threads on each end", "1")
    .option("--rate <rate>", "pace data to this rate (default: no limit)");
}

export interface EndSettings {
  readonly secret: string | undefined;
  readonly link: LinkProfile;
  readonly seed: number | undefined;
  readonly udpPort: number;
  readonly peerTimeoutNs: number;
  readonly json: boolean;
}

type Texts = Readonly<Record<string, string | undefined>> & { readonly json?: boolean };

export function readEnd(options: object): EndSettings {
  const texts = options as Texts;
  return {
    secret: texts.secret,
    link: parseLinkOption(texts.link ?? "none"),
    seed: texts.seed === undefined ? undefined : parseSeed(texts.seed),
    udpPort: parsePort(texts.udpPort ?? "0"),
    peerTimeoutNs: parsePeerTimeout(texts.peerTimeout ?? PEER_TIMEOUT),
    json: texts.json === true,
  };
}

export interface TransferSettings extends EndSettings {
  readonly device: Device;
}

export function readTransfer(options: object): TransferSettings {
  return { ...readEnd(options), device: readRemoteDevice(options) };
}

const UDP: Device = { kind: "udp", name: "udp" };

/** This end's context; over UDP bound to the address that the peer reaches it by. */
export function openContext(
  { localAddress, channels }: RendezvousPath,
  {
    udpPort,
    link,
    seed,
    device = UDP,
  }: Pick<EndSettings, "udpPort" | "link"> & Partial<Pick<TransferSettings, "seed" | "device">>,
): Context {
  return openDevice(device, { localAddress, channels, udpPort, link, seed });
}

export interface ShapeSettings {
  readonly packetBytes: number | undefined;
  readonly chunkBytes: number | undefined;
  readonly segmentBytes: number;
  readonly channels: number;
  readonly rateBps: number | undefined;
}

export function readShape(options: object, segmentBytes: number): ShapeSettings {
  const texts = options as Texts;
  const { segmentBytesMin, segmentBytesMax, channelsMax } = FILE_LIMITS;
  const size = (name: string, text: string | undefined, least: number, most: number) =>
    text === undefined ? undefined : parseSizeWithin(name, text, least, most);
  return {
    packetBytes: size("packet", texts.packet, 512, 65_000),
    chunkBytes: size("chunk", texts.chunk, 512, 2 ** 30),
    segmentBytes: size("segment", texts.segment, segmentBytesMin, segmentBytesMax) ?? segmentBytes,
    channels: parseWhole("channels", texts.channels ?? "1", 1, channelsMax),
    rateBps: texts.rate === undefined ? undefined : parsePace(texts.rate),
  };
}
