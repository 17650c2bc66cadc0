/**
 * What the SDK sees of a transport: capabilities, queue pairs, and a pump that delivers native events and
 * timeouts to queue pairs. Transports differ in what moves packets and what time is; this file is what they share.
 */
import { check, type ErrorCode, SdrError } from "../base/errors.ts";
import type { LinkProfile } from "../link/profile.ts";
import {
  EVENT,
  type NativeEvents,
  type NativeQp,
  type NativeQpConfig,
  type Refusal,
  STATUS,
} from "./native.ts";

/** What a transport can do. Tests skip, with this as the printed reason, what one cannot. */
export interface Capabilities {
  readonly name: string;
  /** Time is computed, not measured: `nowNs` jumps. */
  readonly virtualTime: boolean;
  /** Messages without memory (bitmaps only). */
  readonly phantom: boolean;
  /** Memory of another device (MemoryRegion.dmabuf): a card reads and writes it. */
  readonly dmabuf: boolean;
  /** Packets are moved by a network card that knows them. */
  readonly hardware: boolean;
  /** Send buffers are read in place; receive payloads are placed into the user's buffer. */
  readonly zeroCopySend: boolean;
  /** Corrupted packets reach this end and are counted; a card discards them before anybody can. */
  readonly countsCorrupted: boolean;
  /**
   * Packets that come for a completed receive reach this end and are counted; where each message has its own key,
   * revoked at completion, the card discards them.
   */
  readonly countsLate: boolean;
  /** UDP segmentation and receive offload in use. */
  readonly gso: boolean;
  readonly gro: boolean;
  /** Payload of a packet. The default is what the path takes whole, as far as this end can see. */
  readonly packetBytesMin: number;
  readonly packetBytesMax: number;
  readonly packetBytesDefault: number;
  /** Most channels of a queue pair; over UDP both ends must have the same number. */
  readonly channels: number;
  /** Most bytes that may be unread at the receiver before packets are lost there; Infinity when it cannot happen. */
  readonly receiveBufferBytes: number;
}

/** The transport's part of a queue pair's info blob: plain JSON data, checked by the transport that reads it. */
export type TransportInfo = Readonly<Record<string, unknown>>;

/** A queue pair's side towards the pump. Time in integer nanoseconds of the transport's clock. */
export interface QpListener {
  handleInjected(message: number, workRequest: number, nowNs: number): void;
  handleProgress(message: number, complete: boolean, nowNs: number): void;
  /** `bytes` is valid during the call only. */
  handleControl(bytes: Uint8Array, nowNs: number): void;
  handleTransportError(errno: number, nowNs: number): void;
  handleTimeout(nowNs: number): void;
  /** Called once after a batch of events: act on what the handlers noted. */
  flush(nowNs: number): void;
  nextTimeoutNs(): number;
}

export interface TransportQp {
  readonly native: NativeQp;
  /** What the peer needs to reach this end. */
  info(): TransportInfo;
  /** Throws PEER_INCOMPATIBLE when `peer` is not of this transport or malformed. */
  connect(peer: TransportInfo): void;
  /** Why the transport said that it failed, in words; "" when it has none. */
  failure?(): string;
  /** Why the last post that gave STATUS.noMemory was refused, where the transport knows. */
  refusal?(): Refusal | undefined;
  close(): void;
}

export interface Transport {
  readonly capabilities: Capabilities;
  /** Impairs what this end sends. */
  readonly link: LinkProfile;
  nowNs(): number;
  createQp(config: NativeQpConfig, listener: QpListener): TransportQp;
  /** Something outside the pump changed a queue pair's timers or woke user code: look again. */
  rearm(): void;
  /** User code was given something to do (a promise was settled): virtual time must wait for it. */
  userWoken(): void;
  /**
   * Has other threads do work that `begin` gives them, and calls `then` with its result; in virtual time no time passes
   * meanwhile, and nothing else happens.
   */
  awaitWork<T>(begin: () => Promise<T>, then: (result: T) => void): void;
  /** Absent: no workers. Processor time that each worker thread has used; 0 where that cannot be told. */
  workerCpuNs?(): readonly number[];
  close(): void;
}

