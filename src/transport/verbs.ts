/**
 * The verbs transport: RDMA cards and Soft-RoCE. Native threads poll and post; this file checks options, turns what the
 * device says into errors, and exchanges the queue pairs' infos.
 */
import { check } from "../base/errors.ts";
import {
  addon,
  type NativeQpConfig,
  type NativeVerbsContext,
  type NativeVerbsOptions,
  STATUS,
} from "./native.ts";
import { type Impairments, RealTimeTransport } from "./real-time.ts";
import {
  type Capabilities,
  createNativeQp,
  infoError,
  type QpListener,
  type TransportInfo,
  type TransportQp,
  withReason,
} from "./transport.ts";

/** A device, how it is used, and what outgoing packets go through; of those a corrupted one is a lost one. */
export interface VerbsTransportOptions extends Impairments {
  /** Name of the RDMA device: "mlx5_0", "rxe0"; `sdr devices` lists them. */
  readonly device: string;
  /** From 1. Default: the first that is active. */
  readonly port?: number;
  /** Default: RoCE v2 with a routable address before all others. */
  readonly gidIndex?: number;
  /** 256 to 4096. Default: the port's active one. */
  readonly mtu?: number;
  /** Progress threads; each generation has a hardware queue on every one. Default 1. */
  readonly channels?: number;
  /** RC queue pairs, where the card repeats what is lost, instead of UC. Default false; SDR_USE_UC_QP=0 says true. */
  readonly reliable?: boolean;
  /** Of the GRH, from which the IP header's comes. Default 0. */
  readonly trafficClass?: number;
}

type OpenNative = (options: NativeVerbsOptions, wake: () => void) => NativeVerbsContext;

const CHANNELS_MAX = 64;
/** A CTS with the longest policy name and a grant goes into one packet. */
const PACKET_BYTES_MIN = 256;
const INFO_BYTES_MAX = 4608;
const MTUS = [256, 512, 1024, 2048, 4096];

export class VerbsTransport extends RealTimeTransport {
  readonly capabilities: Capabilities;
  protected readonly native: NativeVerbsContext;

  /** `openNative` is the addon's; others stand for it in tests. */
  constructor(options: VerbsTransportOptions, openNative?: OpenNative) {
    super(options);
    const { device, port = 0, gidIndex = -1, mtu = 0, channels = 1, trafficClass = 0 } = options;
    const reliable = options.reliable ?? process.env.SDR_USE_UC_QP === "0";
    check(
      typeof device === "string" && /^[\x21-\x7e]{1,63}$/.test(device),
      `device ${JSON.stringify(device)} is not valid`,
      "use the name of an RDMA device, as `sdr devices` lists them",
    );
    checkWhole("port", port, 0, 255);
    checkWhole("gidIndex", gidIndex, -1, 65_535);
    checkWhole("channels", channels, 1, CHANNELS_MAX);
    checkWhole("trafficClass", trafficClass, 0, 255);
    check(mtu === 0 || MTUS.includes(mtu), `mtu ${mtu} is not valid`, `use ${MTUS.join(", ")}`);
    const open = openNative ?? addon().createVerbsContext;
    this.native = withReason(() =>
      open({ device, port, gidIndex, mtu, channels, reliable, trafficClass }, () => this.wake()),
    );
    const can = this.native.capabilities;
    this.capabilities = {
      name: "verbs",
      virtualTime: false,
      phantom: false,
      dmabuf: can.dmabuf,
      hardware: true,
      zeroCopySend: true,
      countsCorrupted: false,
      countsLate: can.rootKey,
      gso: false,
      gro: false,
      packetBytesMin: PACKET_BYTES_MIN,
      packetBytesMax: can.mtu,
      packetBytesDefault: can.mtu,
      channels,
      receiveBufferBytes: can.receiveDepth * can.mtu,
    };
  }

  /** What the device is and how it is used: driver, port, GID, whether one key serves all receives. */
  get device(): NativeVerbsContext["capabilities"] {
    return this.native.capabilities;
  }

  /** Processor time of each progress thread so far, in nanoseconds. Errors: CLOSED. */
  workerCpuNs(): number[] {
    void this.open;
    return this.native.workerCpuNs();
  }

  createQp(config: NativeQpConfig, listener: QpListener): TransportQp {
    const native = createNativeQp(() => this.native.createQp(config), config);
    this.pump.add(native.id, listener);
    const own = Buffer.from(this.native.info(native)).toString("base64");
    return {
      native,
      info: () => ({ transport: "verbs", queues: own }),
      failure: () => this.native.failure(native),
      refusal: () => this.native.refusal(native),
      connect: (peer) => {
        const queues = readInfo(peer);
        check(
          peer.queues !== own,
          "the peer's info is this queue pair's own",
          "pass what the peer's info() returned",
        );
        const seed = this.nextSeed();
        const status = withReason(() => this.native.connect(native, queues, this.link, seed));
        if (status !== STATUS.ok) throw infoError(`was refused (status ${status})`);
      },
      close: () => this.closeQp(native),
    };
  }
}

function checkWhole(name: string, value: number, min: number, max: number): void {
  check(
    Number.isInteger(value) && value >= min && value <= max,
    `${name} ${value} is not valid`,
    `use ${min} to ${max}`,
  );
}

/** Checks a peer's info, as far as it is not the native code's to read. */
function readInfo(peer: TransportInfo): Uint8Array {
  if (peer.transport !== "verbs")
    throw infoError(`is of transport ${JSON.stringify(peer.transport)}, not verbs`);
  if (typeof peer.queues !== "string" || peer.queues.length > 2 * INFO_BYTES_MAX)
    throw infoError("has no valid queues");
  return new Uint8Array(Buffer.from(peer.queues, "base64"));
}
