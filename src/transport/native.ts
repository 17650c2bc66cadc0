/**
 * The shape of the native addon, as the binding (native/node) implements it. Translation only: no logic.
 * Statuses are the numbers of sdr_status (native/include/sdr/engine.h). 64-bit byte counts and nanoseconds
 * cross as JavaScript numbers (exact below 2^53).
 */
import type { ErrorCode } from "../base/errors.ts";
import { loadAddon } from "./loader.ts";

export const STATUS = {
  ok: 0,
  invalid: 1,
  busy: 2,
  tooLarge: 3,
  outOfOrder: 4,
  noMemory: 5,
  closed: 6,
} as const;

export const EVENT = { injected: 1, progress: 2, control: 3, error: 4 } as const;

/** Mirrors sdr::LinkConfig; every field optional, zero/none when absent. */
export interface NativeLink {
  rateBps?: number;
  packetOverheadBytes?: number;
  delayNs?: number;
  jitterNs?: number;
  delayCorrelation?: number;
  distribution?: "uniform" | "normal" | "pareto" | "paretonormal";
  loss?: "none" | "bernoulli" | "gilbert_elliott" | "by_size" | "trace";
  lossProbability?: number;
  lossCorrelation?: number;
  geP?: number;
  geR?: number;
  geLossBad?: number;
  geLossGood?: number;
  lossBySize?: readonly (readonly [number, number])[];
  lossTrace?: Uint8Array;
  duplicateProbability?: number;
  duplicateCorrelation?: number;
  corruptProbability?: number;
  corruptCorrelation?: number;
  reorderProbability?: number;
  reorderCorrelation?: number;
  reorderGap?: number;
  limitPackets?: number;
  /** kind: a PacketKind number. */
  drops?: readonly { readonly kind: number; readonly first: number; readonly last: number }[];
}

export interface NativeQpConfig {
  packetBytes: number;
  packetsPerChunk: number;
  slots: number;
  generations: number;
  channels: number;
  maxMessageBytes: number;
  split: [number, number, number];
  rateBps: number;
  workRequestsMax: number;
}

/** What a link did to the packets and control datagrams offered to it. */
export interface NativeLinkCounters {
  offered: number;
  /** With headers, without the link's own overhead. */
  offeredBytes: number;
  /** By the loss model or a drop rule. */
  dropped: number;
  /** By the queue limit. */
  queueDropped: number;
  duplicated: number;
  corrupted: number;
  /** Copies that arrive before an earlier packet. */
  reordered: number;
  /** By the index of PACKET_KINDS; `dropped` only. */
  offeredByKind: number[];
  droppedByKind: number[];
}

/** Counts of one queue pair. Every packet received is in exactly one of the first nine. */
export interface NativeCounters {
  /** New packets that left their chunk incomplete. */
  packets: number;
  /** Packets that completed a chunk, but not the message. */
  chunks: number;
  /** Packets that completed their message's last missing chunk. */
  messages: number;
  /** Packets that were there already. */
  duplicates: number;
  /** Packets of an earlier life of their slot, or for one that is completed. */
  late: number;
  badQueue: number;
  badSlot: number;
  /** Beyond the message. */
  badPacket: number;
  /** Of a size that such a packet of the message cannot have. */
  badLength: number;
  /** Injected, before loss. */
  packetsSent: number;
  /** Their payload. */
  bytesSent: number;
  /** With headers and control, without the link's own overhead. */
  wireBytesSent: number;
  /** Control datagrams. */
  controlSent: number;
  /** Of those posted, what has not left this end yet: closing would lose it. */
  controlWaiting: number;
  controlReceived: number;
  /** Of those received, the ones that JavaScript was too slow to make room for. */
  controlDropped: number;
  /** Datagrams ignored, by reason; those with another key belong to no queue pair. */
  badChecksum: number;
  truncated: number;
  replayed: number;
  malformed: number;
  /** Datagrams that the operating system refused to send: lost, as on a path. */
  sendErrors: number;
  /** Of what this end sends. */
  link: NativeLinkCounters;
}

/** Places in a packet's record. arriveNs is -1 for a packet that was lost; kind is an index of PACKET_KINDS. */
export const PACKET_RECORD = {
  departNs: 0,
  arriveNs: 1,
  qp: 2,
  kind: 3,
  message: 4,
  packet: 5,
} as const;
export const PACKET_RECORD_NUMBERS = 6;

/** Memory native code may touch; pins the ArrayBuffer while work refers to it. */
export interface NativeRegion {
  readonly bytes: number;
  /** Lets go of the memory: it is freed, or unpinned, with the last work that refers to it. */
  close(): void;
}

