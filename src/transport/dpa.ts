/**
 * The DPA transport: packet work by the program for a network card's own processor, here on an emulation of that
 * processor and of the card. It reaches contexts of this process only.
 */
import { check, SdrError } from "../base/errors.ts";
import { addon, type NativeDpaContext, type NativeQpConfig, STATUS } from "./native.ts";
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

/** Workers of a DPA context, and what its outgoing packets go through. */
export interface DpaTransportOptions extends Impairments {
  /** Receive workers and packetisers, one a channel. Default 1. */
  readonly workers?: number;
}

const WORKERS_MAX = 16;
const PACKET_BYTES_MAX = 4096; // the largest MTU of RDMA
const INFO_PATTERN = /^(?:[0-9a-f]{2}){1,64}$/;

export class DpaTransport extends RealTimeTransport {
  readonly capabilities: Capabilities;
  protected readonly native: NativeDpaContext;

  constructor(options: DpaTransportOptions = {}) {
    super(options);
    const { workers = 1 } = options;
    check(
      Number.isInteger(workers) && workers >= 1 && workers <= WORKERS_MAX,
      `workers ${workers} is not valid`,
      `use 1 to ${WORKERS_MAX}`,
    );
    this.native = withReason(() => addon().createDpaContext({ workers }, () => this.wake()));
    this.capabilities = {
      name: this.native.capabilities.name,
      virtualTime: false,
      phantom: false,
      dmabuf: false,
      hardware: false,
      zeroCopySend: true,
      countsCorrupted: true,
      countsLate: true,
      gso: false,
      gro: false,
      packetBytesMin: 256,
      packetBytesMax: PACKET_BYTES_MAX,
      packetBytesDefault: PACKET_BYTES_MAX,
      channels: workers,
      // Packets beyond the posted receives are lost, whatever their size; of small ones a window holds more.
      receiveBufferBytes: this.native.capabilities.receivesMax * PACKET_BYTES_MAX,
    };
  }

  createQp(config: NativeQpConfig, listener: QpListener): TransportQp {
    void this.open;
    const native = createNativeQp(() => this.native.createQp(config), config);
    this.pump.add(native.id, listener);
    return {
      native,
      info: () => ({
        transport: this.capabilities.name,
        queuePair: Buffer.from(this.native.qpInfo(native)).toString("hex"),
      }),
      connect: (peer) => {
        const seed = this.nextSeed();
        const status = this.native.connect(native, this.readInfo(peer), this.link, seed);
        if (status !== STATUS.ok) {
          throw new SdrError(
            "PEER_INCOMPATIBLE",
            "the peer's queue pair is not of this process, is gone, is this one itself, or has another shape",
            "connect two open queue pairs of the same attributes and number of workers",
          );
        }
      },
      close: () => this.closeQp(native),
    };
  }

  /** Checks a peer's info: it came from outside. */
  private readInfo(peer: TransportInfo): Uint8Array {
    const { name } = this.capabilities;
    if (peer.transport !== name)
      throw infoError(`is of transport ${JSON.stringify(peer.transport)}, not ${name}`);
    if (typeof peer.queuePair !== "string" || !INFO_PATTERN.test(peer.queuePair))
      throw infoError("has no valid queue pair");
    return Buffer.from(peer.queuePair, "hex");
  }
}
