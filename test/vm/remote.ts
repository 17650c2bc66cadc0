/**
 * The native objects of src/transport/native.ts, served by an agent elsewhere: same calls, same statuses, same events.
 * Everything above them, policies and suites, runs here; packets, queue pairs and their memory are the agent's.
 */
import {
  addon,
  type NativeAddon,
  type NativeCode,
  type NativeCounters,
  type NativeEvents,
  type NativeLink,
  type NativeQp,
  type NativeQpConfig,
  type NativeRecovered,
  type NativeRegion,
  type NativeUdpContext,
  type NativeUdpOptions,
  type NativeVerbsContext,
  type NativeVerbsOptions,
  STATUS,
} from "../../src/transport/native.ts";
import { Channel } from "./channel.ts";
import { Mirror, shapeOf, watchMemory } from "./memory.ts";
import {
  noCounters,
  OP,
  type Reader,
  readCounters,
  type Writer,
  writeConfig,
  writeLink,
} from "./wire.ts";

const EVENTS_MAX = 2048;
const EVENT_BYTES = 32;
const CONTROL_BYTES_MAX = 1 << 20;
const COMPLETE_FLAG = 16; // as the binding's setLength
const NO_QP = 0xffff_ffff;
const DEAD: NativeRecovered = { status: STATUS.closed, chunks: 0, parityUsed: 0, complete: false };

function makeEvents(): NativeEvents {
  const memory = new ArrayBuffer(EVENTS_MAX * EVENT_BYTES);
  return {
    words: new Uint32Array(memory),
    times: new Float64Array(memory),
    control: new Uint8Array(CONTROL_BYTES_MAX),
  };
}

/** What an agent holds for one context; after the agent's death everything is closed. */
class RemoteContext {
  readonly events = makeEvents();
  protected readonly guest: Guest;
  readonly id: number;
  readonly pairs = new Map<number, RemoteQp>();
  private isOpen = true;
  private hasEvents = false;
  private atNs = 0;
  private atMs = 0;
  private shownNs = 0;

  constructor(guest: Guest, id: number, wake: () => void) {
    this.guest = guest;
    this.id = id;
    guest.channel.woken.set(id, {
      wake: () => {
        this.hasEvents = true;
        wake();
      },
    });
  }

  get alive(): boolean {
    return this.isOpen && this.guest.channel.woken.has(this.id);
  }

  /** A request of this context, and the answer; undefined when the agent is gone. */
  ask(op: number, qp: number, write: (out: Writer) => void = () => {}): Reader | undefined {
    if (!this.isOpen) throw new Error("the context is closed");
    if (!this.alive) return undefined;
    write(this.guest.channel.frame(op, this.id, qp));
    const { nowNs, from } = this.guest.channel.ask();
    if (nowNs > 0) [this.atNs, this.atMs] = [nowNs, performance.now()];
    return from;
  }

  /** A request without an answer, sent at once; false when the agent is gone. */
  tell(op: number, qp: number, write: (out: Writer) => void): boolean {
    if (!this.alive) return false;
    const { channel } = this.guest;
    write(channel.frame(op, this.id, qp));
    channel.tell();
    channel.flush();
    return true;
  }

  /** The agent's clock as of its last answer, and what has passed here since. */
  nowNs(): number {
    if (this.atMs === 0) this.ask(OP.unknownDatagrams, NO_QP);
    const nowNs = Math.round(this.atNs + (performance.now() - this.atMs) * 1e6);
    this.shownNs = Math.max(this.shownNs, nowNs);
    return this.shownNs;
  }

  /** Asks only when there may be some: when a wake-up has come, or the last answer was full. */
  drain(): number {
    const from = this.hasEvents ? this.ask(OP.drain, NO_QP) : undefined;
    if (from === undefined) return 0;
    const events = from.data();
    this.hasEvents = events.length === EVENTS_MAX * EVENT_BYTES;
    new Uint8Array(this.events.words.buffer).set(events);
    this.events.control.set(from.data());
    this.readBitmaps(from);
    return events.length / EVENT_BYTES;
  }

  readBitmaps(from: Reader): void {
    for (let n = from.u32(); n > 0; n--) {
      const [qp, offset, bytes] = [from.u32(), from.f64(), from.data()];
      this.pairs.get(qp)?.setBits(offset, bytes);
    }
  }

  /** Nobody here measures the agent's processor time. */
  workerCpuNs(): number[] {
    return [];
  }