export interface NativeQp {
  readonly id: number;
  /** One external ArrayBuffer: the chunk bitmaps of all slots, slot s at s * bitmapStride bytes. */
  readonly bitmaps: ArrayBuffer;
  readonly bitmapStride: number;
  /** With `parityChunks` > 0 the message brings so many parity chunks, into `parity` from `parityOffset` on. */
  postReceive(
    message: number,
    region: NativeRegion | null,
    offset: number,
    bytes: number,
    parity: NativeRegion | null,
    parityOffset: number,
    parityChunks: number,
  ): number;
  /** Where in its slot's bitmap a receive posted for `bytes` has the bits of its parity chunks. */
  parityBits(bytes: number): number;
  /**
   * Makes missing data chunks, of the `count` chunks first, first + stride, ... (stride 1 when absent), from parity
   * chunks [parityFirst, + m), counted from 0, in place, on the codec's threads. Settles on the JavaScript thread;
   * rejects without memory or a thread for it. Status busy: not recoverable, nothing was done.
   */
  recover(
    message: number,
    code: NativeCode,
    first: number,
    count: number,
    parityFirst: number,
    stride?: number,
  ): Promise<NativeRecovered>;
  /** The same at once, on the calling thread: for phantom receives, which have no bytes to work on. */
  recoverNow(
    message: number,
    code: NativeCode,
    first: number,
    count: number,
    parityFirst: number,
    stride?: number,
  ): NativeRecovered;
  /** What goes with the CTS of a posted receive, whole words; undefined where the transport has nothing to tell. */
  grant(message: number): Uint8Array | undefined;
  /** Status, plus 16 when the message is complete after it. */
  setLength(message: number, bytes: number): number;
  complete(message: number): number;
  chunkExpand(message: number, chunk: number, bits: BigUint64Array): number;
  /** The value, or undefined until every fragment arrived. */
  userImmediate(message: number): number | undefined;
  chunksDone(message: number): number;
  openSend(message: number, bytes: number, immediate: number): number;
  /** What came with the CTS of an open send, before anything of it is posted. */
  acceptGrant(message: number, grant: Uint8Array | undefined): number;
  postSend(
    message: number,
    workRequest: number,
    region: NativeRegion | null,
    sourceOffset: number,
    firstChunk: number,
    bytes: number,
  ): number;
  closeSend(message: number): number;
  sendControl(kind: number, bytes: Uint8Array, length: number): number;
  lastHeardNs(): number;
  counters(): NativeCounters;
  setLink(link: NativeLink): number;
  close(): void;
}

/** Where drain() and advance() leave events: `words` as Uint32[8 * n], `times` the same memory as Float64[4 * n]. */
export interface NativeEvents {
  readonly words: Uint32Array;
  readonly times: Float64Array;
  readonly control: Uint8Array;
}

export interface NativeWorld {
  addLink(link: NativeLink): number;
  setLink(index: number, link: NativeLink): number;
  linkCounters(index: number): NativeLinkCounters;
  createQp(config: NativeQpConfig): NativeQp;
  connect(a: NativeQp, b: NativeQp, linkAb: number, linkBa: number): number;
  nowNs(): number;
  /** Runs to the next event or to limitNs (Infinity allowed); drains events into `events`, returns how many. */
  advance(limitNs: number): number;
  idle(): boolean;
  /** Keeps records of the next packets, at most 2^22; 0: no more. */
  recordPackets(recordsMax: number): void;
  /** The records since the last call: PACKET_RECORD numbers each. */
  takeRecords(): Float64Array;
  readonly events: NativeEvents;
  close(): void;
}

export interface NativeVerbsOptions {
  device: string;
  /** 0: the first active one. */
  port: number;
  /** -1: chosen. */
  gidIndex: number;
  /** 0: the port's active one. */
  mtu: number;
  channels: number;
  reliable: boolean;
  trafficClass: number;
}

/** The reason for a call's status, as the transport has it: an error, to throw as another. */
export interface Refusal extends Error {
  readonly code: ErrorCode;
  readonly remedy: string;
}

export interface NativeVerbsContext {
  readonly capabilities: {
    device: string;
    driver: string;
    port: number;
    gidIndex: number;
    gid: string;
    linkLayer: string;
    mtu: number;
    /** One indirect key for all receives (mlx5), instead of a key of each message. */
    rootKey: boolean;
    dmabuf: boolean;
    receiveDepth: number;
  };
  createQp(config: NativeQpConfig): NativeQp;
  /** What the peer's connect needs: opaque. */
  info(qp: NativeQp): Uint8Array;
  /** Throws {code, remedy} where the device or `peer`, which is untrusted, is the reason; else a status. */
  connect(qp: NativeQp, peer: Uint8Array, link: NativeLink, seed: number): number;
  /** Why the queue pair failed; "" when it did not. */
  failure(qp: NativeQp): string;
  /** Why a post last gave noMemory; undefined when none did. */
  refusal(qp: NativeQp): Refusal | undefined;
  nowNs(): number;
  drain(): number;
  /** Processor time of each progress thread so far. */
  workerCpuNs(): number[];
  readonly events: NativeEvents;
  close(): void;
}

export interface NativeUdpOptions {
  address: string;
  port: number;
  channels: number;
  socketBufferBytes: number;
  allowGso: boolean;
  allowGro: boolean;
}