/** Queue pairs by native id, and the delivery of one drained batch to them. */
export class Pump {
  private readonly listeners = new Map<number, QpListener>();
  private readonly touched = new Set<QpListener>();

  add(id: number, listener: QpListener): void {
    this.listeners.set(id, listener);
  }

  remove(id: number): void {
    this.listeners.delete(id);
  }

  get size(): number {
    return this.listeners.size;
  }

  /** Delivers `count` events as of `nowNs`, then flushes the queue pairs they touched. */
  dispatch(events: NativeEvents, count: number, nowNs: number): void {
    const { words, times, control } = events;
    for (let i = 0; i < count; i++) {
      const at = i * 8;
      const listener = this.listeners.get(words[at + 1] as number);
      if (listener === undefined) continue; // closed while the event was under way
      const message = words[at + 2] as number;
      const value = words[at + 3] as number;
      switch (words[at]) {
        case EVENT.injected:
          listener.handleInjected(message, value, Math.min(times[i * 4 + 2] as number, nowNs));
          break;
        case EVENT.progress:
          listener.handleProgress(message, value === 1, nowNs);
          break;
        case EVENT.control: {
          const offset = times[i * 4 + 3] as number;
          listener.handleControl(control.subarray(offset, offset + value), nowNs);
          break;
        }
        case EVENT.error:
          listener.handleTransportError(value, nowNs);
          break;
      }
      this.touched.add(listener);
    }
    for (const listener of this.touched) listener.flush(nowNs);
    this.touched.clear();
  }

  /** Delivers due timeouts. */
  expire(nowNs: number): void {
    for (const listener of [...this.listeners.values()]) {
      if (listener.nextTimeoutNs() <= nowNs) {
        listener.handleTimeout(nowNs);
        listener.flush(nowNs);
      }
    }
  }

  nextTimeoutNs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const listener of this.listeners.values()) {
      const at = listener.nextTimeoutNs();
      if (at < next) next = at;
    }
    return next;
  }
}

/** What is wrong with a peer's info: it came from outside. */
export function infoError(what: string, cause?: unknown): SdrError {
  return new SdrError(
    "PEER_INCOMPATIBLE",
    `the peer's info ${what}`,
    "pass what the peer's info() returned, unchanged",
    { cause },
  );
}

/** Runs a call of the addon; what the device behind it gives as its reason, {code, remedy}, becomes an SdrError. */
export function withReason<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    const { code, remedy } = cause as { code?: string; remedy?: string };
    if (cause instanceof SdrError || code === undefined || remedy === undefined) throw cause;
    throw new SdrError(code as ErrorCode, (cause as Error).message, remedy, { cause });
  }
}

export function checkSeed(seed: number): void {
  check(
    Number.isSafeInteger(seed) && seed >= 0,
    `seed ${seed} is not valid`,
    "use a whole number from 0 to 2^53-1",
  );
}

/** Creates the native queue pair. Errors: INVALID_ARGUMENT for a refused configuration, BUSY. */
export function createNativeQp(create: () => NativeQp, config: NativeQpConfig): NativeQp {
  try {
    return withReason(create);
  } catch (cause) {
    if (cause instanceof SdrError) throw cause;
    if ((cause as { status?: number }).status === STATUS.busy)
      throw new SdrError("BUSY", "the transport has no room for another queue pair", "close some", {
        cause,
      });
    throw new SdrError(
      "INVALID_ARGUMENT",
      `the transport refused the queue pair: packet ${config.packetBytes} B x ${config.packetsPerChunk} a chunk, ` +
        `split ${config.split.join("+")}, ${config.slots} messages of ${config.maxMessageBytes} B`,
      "use fewer messages, a smaller maxMessageBytes or another split",
      { cause },
    );
  }
}
