/**
 * One posted receive: a buffer with a live chunk bitmap beside it. Data may land as soon as the receive is posted
 * and the CTS has reached the sender; the true length is known when the sender's START arrives.
 */
import { check, SdrError } from "../base/errors.ts";
import { ChunkBitmap } from "../reliability/bitmap.ts";
import type { ControlFrame, StartFrame } from "../reliability/frames.ts";
import type { CodingTask } from "../reliability/policy.ts";
import { type NativeCode, type NativeRecovered, STATUS } from "../transport/native.ts";
import { codeOf, isTaskWithin, lastChunk } from "./coding.ts";
import type { ReceiveSide } from "./receive-side.ts";
import type { BufferSource, MemoryRegion } from "./region.ts";
import { Deferred, News, watchAbort } from "./settle.ts";

/** What drives a receive instead of the application. Called by the queue pair. */
export interface ReceiveDriver {
  started(nowNs: number): void;
  /** After every batch of chunks, and once at the start. */
  handleProgress(nowNs: number): void;
  control(frame: ControlFrame, nowNs: number): void;
  /** The sender has the final ACK. */
  done(nowNs: number): void;
  timeout(nowNs: number): void;
  nextTimeoutNs(): number;
  pollControl(nowNs: number): ControlFrame | undefined;
  /** Begins work on bytes that the session asks for. */
  pollTasks?(nowNs: number): void;
  settle(nowNs: number): void;
  failed(error: SdrError): void;
  /** The slot is completed, but the final ACK is still repeated. */
  readonly lingering: boolean;
}

/** What QueuePair.postReceive is told. */
export interface ReceiveOptions {
  /** Where data lands: a region, or a buffer that is registered for the purpose. */
  readonly region: MemoryRegion | BufferSource;
  /** First byte in the region. Default 0. */
  readonly offset?: number;
  /** Most bytes the sender may write. Default: the rest of the region. */
  readonly maxBytes?: number;
  /** Parity chunks that the message may bring besides; memory for them is set aside. Default 0. */
  readonly parityChunks?: number;
  /** Name of the policy at work, "" for none; the sender's must be the same. */
  readonly policy?: string;
  /** Aborting gives the message up on both ends (ABORTED). */
  readonly signal?: AbortSignal | undefined;
}

/** What recovering a block brought: chunks that were missing, and how many parity chunks that took. */
export interface Recovered {
  readonly chunks: number;
  readonly parityUsed: number;
}

/** How much of a message has arrived. */
export interface ReceiveProgress {
  readonly chunksDone: number;
  /** By the posted size until the true length is known. */
  readonly chunkCount: number;
  readonly complete: boolean;
}

/** A posted receive: watch `bitmap` or await `arrived`, then complete() in every case. */
export class ReceiveHandle implements Disposable {
  /** Its number: the send of the same number lands here. */
  readonly message: number;
  /** The buffer, which belongs to the transport until complete(). */
  readonly region: MemoryRegion;
  readonly offset: number;
  readonly maxBytes: number;
  /** Parity chunks that it was posted for. */
  readonly parityChunks: number;
  readonly policy: string;
  /** The true length, once the sender announced it. */
  bytes: number | undefined;
  /** Posted; begun by its sender; completed here; failed with `error`. */
  state: "posted" | "started" | "completed" | "failed" = "posted";
  error: SdrError | undefined;
  /** @internal */
  driver: ReceiveDriver | undefined;
  /** @internal When the CTS is due (again). */
  ctsAtNs = 0;
  private readonly side: ReceiveSide;
  private readonly news: News;
  private readonly startSignal: Deferred<{ bytes: number }>;
  private readonly arrivedSignal: Deferred<void>;
  private readonly stopWatching: () => void;
  /** What recover() has promised and not settled; as many as its callers have asked for. */
  private readonly recoveries = new Set<Deferred<Recovered>>();
  private startImmediate: number | undefined;
  private ctsSent = 0;
  private arrivedNow = false;
  private chunksAtFailure: number | undefined;
  private view: ChunkBitmap;
  private readonly parityView: ChunkBitmap | undefined;

