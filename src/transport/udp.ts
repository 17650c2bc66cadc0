/**
 * The UDP transport: native threads move packets; this file owns keys and addresses.
 */
import { randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { getSystemErrorName } from "node:util";
import { check, SdrError } from "../base/errors.ts";
import { addon, type NativeQpConfig, type NativeUdpContext, STATUS } from "./native.ts";
import { type Impairments, RealTimeTransport } from "./real-time.ts";
import {
  type Capabilities,
  createNativeQp,
  infoError,
  type QpListener,
  type TransportInfo,
  type TransportQp,
} from "./transport.ts";

/** Sockets of a UDP context, and what its outgoing packets go through. */
export interface UdpTransportOptions extends Impairments {
  /** Numeric local address. Default 127.0.0.1. */
  readonly address?: string;
  /** First channel's port; 0 takes a free one. */
  readonly port?: number;
  /** Sockets and progress threads. Default 1. */
  readonly channels?: number;
  /** Socket buffer size to ask for. Default 16 MiB. */
  readonly socketBufferBytes?: number;
  /** False forces plain datagrams. Default true. */
  readonly allowGso?: boolean;
  readonly allowGro?: boolean;
}

const CHANNELS_MAX = 64;
/** Payload of a full packet on a path whose MTU is the usual 1500, and where 9000-byte frames pass. */
const PACKET_BYTES_ETHERNET = 1400;
const PACKET_BYTES_JUMBO = 8900;

export class UdpTransport extends RealTimeTransport {
  readonly capabilities: Capabilities;
  protected readonly native: NativeUdpContext;

  constructor(options: UdpTransportOptions = {}) {
    super(options);
    const { address = "127.0.0.1", port = 0, channels = 1, socketBufferBytes = 16 << 20 } = options;
    check(
      isIP(address) !== 0,
      `address ${JSON.stringify(address)} is not numeric`,
      "use an IPv4 or IPv6 address such as 127.0.0.1 or ::1",
    );
    check(
      Number.isInteger(port) && port >= 0 && port <= 65535,
      `port ${port} is not valid`,
      "use 0 to 65535",
    );
    check(
      Number.isInteger(channels) && channels >= 1 && channels <= CHANNELS_MAX,
      `channels ${channels} is not valid`,
      `use 1 to ${CHANNELS_MAX}`,
    );
    check(
      Number.isInteger(socketBufferBytes) &&
        socketBufferBytes >= 65536 &&
        socketBufferBytes <= 2 ** 30,
      `socketBufferBytes ${socketBufferBytes} is not valid`,
      "use 64 KiB to 1 GiB",
    );
    this.native = openContext(
      {
        address,
        port,
        channels,
        socketBufferBytes,
        allowGso: options.allowGso ?? true,
        allowGro: options.allowGro ?? true,
      },
      () => this.wake(),
    );
    const can = this.native.capabilities;
    this.capabilities = {
      name: "udp",
      virtualTime: false,
      phantom: false,
      dmabuf: false,
      hardware: false,
      zeroCopySend: true,
      countsCorrupted: true,
      countsLate: true,
      gso: can.gso,
      gro: can.gro,
      packetBytesMin: 256,
      packetBytesMax: Math.min(65_000, can.payloadBytesMax),
      packetBytesDefault:
        can.payloadBytesMax >= PACKET_BYTES_JUMBO
          ? PACKET_BYTES_JUMBO
          : Math.min(PACKET_BYTES_ETHERNET, can.payloadBytesMax),
      channels,
      receiveBufferBytes: can.receiveBufferBytes,
    };
  }

  /** Local addresses, one a channel. Errors: CLOSED. */
  addresses(): { address: string; port: number }[] {
    void this.open;
    return this.native.addresses();
  }

  createQp(config: NativeQpConfig, listener: QpListener): TransportQp {
    const key = randomKey();
    const native = createNativeQp(() => this.native.createQp(config, key), config);
    this.pump.add(native.id, listener);
    return {
      native,
      info: () => ({ transport: "udp", addresses: this.addresses(), key: key.toString(16) }),
      connect: (peer) => {
        const { addresses, sendKey } = readInfo(peer, this.capabilities.channels);
        if (sendKey === key)
          throw new SdrError(
            "PEER_INCOMPATIBLE",
            "the peer's info is this queue pair's own",
            "pass what the peer's info() returned",
          );
        const seed = this.nextSeed();
        const status = this.native.connect(native, addresses, sendKey, this.link, seed);
        if (status !== STATUS.ok) {
          throw new SdrError(
            "PEER_INCOMPATIBLE",
            `the peer's addresses ${addresses.map((a) => `${a.address}:${a.port}`).join(" ")} cannot be used here`,
            "use the same address family and number of channels on both ends",
          );
        }
      },
      close: () => this.closeQp(native),
    };
  }

  /** Datagrams that matched no queue pair's key. Errors: CLOSED. */
  unknownDatagrams(): number {
    void this.open;
    return this.native.unknownDatagrams();
  }

  /** Errors: CLOSED. */
  workerCpuNs(): readonly number[] {
    void this.open;
    return this.native.workerCpuNs();
  }
}

function randomKey(): bigint {
  return randomBytes(8).readBigUInt64BE();
}

function openContext(
  options: Parameters<ReturnType<typeof addon>["createUdpContext"]>[0],
  wake: () => void,
): NativeUdpContext {
  try {
    return addon().createUdpContext(options, wake);
  } catch (cause) {
    const { errno, call } = cause as { errno?: number; call?: string };
    if (errno === undefined) throw cause;
    const name = errno > 0 ? getSystemErrorName(-errno) : "unknown error";
    const where = `${options.address} port ${options.port}`;
    if (name === "EADDRINUSE")
      throw new SdrError(
        "ADDRESS_IN_USE",
        `${where} is in use`,
        "choose another port, or 0 for a free one",
        { cause },
      );
    if (name === "EADDRNOTAVAIL")
      throw new SdrError(
        "INVALID_ARGUMENT",
        `${options.address} is not an address of this machine`,
        "use one of its own addresses",
        { cause },
      );
    if (name === "EACCES")
      throw new SdrError("ACCESS_DENIED", `${where} may not be opened`, "use a port above 1023", {
        cause,
      });
    throw new SdrError(
      "ENVIRONMENT",
      `${call} failed with ${name} for ${where}`,
      "check the machine's network and limits",
      { cause },
    );
  }
}

/** Checks a peer's info: it came from outside. */
function readInfo(
  peer: TransportInfo,
  channels: number,
): { addresses: { address: string; port: number }[]; sendKey: bigint } {
  if (peer.transport !== "udp")
    throw infoError(`is of transport ${JSON.stringify(peer.transport)}, not udp`);
  if (typeof peer.key !== "string" || !/^[0-9a-f]{1,16}$/.test(peer.key))
    throw infoError("has no valid key");
  if (
    !Array.isArray(peer.addresses) ||
    peer.addresses.length < 1 ||
    peer.addresses.length > CHANNELS_MAX
  )
    throw infoError("has no valid addresses");
  if (peer.addresses.length !== channels)
    throw infoError(`has ${peer.addresses.length} channels where this end has ${channels}`);
  const addresses = peer.addresses.map((one: unknown) => {
    const { address, port } = (one ?? {}) as { address?: unknown; port?: unknown };
    if (
      typeof address !== "string" ||
      isIP(address) === 0 ||
      typeof port !== "number" ||
      !Number.isInteger(port) ||
      port < 1 ||
      port > 65535
    )
      throw infoError("has no valid addresses");
    return { address, port };
  });
  return { addresses, sendKey: BigInt(`0x${peer.key}`) };
}
