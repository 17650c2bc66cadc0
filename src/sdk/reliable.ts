/**
 * Reliable transfers: a policy's sessions driven by the events of send and receive handles. Everything here uses the
 * handles' public calls; a policy sees only its session.
 */
import { check } from "../base/errors.ts";
import type { Policy } from "../reliability/policy.ts";
import { type DrivenOptions, parityChunksOf, type TransferProgress } from "./driven.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { ReceiveHandle } from "./receive-handle.ts";
import { type BufferSource, MemoryRegion } from "./region.ts";
import { type ReceiveReport, ReliableReceive } from "./reliable-receive.ts";
import { ReliableSend, type WriteReport } from "./reliable-send.ts";
import type { SendHandle } from "./send-handle.ts";
import type { Deferred, News } from "./settle.ts";

export type { TransferProgress } from "./driven.ts";
export type { ReceiveReport } from "./reliable-receive.ts";
export type { WriteReport } from "./reliable-send.ts";

export interface TransferOptions extends DrivenOptions {
  /** First byte in the region. Default 0. */
  readonly offset?: number;
  /** Bytes to send, or the most to receive. Default: the rest of the region. */
  readonly bytes?: number;
  /** Aborting gives the message up on both ends (ABORTED). */
  readonly signal?: AbortSignal;
}

export interface WriteOptions extends TransferOptions {
  /** 32 bits for the receiver. */
  readonly immediate?: number;
}

/** A promise of the report that can also be watched and given up. */
export interface Transfer<Report> extends Promise<Report> {
  readonly message: number;
  /** Progress now, after each piece of news, and at the end; then ends. */
  progress(): AsyncGenerator<TransferProgress, void, void>;
  /** Gives the message up on both ends (ABORTED). */
  abort(): void;
}

/**
 * Sends a region's bytes (or a buffer, registered for the purpose) as the queue pair's next message and resolves when
 * the receiver has all of it. The region belongs to the transfer until then. Several may be in flight.
 * Errors: PEER_UNREACHABLE, PEER_INCOMPATIBLE (another policy), TOO_LARGE, ABORTED, DEADLINE_EXCEEDED, CLOSED, BUSY.
 */
export function reliableWrite(
  qp: QueuePair,
  source: MemoryRegion | BufferSource,
  policy: Policy,
  options: WriteOptions = {},
): Transfer<WriteReport> {
  checkTransfer(policy, options);
  const region = MemoryRegion.of(source);
  const { offset = 0, immediate, signal } = options;
  const bytes = options.bytes ?? region.bytes - offset;
  region.checkRange(offset, bytes, qp.capabilities);
  const handle = qp.startSend({ bytes, immediate, policy: policy.name, signal });
  handle.source = { region, offset };
  const driver = new ReliableSend(qp, handle, policy, options);
  handle.driver = driver;
  qp.act();
  return transfer(driver, handle);
}

/**
 * Posts the queue pair's next receive under a policy and resolves when all of the message is in the region, which
 * nothing changes from then on. Errors: as reliableWrite's.
 */
export function reliableReceive(
  qp: QueuePair,
  target: MemoryRegion | BufferSource,
  policy: Policy,
  options: TransferOptions = {},
): Transfer<ReceiveReport> {
  checkTransfer(policy, options);
  const region = MemoryRegion.of(target);
  const { offset = 0, signal } = options;
  const maxBytes = options.bytes ?? region.bytes - offset;
  const parityChunks = parityChunksOf(policy, Math.ceil(maxBytes / qp.attributes.chunkBytes));
  const handle = qp.postReceive({
    region,
    offset,
    maxBytes,
    parityChunks,
    policy: policy.name,
    signal,
  });
  const driver = new ReliableReceive(qp, handle, policy, options);
  handle.driver = driver;
  return transfer(driver, handle);
}

function checkTransfer(policy: Policy, { timeoutNs }: TransferOptions): void {
  check(
    typeof policy?.name === "string" &&
      typeof policy.createSender === "function" &&
      typeof policy.createReceiver === "function",
    `${typeof policy === "object" ? "an object" : String(policy)} is not a policy`,
    'pass one of your own, or parsePolicy("sr-nack")',
  );
  check(
    timeoutNs === undefined || (typeof timeoutNs === "number" && timeoutNs > 0),
    `timeoutNs ${timeoutNs} is not valid`,
    "use nanoseconds above 0, or leave it out",
  );
}

interface Watched<Report> {
  readonly result: Deferred<Report>;
  readonly news: News;
  progress(): TransferProgress;
}

function transfer<Report>(
  watched: Watched<Report>,
  handle: SendHandle | ReceiveHandle,
): Transfer<Report> {
  return Object.assign(watched.result.promise, {
    message: handle.message,
    progress: () => watched.news.watch(() => watched.progress()),
    abort: () => handle.abort(),
  });
}