  unknownDatagrams(): number {
    return this.ask(OP.unknownDatagrams, NO_QP)?.f64() ?? 0;
  }

  protected makeQp(config: NativeQpConfig, write: (out: Writer) => void): NativeQp {
    const from = this.ask(OP.createQp, NO_QP, (out) => write(writeConfig(out, config)));
    const status = from?.u32() ?? STATUS.closed;
    if (from === undefined || status !== STATUS.ok)
      throw Object.assign(new Error("the queue pair's configuration was refused"), { status });
    const qp = new RemoteQp(this, this.guest.mirror, config, from);
    this.pairs.set(qp.id, qp);
    return qp;
  }

  close(): void {
    if (!this.isOpen) return;
    this.ask(OP.close, NO_QP);
    this.isOpen = false;
    this.guest.channel.woken.delete(this.id);
  }
}

class RemoteUdpContext extends RemoteContext implements NativeUdpContext {
  readonly capabilities: NativeUdpContext["capabilities"];

  constructor(guest: Guest, id: number, wake: () => void, from: Reader) {
    super(guest, id, wake);
    this.capabilities = {
      gso: from.u8() === 1,
      gro: from.u8() === 1,
      ipv6: from.u8() === 1,
      receiveBufferBytes: from.u32(),
      sendBufferBytes: from.u32(),
      payloadBytesMax: from.u32(),
    };
  }

  addresses(): { address: string; port: number }[] {
    const from = this.ask(OP.info, NO_QP);
    if (from === undefined) return [];
    return Array.from({ length: from.u32() }, () => ({ address: from.text(), port: from.u32() }));
  }

  createQp(config: NativeQpConfig, receiveKey: bigint): NativeQp {
    return this.makeQp(config, (out) => out.u64(receiveKey));
  }

  connect(
    qp: NativeQp,
    peer: { address: string; port: number }[],
    sendKey: bigint,
    link: NativeLink,
    seed: number,
  ): number {
    const from = this.ask(OP.connect, qp.id, (out) => {
      out.u32(peer.length);
      for (const { address, port } of peer) out.text(address).u32(port);
      writeLink(out.u64(sendKey), link).f64(seed);
    });
    return from?.u32() ?? STATUS.closed;
  }
}

class RemoteVerbsContext extends RemoteContext implements NativeVerbsContext {
  readonly capabilities: NativeVerbsContext["capabilities"];

  constructor(guest: Guest, id: number, wake: () => void, from: Reader) {
    super(guest, id, wake);
    this.capabilities = {
      device: from.text(),
      driver: from.text(),
      port: from.u8(),
      gidIndex: from.f64(),
      gid: from.text(),
      linkLayer: from.text(),
      mtu: from.u32(),
      rootKey: from.u8() === 1,
      dmabuf: from.u8() === 1,
      receiveDepth: from.u32(),
    };
  }

  createQp(config: NativeQpConfig): NativeQp {
    return this.makeQp(config, () => {});
  }

  info(qp: NativeQp): Uint8Array {
    return this.ask(OP.info, qp.id)?.data().slice() ?? new Uint8Array();
  }

  connect(qp: NativeQp, peer: Uint8Array, link: NativeLink, seed: number): number {
    const from = this.ask(OP.connect, qp.id, (out) => writeLink(out.data(peer), link).f64(seed));
    return from?.u32() ?? STATUS.closed;
  }

  failure(qp: NativeQp): string {
    return this.ask(OP.failure, qp.id)?.text() ?? "";
  }

  /** The agent tells statuses only. */
  refusal(): undefined {}
}

class RemoteQp implements NativeQp {
  readonly id: number;
  readonly bitmaps: ArrayBuffer;
  readonly bitmapStride: number;
  private readonly context: RemoteContext;
  private readonly mirror: Mirror;
  private readonly config: NativeQpConfig;
  /** Regions of the receives that are posted, by message. */
  private readonly receives = new Map<number, number>();
  private isOpen = true;

  constructor(context: RemoteContext, mirror: Mirror, config: NativeQpConfig, from: Reader) {
    this.context = context;
    this.mirror = mirror;
    this.config = config;
    this.id = from.u32();
    this.bitmaps = new ArrayBuffer(from.f64());
    this.bitmapStride = from.f64();
  }

  setBits(offset: number, bytes: Uint8Array): void {
    if (this.bitmaps.byteLength > 0) new Uint8Array(this.bitmaps).set(bytes, offset);
  }