export interface NativeUdpContext {
  readonly capabilities: {
    gso: boolean;
    gro: boolean;
    ipv6: boolean;
    receiveBufferBytes: number;
    sendBufferBytes: number;
    payloadBytesMax: number;
  };
  addresses(): { address: string; port: number }[];
  createQp(config: NativeQpConfig, receiveKey: bigint): NativeQp;
  connect(
    qp: NativeQp,
    peer: { address: string; port: number }[],
    sendKey: bigint,
    link: NativeLink,
    seed: number,
  ): number;
  nowNs(): number;
  /** Drains events into `events`, returns how many; call until 0. */
  drain(): number;
  readonly events: NativeEvents;
  unknownDatagrams(): number;
  /** Processor time that each channel's thread has used; 0 where that cannot be told. */
  workerCpuNs(): number[];
  close(): void;
}

export interface NativeDpaContext {
  readonly capabilities: {
    /** "dpa-emulated". */
    name: string;
    /** Receive work requests of a channel and generation, at least. */
    receivesMax: number;
  };
  createQp(config: NativeQpConfig): NativeQp;
  qpInfo(qp: NativeQp): Uint8Array;
  connect(qp: NativeQp, peer: Uint8Array, link: NativeLink, seed: number): number;
  nowNs(): number;
  /** Drains events into `events`, returns how many; call until 0. */
  drain(): number;
  readonly events: NativeEvents;
  close(): void;
}

/** What became of a block: chunks that were missing, parity chunks that it took, whether the message is complete. */
export interface NativeRecovered {
  readonly status: number;
  readonly chunks: number;
  readonly parityUsed: number;
  readonly complete: boolean;
}

/** Statuses of the codec's own calls: the numbers of sdr::codec::Result (native/include/sdr/codec.h). */
export const CODEC_STATUS = { ok: 0, invalid: 1, overlap: 2, tooFew: 3 } as const;

/** An erasure code. Chunks are views of ArrayBuffers, pinned until the promise resolves (with a CODEC_STATUS). */
export interface NativeCode {
  encode(
    data: readonly (ArrayBufferView | null)[],
    parity: readonly ArrayBufferView[],
  ): Promise<number>;
  update(
    index: number,
    chunk: ArrayBufferView,
    parity: readonly ArrayBufferView[],
  ): Promise<number>;
  /** `present`: k + m flags, data first. */
  isRecoverable(present: Uint8Array): boolean;
  /** Writes the data chunks that are not present. */
  decode(
    data: readonly (ArrayBufferView | null)[],
    parity: readonly (ArrayBufferView | null)[],
    present: Uint8Array,
    chunkBytes: number,
  ): Promise<number>;
  /**
   * Encodes one block of a region: chunks `stride` apart (1 when absent), the first one at `offset`, the last one,
   * which may be short, ending `bytes` behind that; at most k. Of the m parity chunks from parityOffset on, those of
   * [rowFirst, rowFirst + rowCount) are written, all when absent.
   */
  encodeBlock(
    source: NativeRegion,
    offset: number,
    bytes: number,
    chunkBytes: number,
    parity: NativeRegion,
    parityOffset: number,
    stride?: number,
    rowFirst?: number,
    rowCount?: number,
  ): Promise<number>;
}

export interface NativeAddon {
  /** kind: 0 mds, 1 xor. Throws a RangeError for a shape that is not valid. */
  createCode(kind: number, k: number, m: number): NativeCode;
  /** Instructions in use, and threads that encode and decode; all contexts and environments share them. */
  codec(): { readonly kernel: string; readonly threads: number };
  /** Pins `buffer` (an ArrayBuffer or a view of one). */
  createRegion(buffer: ArrayBuffer | ArrayBufferView): NativeRegion;
  /** Page-aligned, zeroed memory owned by native code; `buffer` is an external ArrayBuffer over it. */
  allocateRegion(bytes: number): NativeRegion & { readonly buffer: ArrayBuffer };
  /** No memory, only a length. */
  phantomRegion(bytes: number): NativeRegion;
  /** Page-aligned memory of any contents that JavaScript does not see; after its last use it serves the next one. */
  scratchRegion(bytes: number): NativeRegion;
  /** Memory of another device, that only cards touch; `fd` stays the caller's. */
  dmabufRegion(fd: number, offset: number, bytes: number, address: bigint): NativeRegion;
  createWorld(seed: number, progressIntervalNs: number): NativeWorld;
  /** Throws {code: errno name, call} on failure. `wake` is called on the JavaScript thread when events wait. */
  createUdpContext(options: NativeUdpOptions, wake: () => void): NativeUdpContext;
  /** Throws {code, errno, remedy} on failure. */
  createVerbsContext(options: NativeVerbsOptions, wake: () => void): NativeVerbsContext;
  /** Whether the addon was built with rdma-core's headers. */
  readonly hasVerbs: boolean;
  /** Throws {code, errno, remedy} on failure. `wake` as above. */
  createDpaContext(options: { workers: number }, wake: () => void): NativeDpaContext;
  /** Whether DPA contexts of this build can run on a card; otherwise under the emulation only. */
  readonly hasFlexio: boolean;
}

export function addon(): NativeAddon {
  return loadAddon() as NativeAddon;
}