  /** @internal Made by QueuePair.postReceive. */
  constructor(
    side: ReceiveSide,
    message: number,
    options: ReceiveOptions & { readonly region: MemoryRegion; readonly maxBytes: number },
  ) {
    this.side = side;
    this.message = message;
    this.region = options.region;
    this.offset = options.offset ?? 0;
    this.maxBytes = options.maxBytes;
    this.parityChunks = options.parityChunks ?? 0;
    this.policy = options.policy ?? "";
    const woken = () => side.end.userWoken();
    this.news = new News(woken);
    this.startSignal = new Deferred(woken);
    this.arrivedSignal = new Deferred(woken);
    this.view = this.makeView(this.maxBytes);
    if (this.parityChunks > 0) this.parityView = this.makeParityView();
    this.stopWatching = watchAbort(options.signal, () => this.abort());
  }

  /** Resolves with the true length when the sender began; rejects with what ended the message. */
  get started(): Promise<{ bytes: number }> {
    return this.startSignal.promise;
  }

  /** Resolves when every chunk is in place (complete() is still owed). */
  get arrived(): Promise<void> {
    return this.arrivedSignal.promise;
  }

  /**
   * The chunk bitmap, live: it changes as packets arrive. Throws CLOSED once completed, or the error that ended the
   * receive.
   */
  get bitmap(): ChunkBitmap {
    this.checkActive();
    return this.view;
  }

  /** The parity chunks' bitmap, live as `bitmap`, and throws as that does; undefined when none were posted for. */
  get parityBitmap(): ChunkBitmap | undefined {
    this.checkActive();
    return this.parityView;
  }

  /**
   * Makes the missing ones of a block's data chunks from what is there, in place; `bitmap` shows them when the promise
   * resolves, with how many were made. 0 and no effect while too little is there, or when nothing is missing. Errors:
   * INVALID_ARGUMENT for a block that is not the message's, ENVIRONMENT without memory for it, CLOSED or what else
   * ended the receive before.
   */
  async recover(task: CodingTask): Promise<Recovered> {
    this.checkActive();
    const code = this.checkTask(task);
    const { first, count, parityFirst, stride } = task;
    const { end } = this.side;
    const begin = () => end.native.recover(this.message, code, first, count, parityFirst, stride);
    const outcome = new Deferred<Recovered>(() => end.userWoken());
    this.recoveries.add(outcome);
    end.awaitWork(
      begin,
      (result) => {
        this.recoveries.delete(outcome);
        this.handleRecovered(result);
        outcome.resolve(toRecovered(result));
      },
      (cause) => {
        this.recoveries.delete(outcome);
        const what = `a block of message ${this.message} was not recovered: ${(cause as Error).message}`;
        outcome.reject(new SdrError("ENVIRONMENT", what, "free some memory", { cause }));
      },
    );
    return outcome.promise;
  }

  /** Whoever waits learns at once what ended the receive. */
  private endRecoveries(error: SdrError): void {
    for (const outcome of this.recoveries) outcome.reject(error);
    this.recoveries.clear();
  }

  /** @internal As recover(), for a driver: `done` is called before the handle's own news of it. */
  startRecovery(
    task: CodingTask,
    done: (recovered: Recovered) => void,
    fail: (error: unknown) => void,
  ): void {
    const code = this.checkTask(task);
    const { first, count, parityFirst, stride } = task;
    const { end } = this.side;
    const finish = (result: NativeRecovered) => {
      done(toRecovered(result));
      this.handleRecovered(result);
    };
    if (this.region.isPhantom)
      finish(end.native.recoverNow(this.message, code, first, count, parityFirst, stride));
    else {
      const begin = () => end.native.recover(this.message, code, first, count, parityFirst, stride);
      end.awaitWork(begin, finish, fail);
    }
  }

