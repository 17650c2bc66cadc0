/** Requests and answers as an agent reads and writes them (test/vm/agent_wire.h): little-endian, in a fixed order. */
import type {
  NativeCounters,
  NativeLink,
  NativeLinkCounters,
  NativeQpConfig,
} from "../../src/transport/native.ts";

/** Kinds of packets that links count apart: kPacketKinds of native/include/sdr/link.h. */
const PACKET_KIND_COUNT = 10;

/** As enum Op of test/vm/agent.cc. */
export const OP = {
  reset: 1,
  open: 2,
  close: 3,
  createQp: 4,
  info: 5,
  connect: 6,
  closeQp: 7,
  drain: 8,
  unknownDatagrams: 9,
  failure: 10,
  postReceive: 20,
  recover: 21,
  setLength: 22,
  complete: 23,
  chunkExpand: 24,
  userImmediate: 25,
  chunksDone: 26,
  openSend: 27,
  postSend: 28,
  closeSend: 29,
  sendControl: 30,
  lastHeard: 31,
  counters: 32,
  setLink: 33,
  grant: 34,
  acceptGrant: 35,
  regionWrite: 50,
  regionDrop: 51,
  sync: 52,
  shell: 60,
  die: 61,
} as const;

/** Grows as it is written to; one is reused for all frames. */
export class Writer {
  private bytes = new Uint8Array(1 << 16);
  private view = new DataView(this.bytes.buffer);
  size = 0;

  private room(more: number): number {
    const at = this.size;
    this.size += more;
    if (this.size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.size, 2 * this.bytes.length));
      grown.set(this.bytes);
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    return at;
  }

  clear(): void {
    this.size = 0;
  }

  /** What was written; valid until the next write. */
  get written(): Uint8Array {
    return this.bytes.subarray(0, this.size);
  }

  u8(value: number): this {
    const at = this.room(1);
    this.view.setUint8(at, value);
    return this;
  }

  u32(value: number): this {
    const at = this.room(4);
    this.view.setUint32(at, value, true);
    return this;
  }

  u64(value: bigint): this {
    const at = this.room(8);
    this.view.setBigUint64(at, value, true);
    return this;
  }

  f64(value: number): this {
    const at = this.room(8);
    this.view.setFloat64(at, value, true);
    return this;
  }

  raw(bytes: Uint8Array): this {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
    return this;
  }

  data(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  text(value: string): this {
    return this.data(new TextEncoder().encode(value));
  }

  setU32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }
}

export class Reader {
  private readonly view: DataView;
  private at = 0;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  private step(size: number): number {
    const at = this.at;
    this.at += size;
    return at;
  }

  u8(): number {
    return this.view.getUint8(this.step(1));
  }

  u32(): number {
    return this.view.getUint32(this.step(4), true);
  }

  f64(): number {
    return this.view.getFloat64(this.step(8), true);
  }

  /** A view, valid as long as the frame. */
  data(): Uint8Array {
    const size = this.u32();
    const at = this.step(size);
    return this.bytes.subarray(at, at + size);
  }

  text(): string {
    return new TextDecoder().decode(this.data());
  }

  f64s(count: number): number[] {
    return Array.from({ length: count }, () => this.f64());
  }
}

export function writeConfig(out: Writer, config: NativeQpConfig): Writer {
  out.u32(config.packetBytes).u32(config.packetsPerChunk).u32(config.slots);
  out.u32(config.generations).u32(config.channels).f64(config.maxMessageBytes);
  for (const bits of config.split) out.u8(bits);
  return out.f64(config.rateBps).u32(config.workRequestsMax);
}

const DISTRIBUTIONS = ["uniform", "normal", "pareto", "paretonormal"] as const;
const LOSSES = ["none", "bernoulli", "gilbert_elliott", "by_size", "trace"] as const;

export function writeLink(out: Writer, link: NativeLink): Writer {
  out.f64(link.rateBps ?? 0).f64(link.packetOverheadBytes ?? 0);
  out.f64(link.delayNs ?? 0).f64(link.jitterNs ?? 0);
  out.f64(link.delayCorrelation ?? 0);
  out.u8(DISTRIBUTIONS.indexOf(link.distribution ?? "uniform"));
  out.u8(LOSSES.indexOf(link.loss ?? "none"));
  out.f64(link.lossProbability ?? 0).f64(link.lossCorrelation ?? 0);
  out.f64(link.geP ?? 0).f64(link.geR ?? 0);
  out.f64(link.geLossBad ?? 1).f64(link.geLossGood ?? 0);
  out.f64(link.duplicateProbability ?? 0).f64(link.duplicateCorrelation ?? 0);
  out.f64(link.corruptProbability ?? 0).f64(link.corruptCorrelation ?? 0);
  out.f64(link.reorderProbability ?? 0).f64(link.reorderCorrelation ?? 0);
  out.u32(link.reorderGap ?? 0).u32(link.limitPackets ?? 0);
  const sizes = link.lossBySize ?? [];
  out.u32(sizes.length);
  for (const [bytes, probability] of sizes) out.u32(bytes).f64(probability);
  out.data(link.lossTrace ?? new Uint8Array());
  const drops = link.drops ?? [];
  out.u32(drops.length);
  for (const { kind, first, last } of drops) out.u8(kind).f64(first).f64(last);
  return out;
}

/** The order of write_counters in agent_wire.h. */
const COUNTERS = [
  ...["packets", "chunks", "messages", "duplicates", "late"],
  ...["badQueue", "badSlot", "badPacket", "badLength"],
  ...["packetsSent", "bytesSent", "wireBytesSent", "controlSent", "controlWaiting"],
  ...["controlReceived", "controlDropped", "badChecksum", "truncated", "replayed"],
  ...["malformed", "sendErrors"],
];
const LINK_COUNTERS = [
  ...["offered", "offeredBytes", "dropped", "queueDropped"],
  ...["duplicated", "corrupted", "reordered"],
];

export function readCounters(from: Reader): NativeCounters {
  const named = (names: readonly string[]) =>
    Object.fromEntries(names.map((name) => [name, from.f64()]));
  const own = named(COUNTERS);
  const link = {
    ...named(LINK_COUNTERS),
    offeredByKind: from.f64s(PACKET_KIND_COUNT),
    droppedByKind: from.f64s(PACKET_KIND_COUNT),
  } as unknown as NativeLinkCounters;
  return { ...own, link } as unknown as NativeCounters;
}

/** Of an agent that is gone. */
export function noCounters(): NativeCounters {
  return readCounters(
    new Reader(
      new Uint8Array(8 * (COUNTERS.length + LINK_COUNTERS.length + 2 * PACKET_KIND_COUNT)),
    ),
  );
}
