/**
 * Reliable transfers: a policy's sessions driven by the events of send and receive handles. Everything here uses the
 * handles' public calls; a policy sees only its session.
 */
import { SdrError } from "../base/errors.ts";
import type { ControlFrame } from "../reliability/frames.ts";
import type {
  ChunkRange,
  Policy,
  ReceiveSession,
  SendSession,
  SessionParams,
} from "../reliability/policy.ts";
import { toSdrError } from "./end.ts";
import type { QueuePair } from "./queue-pair.ts";
import type { ReceiveDriver, ReceiveHandle } from "./receive-handle.ts";
import { type BufferSource, MemoryRegion } from "./region.ts";
import type { SendDriver, SendHandle } from "./send-handle.ts";
import { Deferred, News } from "./settle.ts";

export interface TransferOptions {
  /** First byte in the region. Default 0. */
  readonly offset?: number;
  /** Bytes to send, or the most to receive. Default: the rest of the region. */
  readonly bytes?: number;
  /** Aborting gives the message up on both ends (ABORTED). */
  readonly signal?: AbortSignal;
  /** The transfer fails with DEADLINE_EXCEEDED when it has not completed this long after the call. */
  readonly timeoutNs?: number;
}

export interface WriteOptions extends TransferOptions {
  /** 32 bits for the receiver. */
  readonly immediate?: number;
}

export interface WriteReport {
  readonly message: number;
  readonly bytes: number;
  readonly chunks: number;
  readonly policy: string;
  /** First injection to the sender's learning that all is delivered. */
  readonly completionNs: number;
  readonly startNs: number;
  readonly chunksRetransmitted: number;
  readonly timeouts: number;
  readonly nacksReceived: number;
}

export interface ReceiveReport {
  readonly message: number;
  readonly bytes: number;
  readonly chunks: number;
  readonly policy: string;
  readonly immediate: number | undefined;
  /** From the sender's START to the last chunk. */
  readonly durationNs: number;
}

export interface TransferProgress {
  readonly chunksDone: number;
  readonly chunkCount: number;
}

/** A promise of the report that can also be watched and given up. */
export interface Transfer<Report> extends Promise<Report> {
  readonly message: number;
  /** Progress now, after each piece of news, and at the end; then ends. */
  progress(): AsyncGenerator<TransferProgress, void, void>;
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
  const region = toRegion(source);
  const { offset = 0, immediate, signal } = options;
  const bytes = options.bytes ?? region.bytes - offset;
  region.checkRange(offset, bytes);
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
  const region = toRegion(target);
  const { offset = 0, signal } = options;
  const maxBytes = options.bytes ?? region.bytes - offset;
  const handle = qp.postReceive({ region, offset, maxBytes, policy: policy.name, signal });
  const driver = new ReliableReceive(qp, handle, policy, options);
  handle.driver = driver;
  return transfer(driver, handle);
}

function toRegion(memory: MemoryRegion | BufferSource): MemoryRegion {
  return memory instanceof MemoryRegion ? memory : MemoryRegion.register(memory);
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

function sessionParams(qp: QueuePair, bytes: number, startNs: number): SessionParams {
  const { chunkBytes, packetBytes, rtoFloorNs } = qp.attributes;
  return {
    messageBytes: bytes,
    chunkBytes,
    chunkCount: Math.ceil(bytes / chunkBytes),
    packetBytes,
    windowChunks: qp.windowChunks(),
    frameBytesMax: packetBytes,
    rtoFloorNs,
    path: qp.path,
    startNs,
  };
}

function deadlineExceeded(what: string, timeoutNs: number): SdrError {
  return new SdrError(
    "DEADLINE_EXCEEDED",
    `${what} did not complete within ${timeoutNs} ns`,
    "raise timeoutNs, or look at the path's loss and rate",
  );
}

/** A policy is the user's code: what it throws fails its message, with INVALID_ARGUMENT unless it is an SdrError. */
function attempt<T>(handle: SendHandle | ReceiveHandle, call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    handle.abort(toSdrError(error));
    return undefined;
  }
}

class ReliableSend implements SendDriver, Watched<WriteReport> {
  readonly result: Deferred<WriteReport>;
  readonly news: News;
  private readonly qp: QueuePair;
  private readonly handle: SendHandle;
  private readonly policy: Policy;
  private readonly timeoutNs: number;
  private readonly deadlineNs: number;
  private session: SendSession | undefined;
  private startNs = 0;
  private acknowledged = 0;

  constructor(qp: QueuePair, handle: SendHandle, policy: Policy, options: TransferOptions) {
    this.qp = qp;
    this.handle = handle;
    this.policy = policy;
    this.timeoutNs = options.timeoutNs ?? Number.POSITIVE_INFINITY;
    this.deadlineNs = qp.nowNs() + this.timeoutNs;
    this.result = new Deferred(() => qp.userWoken());
    this.news = new News(() => qp.userWoken());
  }

  progress(): TransferProgress {
    return { chunksDone: this.acknowledged, chunkCount: this.handle.chunkCount };
  }

  ready(nowNs: number): void {
    this.startNs = nowNs;
    const params = sessionParams(this.qp, this.handle.bytes, nowNs);
    this.session = attempt(this.handle, () => this.policy.createSender(params));
  }

  control(frame: ControlFrame, nowNs: number): void {
    attempt(this.handle, () => this.session?.handleControl(frame, nowNs));
  }

  injected(first: number, count: number, nowNs: number): void {
    attempt(this.handle, () => this.session?.handleInjected(first, count, nowNs));
  }