  private ask(op: number, write?: (out: Writer) => void): Reader | undefined {
    if (!this.isOpen) throw new Error("the queue pair is closed");
    return this.context.ask(op, this.id, write);
  }

  private tell(op: number, write: (out: Writer) => void): number {
    if (!this.isOpen) throw new Error("the queue pair is closed");
    return this.context.tell(op, this.id, write) ? STATUS.ok : STATUS.closed;
  }

  private status(op: number, write: (out: Writer) => void): number {
    return this.ask(op, write)?.u32() ?? STATUS.closed;
  }

  postReceive(
    message: number,
    region: NativeRegion | null,
    offset: number,
    bytes: number,
    parity: NativeRegion | null,
    parityOffset: number,
    parityChunks: number,
  ): number {
    if (!this.context.alive) return STATUS.closed;
    const [memory, beside] = [this.mirror.watch(region), this.mirror.number(parity)];
    const from = this.ask(OP.postReceive, (out) => {
      out.u32(message).u32(memory).f64(offset).f64(bytes);
      out.u32(beside).f64(parityOffset).u32(parityChunks);
    });
    const status = this.withBits(from, (answer) => answer.u32(), STATUS.closed as number);
    if (status === STATUS.ok) this.receives.set(message, memory);
    return status;
  }

  /** Reads an answer that the bitmaps' changes follow. */
  private withBits<T>(from: Reader | undefined, read: (from: Reader) => T, otherwise: T): T {
    if (from === undefined) return otherwise;
    const value = read(from);
    this.context.readBitmaps(from);
    return value;
  }

  parityBits(bytes: number): number {
    const { packetBytes, packetsPerChunk } = this.config;
    const chunks = Math.ceil(Math.ceil(bytes / packetBytes) / packetsPerChunk);
    return Math.ceil(chunks / 32) * 32;
  }

  async recover(...block: Parameters<NativeQp["recoverNow"]>): Promise<NativeRecovered> {
    return this.recoverNow(...block);
  }

  recoverNow(
    message: number,
    code: NativeCode,
    first: number,
    count: number,
    parityFirst: number,
    stride = 1,
  ): NativeRecovered {
    const shape = shapeOf(code);
    const from = this.ask(OP.recover, (out) => {
      out.u32(message).u8(shape.kind).u32(shape.k).u32(shape.m);
      out.u32(first).u32(count).u32(parityFirst).u32(stride);
    });
    const read = (answer: Reader) => ({
      status: answer.u32(),
      chunks: answer.u32(),
      parityUsed: answer.u32(),
      complete: answer.u8() === 1,
    });
    return this.withBits(from, read, DEAD);
  }

  setLength(message: number, bytes: number): number {
    const from = this.ask(OP.setLength, (out) => out.u32(message).f64(bytes));
    const read = (answer: Reader) => answer.u32() + COMPLETE_FLAG * answer.u8();
    return this.withBits(from, read, STATUS.closed as number);
  }

  complete(message: number): number {
    const memory = this.receives.get(message);
    this.receives.delete(message);
    const from = this.ask(OP.complete, (out) =>
      this.mirror.writeNumbers(out.u32(message), memory === undefined ? [] : [memory]),
    );
    const read = (answer: Reader) => {
      const status = answer.u32();
      this.mirror.readChanges(answer);
      return status;
    };
    return this.withBits(from, read, STATUS.closed as number);
  }