  private checkTask(task: CodingTask): NativeCode {
    const code = codeOf(task.code);
    check(
      this.state === "started" && isTaskWithin(task, this.view.chunkCount, this.parityChunks),
      `block of chunks ${task.first} to ${lastChunk(task)}, parity from ${task.parityFirst} on, is not ` +
        `one of the message's ${this.view.chunkCount} and ${this.parityChunks} parity chunks`,
      "wait for started, and stay within the message",
    );
    return code;
  }

  private handleRecovered({ status, complete }: NativeRecovered): void {
    if (status === STATUS.ok) this.handleProgress(complete, this.side.end.nowNs());
  }

  /** Packet bits of one chunk: bit i of word i >> 6 is packet i. */
  chunkExpand(chunk: number): BigUint64Array {
    this.checkActive();
    check(
      Number.isInteger(chunk) && chunk >= 0 && chunk < this.view.chunkCount,
      `chunk ${chunk} is beyond the message's ${this.view.chunkCount}`,
      "use a chunk of the message",
    );
    const bits = new BigUint64Array(Math.ceil(this.side.end.attributes.packetsPerChunk / 64));
    this.side.end.native.chunkExpand(this.message, chunk, bits);
    return bits;
  }

  /** The sender's 32-bit user immediate: from the packets' fragments, or from START. Undefined: none (yet). */
  get immediate(): number | undefined {
    // START is the authority: packets of a message without an immediate carry fragments too, of zero.
    return this.state === "posted"
      ? this.side.end.native.userImmediate(this.message)
      : this.startImmediate;
  }

  /** Data may still land. */
  get isActive(): boolean {
    return this.state === "posted" || this.state === "started";
  }

  /** Chunks that are in place now. */
  get progress(): ReceiveProgress {
    const complete = this.arrivedNow || this.state === "completed";
    const { chunkCount } = this.view;
    return { chunksDone: complete ? chunkCount : this.chunksDone, chunkCount, complete };
  }

  /** Of a receive that failed, what it had come to: the slot is another's by then, or the queue pair is closed. */
  private get chunksDone(): number {
    return this.chunksAtFailure ?? this.side.end.native.chunksDone(this.message);
  }

  /** Progress now, after each batch of chunks, and at the end. */
  [Symbol.asyncIterator](): AsyncGenerator<ReceiveProgress, void, void> {
    return this.news.watch(() => this.progress);
  }

  /**
   * Ends the receive, early or late. When it returns no byte of the buffer changes any more, whatever arrives.
   * Owed for every posted receive; frees its slot.
   */
  complete(): void {
    if (this.state === "completed" || this.state === "failed") return;
    const early = new SdrError("CLOSED", `receive ${this.message} was completed early`, "");
    if (this.arrivedNow) this.arrivedSignal.resolve();
    if (this.state === "posted") this.side.giveUp(this, early);
    this.state = "completed";
    this.stopWatching();
    this.side.complete(this);
    this.news.close();
    this.startSignal.reject(early);
    this.arrivedSignal.reject(early);
    this.endRecoveries(early);
  }

  [Symbol.dispose](): void {
    this.complete();
  }

  /** Gives the receive up: the sender is told. */
  abort(reason?: SdrError): void {
    this.side.abort(
      this,
      reason ?? new SdrError("ABORTED", `receive of message ${this.message} was aborted`, ""),
    );
  }