  timeout(nowNs: number): void {
    if (nowNs >= this.deadlineNs)
      this.handle.abort(deadlineExceeded(`write ${this.handle.message}`, this.timeoutNs));
    else attempt(this.handle, () => this.session?.handleTimeout(nowNs));
  }

  nextTimeoutNs(): number {
    return Math.min(this.deadlineNs, this.session?.nextTimeoutNs() ?? Number.POSITIVE_INFINITY);
  }

  pollControl(nowNs: number): ControlFrame | undefined {
    return attempt(this.handle, () => this.session?.pollControl(nowNs));
  }

  pollTransmit(maxChunks: number, nowNs: number): ChunkRange | undefined {
    return attempt(this.handle, () => this.session?.pollTransmit(maxChunks, nowNs));
  }

  settle(nowNs: number): void {
    const { session, handle } = this;
    if (session === undefined || this.result.settled) return;
    if (session.chunksAcknowledged !== this.acknowledged) {
      this.acknowledged = session.chunksAcknowledged;
      this.news.notify();
    }
    if (session.state === "failed") {
      handle.abort(
        session.error ??
          new SdrError(
            "UNRECOVERABLE_LOSS",
            `policy ${this.policy.name} gave message ${handle.message} up`,
            "use a policy that retransmits",
          ),
      );
      return;
    }
    if (session.state !== "done") return;
    this.acknowledged = handle.chunkCount;
    const { chunksRetransmitted, timeouts, nacksReceived } = session.counters;
    this.qp.confirm(handle.message);
    handle.finish();
    this.news.close();
    this.result.resolve({
      message: handle.message,
      bytes: handle.bytes,
      chunks: handle.chunkCount,
      policy: this.policy.name,
      completionNs: nowNs - this.startNs,
      startNs: this.startNs,
      chunksRetransmitted,
      timeouts,
      nacksReceived,
    });
  }

  failed(error: SdrError): void {
    this.news.close();
    this.result.reject(error);
  }
}

class ReliableReceive implements ReceiveDriver, Watched<ReceiveReport> {
  readonly result: Deferred<ReceiveReport>;
  readonly news: News;
  private readonly qp: QueuePair;
  private readonly handle: ReceiveHandle;
  private readonly policy: Policy;
  private readonly timeoutNs: number;
  private deadlineNs: number;
  private lingerUntilNs = Number.POSITIVE_INFINITY;
  private session: ReceiveSession | undefined;
  private startNs = 0;

  constructor(qp: QueuePair, handle: ReceiveHandle, policy: Policy, options: TransferOptions) {
    this.qp = qp;
    this.handle = handle;
    this.policy = policy;
    this.timeoutNs = options.timeoutNs ?? Number.POSITIVE_INFINITY;
    this.deadlineNs = qp.nowNs() + this.timeoutNs;
    this.result = new Deferred(() => qp.userWoken());
    this.news = new News(() => qp.userWoken());
  }

  get lingering(): boolean {
    return (
      this.session !== undefined &&
      this.session.state === "active" &&
      this.handle.state === "completed"
    );
  }

  progress(): TransferProgress {
    const { chunksDone, chunkCount } = this.handle.progress;
    return { chunksDone, chunkCount };
  }

  started(nowNs: number): void {
    this.startNs = nowNs;
    const params = sessionParams(this.qp, this.handle.bytes ?? 0, nowNs);
    this.session = attempt(this.handle, () => this.policy.createReceiver(params));
  }

  handleProgress(nowNs: number): void {
    attempt(this.handle, () => this.session?.handleProgress(this.handle.bitmap, nowNs));
    this.news.notify();
  }

  control(frame: ControlFrame, nowNs: number): void {
    attempt(this.handle, () => this.session?.handleControl(frame, nowNs));
  }

  done(nowNs: number): void {
    attempt(this.handle, () => this.session?.handleDone(nowNs));
  }

  timeout(nowNs: number): void {
    if (nowNs >= this.lingerUntilNs) attempt(this.handle, () => this.session?.handleDone(nowNs));
    else if (nowNs >= this.deadlineNs)
      this.handle.abort(deadlineExceeded(`receive ${this.handle.message}`, this.timeoutNs));
    else attempt(this.handle, () => this.session?.handleTimeout(nowNs));
  }

  nextTimeoutNs(): number {
    if (this.session !== undefined && this.session.state !== "active")
      return Number.POSITIVE_INFINITY;
    return Math.min(
      this.deadlineNs,
      this.lingerUntilNs,
      this.session?.nextTimeoutNs() ?? Number.POSITIVE_INFINITY,
    );
  }

  pollControl(nowNs: number): ControlFrame | undefined {
    return attempt(this.handle, () => this.session?.pollControl(nowNs));
  }

  settle(nowNs: number): void {
    const { session, handle } = this;
    if (session === undefined || this.result.settled) return;
    if (session.state === "failed") {
      handle.abort(
        new SdrError(
          "UNRECOVERABLE_LOSS",
          `policy ${this.policy.name} gave message ${handle.message} up`,
          "use a policy that retransmits",
        ),
      );
      return;
    }
    if (!session.complete) return;
    const { immediate, message, bytes = 0 } = handle;
    this.deadlineNs = Number.POSITIVE_INFINITY;
    this.lingerUntilNs = nowNs + this.qp.attributes.peerTimeoutNs;
    handle.complete();
    this.news.close();
    this.result.resolve({
      message,
      bytes,
      chunks: Math.ceil(bytes / this.qp.attributes.chunkBytes),
      policy: this.policy.name,
      immediate,
      durationNs: nowNs - this.startNs,
    });
  }

  failed(error: SdrError): void {
    this.news.close();
    this.result.reject(error);
  }
}
