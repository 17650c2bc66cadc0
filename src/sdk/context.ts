/** A context: one transport's resources, and the queue pairs and memory regions made from it. */
import { SdrError } from "../base/errors.ts";
import type { LinkProfile } from "../link/profile.ts";
import { DpaTransport, type DpaTransportOptions } from "../transport/dpa.ts";
import type { EmulatedWorld } from "../transport/emulated.ts";
import type { Capabilities, Transport } from "../transport/transport.ts";
import { UdpTransport, type UdpTransportOptions } from "../transport/udp.ts";
import { VerbsTransport, type VerbsTransportOptions } from "../transport/verbs.ts";
import type { QueuePairAttributes } from "./attributes.ts";
import { QueuePair } from "./queue-pair.ts";
import { type BufferSource, MemoryRegion } from "./region.ts";

/** A transport's resources, shared by the queue pairs made in it (the paper's SDR context). */
export class Context implements Disposable, AsyncDisposable {
  /** @internal */
  readonly transport: Transport;
  private readonly queuePairs = new Set<QueuePair>();
  private closed = false;

  private constructor(transport: Transport) {
    this.transport = transport;
  }

  /**
   * UDP sockets and their threads. Errors: ADDRESS_IN_USE, ACCESS_DENIED, INVALID_ARGUMENT, ENVIRONMENT.
   */
  static udp(options: UdpTransportOptions = {}): Context {
    return new Context(new UdpTransport(options));
  }

  /**
   * An RDMA device, or Soft-RoCE, through libibverbs. Errors: INVALID_ARGUMENT, ACCESS_DENIED, ENVIRONMENT (no library,
   * no device, port down, no GID, limits), each with the remedy.
   */
  static verbs(options: VerbsTransportOptions): Context {
    return new Context(new VerbsTransport(options));
  }

  /** An endpoint in an emulated world; what it sends goes over `link`. */
  static emulated(world: EmulatedWorld, link: LinkProfile = {}): Context {
    return new Context(world.transport(link));
  }

  /**
   * A DPA, a network card's own processor, that does the packet work: here an emulation of it, which runs the same
   * device program and reaches contexts of this process. `capabilities.name` says which.
   * Errors: INVALID_ARGUMENT, ENVIRONMENT.
   */
  static dpa(options: DpaTransportOptions = {}): Context {
    return new Context(new DpaTransport(options));
  }

  /** What the transport can do here: packet sizes, channels, offloads in use. */
  get capabilities(): Capabilities {
    return this.transport.capabilities;
  }

  /** Nanoseconds of the transport's clock: virtual for emulated, monotonic for UDP. Errors: CLOSED. */
  nowNs(): number {
    return this.transport.nowNs();
  }

  /**
   * Processor time that each of the transport's worker threads has used so far, in nanoseconds; 0 where that cannot be
   * told, empty where there are none. Errors: CLOSED.
   */
  workerCpuNs(): readonly number[] {
    return this.transport.workerCpuNs?.() ?? [];
  }

  /** Errors: INVALID_ARGUMENT, TOO_LARGE (a message that does not fit the split), BUSY (too many), CLOSED. */
  createQueuePair(attributes: QueuePairAttributes = {}): QueuePair {
    if (this.closed) throw new SdrError("CLOSED", "the context is closed", "make a new one");
    const qp: QueuePair = new QueuePair(this.transport, attributes, () =>
      this.queuePairs.delete(qp),
    );
    this.queuePairs.add(qp);
    return qp;
  }

  /** Registers the application's memory; see MemoryRegion. */
  register(source: BufferSource): MemoryRegion {
    return MemoryRegion.register(source);
  }

  /** Page-aligned, zeroed memory; see MemoryRegion. */
  allocate(bytes: number): MemoryRegion {
    return MemoryRegion.allocate(bytes);
  }

  /**
   * Ends all queue pairs at once (pending work fails with CLOSED), closes sockets, joins threads. Peers of queue pairs
   * that are still open are not told: close those first, or use `await using`.
   */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const qp of [...this.queuePairs]) qp.abandon();
    this.transport.close();
  }

  /** Closes all queue pairs in good order, then as close(). */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.queuePairs].map((qp) => qp.close()));
    this.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