  /** @internal Returns an error that ends the message. */
  handleStart(frame: StartFrame, nowNs: number): SdrError | undefined {
    if (this.state !== "posted") {
      this.driver?.control(frame, nowNs);
      return undefined;
    }
    if (frame.policy !== this.policy)
      return new SdrError(
        "PEER_INCOMPATIBLE",
        `the sender of message ${this.message} uses policy "${frame.policy}", the receiver "${this.policy}"`,
        "use the same policy on both ends",
      );
    if (frame.bytes > this.maxBytes)
      return new SdrError(
        "TOO_LARGE",
        `message ${this.message} has ${frame.bytes} B, the receive was posted for ${this.maxBytes}`,
        "post a larger receive",
      );
    const result = this.side.end.native.setLength(this.message, frame.bytes);
    if ((result & 15) !== STATUS.ok)
      return new SdrError(
        "PEER_INCOMPATIBLE",
        `message ${this.message} cannot have ${frame.bytes} B (status ${result & 15})`,
        "",
      );
    this.state = "started";
    this.bytes = frame.bytes;
    this.startImmediate = frame.immediate;
    this.ctsAtNs = Number.POSITIVE_INFINITY;
    this.view = this.makeView(frame.bytes);
    this.startSignal.resolve({ bytes: frame.bytes });
    this.driver?.started(nowNs);
    this.handleProgress(result >= 16, nowNs);
    return undefined;
  }

  /** @internal */
  handleProgress(complete: boolean, nowNs: number): void {
    if (this.state !== "started" && this.state !== "posted") return;
    if (complete && this.state === "started") this.arrivedNow = true;
    this.driver?.handleProgress(nowNs);
    if (this.arrivedNow) this.arrivedSignal.resolve();
    this.news.notify();
  }

  /** @internal The CTS to send now; sets when it is due again: 1.5 RTT, doubling to a cap, until START comes. */
  nextCts(nowNs: number, rttNs: number): ControlFrame {
    const wait =
      Math.max(this.side.end.attributes.rtoFloorNs, 1.5 * rttNs) *
      2 ** Math.min(this.ctsSent++, 10);
    this.ctsAtNs = nowNs + Math.round(Math.min(wait, Math.max(CTS_INTERVAL_NS_MAX, 4 * rttNs)));
    const { message, maxBytes, policy } = this;
    const grant = this.side.end.native.grant(message);
    const cts = { kind: "cts", message, maxBytes, policy } as const;
    return grant === undefined ? cts : { ...cts, grant };
  }

  /** @internal */
  fail(error: SdrError): void {
    if (this.state === "failed") return;
    const lingering = this.state === "completed";
    this.chunksAtFailure = this.progress.chunksDone;
    this.state = "failed";
    this.stopWatching();
    this.error = error;
    this.ctsAtNs = Number.POSITIVE_INFINITY;
    if (!lingering) this.side.complete(this);
    this.news.close();
    this.startSignal.reject(error);
    this.arrivedSignal.reject(error);
    this.endRecoveries(error);
    this.driver?.failed(error);
  }

  private checkActive(): void {
    if (this.error !== undefined) throw this.error;
    if (this.state === "completed")
      throw new SdrError(
        "CLOSED",
        `receive ${this.message} is completed`,
        "read its bitmap before complete()",
      );
  }

  private makeView(bytes: number): ChunkBitmap {
    return this.viewOf(0, Math.ceil(bytes / this.side.end.attributes.chunkBytes));
  }

  private makeParityView(): ChunkBitmap {
    return this.viewOf(this.side.end.native.parityBits(this.maxBytes) / 8, this.parityChunks);
  }

  private viewOf(offset: number, chunkCount: number): ChunkBitmap {
    const { native, attributes } = this.side.end;
    const at = (this.message % attributes.maxMessages) * native.bitmapStride + offset;
    const words = new Uint32Array(native.bitmaps, at, Math.ceil(chunkCount / 32));
    return new ChunkBitmap(words, chunkCount);
  }
}

function toRecovered({ status, chunks, parityUsed }: NativeRecovered): Recovered {
  return status === STATUS.ok ? { chunks, parityUsed } : { chunks: 0, parityUsed: 0 };
}

const CTS_INTERVAL_NS_MAX = 250e6;