  chunkExpand(message: number, chunk: number, bits: BigUint64Array): number {
    const from = this.ask(OP.chunkExpand, (out) => out.u32(message).u32(chunk).u32(bits.length));
    if (from === undefined) return STATUS.closed;
    const status = from.u32();
    new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength).set(from.data());
    return status;
  }

  userImmediate(message: number): number | undefined {
    const from = this.ask(OP.userImmediate, (out) => out.u32(message));
    return from?.u8() === 1 ? from.u32() : undefined;
  }

  chunksDone(message: number): number {
    return this.ask(OP.chunksDone, (out) => out.u32(message))?.u32() ?? 0;
  }

  openSend(message: number, bytes: number, immediate: number): number {
    return this.status(OP.openSend, (out) => out.u32(message).f64(bytes).u32(immediate));
  }

  postSend(
    message: number,
    workRequest: number,
    region: NativeRegion | null,
    sourceOffset: number,
    firstChunk: number,
    bytes: number,
  ): number {
    if (!this.context.alive) return STATUS.closed;
    const memory = this.mirror.upload(region, sourceOffset, bytes);
    return this.status(OP.postSend, (out) =>
      out.u32(message).u32(workRequest).u32(memory).f64(sourceOffset).u32(firstChunk).f64(bytes),
    );
  }

  // The next two are not waited for: half of all requests, and nobody asks how they went.

  closeSend(message: number): number {
    return this.tell(OP.closeSend, (out) => out.u32(message));
  }

  sendControl(kind: number, bytes: Uint8Array, length: number): number {
    return this.tell(OP.sendControl, (out) => out.u32(kind).data(bytes.subarray(0, length)));
  }

  grant(message: number): Uint8Array | undefined {
    const bytes = this.ask(OP.grant, (out) => out.u32(message))
      ?.data()
      .slice();
    return bytes === undefined || bytes.length === 0 ? undefined : bytes;
  }

  acceptGrant(message: number, grant = new Uint8Array()): number {
    return this.status(OP.acceptGrant, (out) => out.u32(message).data(grant));
  }

  lastHeardNs(): number {
    return this.ask(OP.lastHeard)?.f64() ?? 0;
  }

  counters(): NativeCounters {
    return this.withBits(this.ask(OP.counters), readCounters, noCounters());
  }

  setLink(link: NativeLink): number {
    return this.status(OP.setLink, (out) => writeLink(out, link));
  }

  close(): void {
    if (!this.isOpen) return;
    this.ask(OP.closeQp);
    this.isOpen = false;
    this.context.pairs.delete(this.id);
    // Views of it end, as those of native memory do.
    structuredClone(this.bitmaps, { transfer: [this.bitmaps] });
  }
}

/** What a command printed in the guest, and its exit status. */
export interface Done {
  readonly status: number;
  readonly text: string;
}

/** One agent, and the machine that it runs on. */
export class Guest {
  readonly channel: Channel;
  readonly mirror: Mirror;

  private constructor(channel: Channel) {
    this.channel = channel;
    this.mirror = new Mirror(channel);
  }

  static async connect(rpcPath: string, wakePath: string): Promise<Guest> {
    return new Guest(await Channel.open(rpcPath, wakePath));
  }

  openUdp(options: NativeUdpOptions, wake: () => void): NativeUdpContext {
    const out = this.channel.frame(OP.open).text("udp").text(options.address).u32(options.port);
    out.u32(options.channels).u32(options.socketBufferBytes);
    out.u8(options.allowGso ? 1 : 0).u8(options.allowGro ? 1 : 0);
    const { from } = this.channel.ask();
    return new RemoteUdpContext(this, from.u32(), wake, from);
  }

  openVerbs(options: NativeVerbsOptions, wake: () => void): NativeVerbsContext {
    const out = this.channel.frame(OP.open).text("verbs").text(options.device).u8(options.port);
    out.f64(options.gidIndex).u32(options.mtu).u32(options.channels);
    out.u8(options.reliable ? 1 : 0).u8(options.trafficClass);
    const { from } = this.channel.ask();
    return new RemoteVerbsContext(this, from.u32(), wake, from);
  }

  /** Runs a shell command there and waits for it. */
  shell(command: string, timeoutMs?: number): Done {
    this.channel.frame(OP.shell).text(command);
    const { from } = this.channel.ask(timeoutMs);
    return { status: from.u32(), text: from.text() };
  }

  /** The same for a command that must succeed; gives what it printed. */
  run(command: string): string {
    const { status, text } = this.shell(command);
    if (status !== 0) throw new Error(`status ${status} of ${command}: ${text}`);
    return text;
  }

  /** Ends the agent with SIGKILL. Everything made there answers as closed from now on. */
  kill(): void {
    this.channel.kill();
    this.mirror.forget();
  }

  close(): void {
    this.channel.close();
  }
}

/**
 * Has contexts made in this process live at agents from now on: `place` names the one for the next context. Once a
 * process, before the first region.
 */
export function serveRemotely(place: () => Guest): void {
  watchMemory();
  const native = addon() as {
    -readonly [K in keyof Pick<
      NativeAddon,
      "createUdpContext" | "createVerbsContext"
    >]: NativeAddon[K];
  };
  native.createUdpContext = (options, wake) => place().openUdp(options, wake);
  native.createVerbsContext = (options, wake) => place().openVerbs(options, wake);
}
