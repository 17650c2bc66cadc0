/**
 * What moves the packets: the --device option, and the context that it asks for. Commands know devices by this file
 * only; what a device can do is in its context's capabilities.
 */
import { isIP } from "node:net";
import type { Command } from "commander";
import { check, SdrError } from "../base/errors.ts";
import type { LinkProfile } from "../link/profile.ts";
import { Context } from "../sdk/context.ts";
import { parseSizeWithin, parseWhole } from "./options.ts";

/** Both ends of a connection must be of one kind; `emu` and `dpa` run both ends in one process. */
export type DeviceKind = "udp" | "verbs" | "emu" | "dpa";

export interface Device {
  readonly kind: DeviceKind;
  /** As it was given. */
  readonly name: string;
  /** udp: the local address, where it is not the one that the peer is reached from. */
  readonly address?: string;
  /** verbs: the port, the GID and the path MTU. Default: the first active one, one that is chosen, the active one. */
  readonly port?: number;
  readonly gidIndex?: number;
  readonly mtu?: number;
}

export const DEFAULT_DEVICE = "udp";

/** Of a kernel's RDMA device: rxe0, mlx5_0, roceP2p1s0f0. */
const VERBS_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const VERBS_MTUS = [256, 512, 1024, 2048, 4096];
const FORMS = "use udp, udp:ADDRESS or a device that sdr devices lists, such as mlx5_0";

/** Adds the options of a command whose two ends are two processes. */
export function addDeviceOptions(command: Command): Command {
  return command
    .option("-d, --device <name>", "udp, udp:ADDRESS, or an RDMA device (sdr devices)", "udp")
    .option("-i, --ib-port <number>", "port of the RDMA device (default: the first active one)")
    .option("-x, --gid-index <number>", "GID of that port (default: chosen, RoCE v2 first)")
    .option("-m, --mtu <bytes>", "path MTU of the RDMA device (default: the active one)");
}

export interface DeviceTexts {
  readonly device?: string;
  readonly ibPort?: string;
  readonly gidIndex?: string;
  readonly mtu?: string;
}

/** Errors: INVALID_ARGUMENT. */
export function readDevice({ device: name = "udp", ibPort, gidIndex, mtu }: DeviceTexts): Device {
  const device = parseDevice(name);
  if (device.kind !== "verbs") {
    for (const [option, value] of [["ib-port", ibPort] as const, ["gid-index", gidIndex] as const])
      check(value === undefined, `--${option} is of RDMA devices, not of ${name}`, "leave it out");
    return device;
  }
  return {
    ...device,
    ...(ibPort === undefined ? {} : { port: parseWhole("ib-port", ibPort, 1, 255) }),
    ...(gidIndex === undefined ? {} : { gidIndex: parseWhole("gid-index", gidIndex, 0, 65_535) }),
    ...(mtu === undefined ? {} : { mtu: parseMtu(mtu) }),
  };
}

function parseDevice(name: string): Device {
  if (name === "udp" || name === "emu" || name === "dpa") return { kind: name, name };
  if (name.startsWith("udp:")) {
    const address = name.slice(4).replace(/^\[(.*)\]$/, "$1");
    check(isIP(address) !== 0, `"${address}" of --device ${name} is not numeric`, FORMS);
    return { kind: "udp", name, address };
  }
  check(VERBS_NAME.test(name), `device "${name}" is not understood`, FORMS);
  return { kind: "verbs", name };
}

function parseMtu(text: string): number {
  const mtu = parseSizeWithin("mtu", text, VERBS_MTUS[0] as number, VERBS_MTUS.at(-1) as number);
  check(VERBS_MTUS.includes(mtu), `mtu "${text}" is not valid`, `use ${VERBS_MTUS.join(", ")}`);
  return mtu;
}

/** For commands whose ends are two processes. Errors: INVALID_ARGUMENT. */
export function readRemoteDevice(texts: DeviceTexts): Device {
  const device = readDevice(texts);
  const both = device.kind !== "emu" && device.kind !== "dpa";
  check(both, `device ${device.name} has both ends in one process`, FORMS);
  check(
    device.kind === "verbs" || texts.mtu === undefined,
    "--mtu is of RDMA devices",
    "use --packet for the size of UDP's packets",
  );
  return device;
}

export interface OpenOptions {
  /** This end's address on the way to the peer. */
  readonly localAddress: string;
  readonly channels: number;
  readonly udpPort: number;
  readonly link: LinkProfile;
  readonly seed?: number | undefined;
}

/** This end's context. Errors: those of the context. */
export function openDevice(device: Device, options: OpenOptions): Context {
  const { localAddress, channels, udpPort, link, seed } = options;
  const common = { channels, link, ...(seed === undefined ? {} : { seed }) };
  if (device.kind === "udp")
    return Context.udp({ ...common, address: device.address ?? localAddress, port: udpPort });
  const { name, port, gidIndex, mtu } = device;
  return Context.verbs({
    ...common,
    device: name,
    ...(port === undefined ? {} : { port }),
    ...(gidIndex === undefined ? {} : { gidIndex }),
    ...(mtu === undefined ? {} : { mtu }),
  });
}

/**
 * Opens a device that was named and closes it again, so that one which is not there, or cannot be used, is told before
 * anybody is waited for. Errors: those of the context.
 */
export function tryDevice(device: Device): void {
  if (device.kind !== "verbs" && device.address === undefined) return;
  openDevice(device, { localAddress: "", channels: 1, udpPort: 0, link: {} }).close();
}

/** What a client's metadata says of its device, against this end's. Errors: PEER_INCOMPATIBLE. */
export function checkPeerKind(theirs: unknown, own: Device): void {
  const kind = theirs ?? DEFAULT_DEVICE;
  if (kind === own.kind) return;
  const told = typeof kind === "string" && /^[a-z]{1,16}$/.test(kind) ? kind : "another";
  throw new SdrError(
    "PEER_INCOMPATIBLE",
    `the client's --device is of kind ${told}, the server's, ${own.name}, of kind ${own.kind}`,
    "give both ends the same kind: udp, or an RDMA device at each",
  );
}
