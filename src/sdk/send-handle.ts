/**
 * One message being sent. It waits for the receiver's CTS (order-based matching: the n-th send goes into the n-th
 * posted receive), then chunk ranges may be injected, to any offset and as often as wanted; how a lost chunk is
 * sent again is the caller's, or a policy's, business.
 */
import { check, SdrError } from "../base/errors.ts";
import type { ControlFrame, CtsFrame } from "../reliability/frames.ts";
import type { ChunkRange } from "../reliability/policy.ts";
import { STATUS } from "../transport/native.ts";
import { MemoryRegion } from "./region.ts";
import type { SendSide } from "./send-side.ts";
import { Deferred, watchAbort } from "./settle.ts";

/** A range of chunks to inject; see SendHandle.continue. */
export interface ContinueRequest {
  /** Where the bytes are. It belongs to the transport until they are injected. */
  readonly region: MemoryRegion;
  /** First byte in the region. */
  readonly offset: number;
  /** Where it goes: first chunk of the remote buffer. */
  readonly chunk: number;
  /** A multiple of the chunk size, unless it ends at the message's end. */
  readonly bytes: number;
  /** `chunk` is a parity chunk, counted from 0: they go beside the message, where its receiver made room for them. */
  readonly parity?: boolean;
}

/** What drives a message instead of the application: the reliable layer attaches one. Called by the queue pair. */
export interface SendDriver {
  ready(nowNs: number): void;
  control(frame: ControlFrame, nowNs: number): void;
  injected(first: number, count: number, nowNs: number, parity: boolean): void;
  timeout(nowNs: number): void;
  nextTimeoutNs(): number;
  pollControl(nowNs: number): ControlFrame | undefined;
  pollTransmit(maxChunks: number, nowNs: number): ChunkRange | undefined;
  /** Begins work on bytes that the session asks for. */
  pollTasks?(nowNs: number): void;
  /** After each round of polling: look whether the session has ended. */
  settle(nowNs: number): void;
  failed(error: SdrError): void;
}

export interface SendOptions {
  /** Length of the whole message, 0 or more. */
  readonly bytes: number;
  /** 32 bits for the receiver. */
  readonly immediate?: number | undefined;
  /** Name of the policy at work, "" for none; the receiver's must be the same. */
  readonly policy?: string;
  /** Aborting gives the message up on both ends (ABORTED). */
  readonly signal?: AbortSignal | undefined;
}

/** A message being sent: await `ready`, `continue` as often as wanted, `end`, await `injected`. */
export class SendHandle {
  /** Its number: the receive of the same number takes it. */
  readonly message: number;
  readonly bytes: number;
  readonly chunkCount: number;
  readonly immediate: number | undefined;
  readonly policy: string;
  /** Waiting for the receiver; open for data; ended in good order; failed with `error`. */
  state: "waiting" | "open" | "ended" | "failed" = "waiting";
  error: SdrError | undefined;
  /** @internal */
  driver: SendDriver | undefined;
  /** @internal Where a driver's chunks come from, and its parity chunks. */
  source: { region: MemoryRegion; offset: number } | undefined;
  /** @internal */
  parity: MemoryRegion | undefined;
  /** What the receiver posted for this message, once it is ready. */
  postedBytes: number | undefined;
  /** @internal A range the driver gave that the transport had no room for yet. */
  pending: ChunkRange | undefined;
  /** @internal Further copies of START, once there was a first, and when the next is due. */
  startsLeft: number | undefined;
  /** @internal */
  startAtNs = Number.POSITIVE_INFINITY;
  private readonly side: SendSide;
  private readonly readySignal: Deferred<void>;
  private readonly endSignal: Deferred<void>;
  private readonly stopWatching: () => void;
  private roomSignal: Deferred<void> | undefined;
  private outstanding = 0;
  private ending = false;

  /** @internal Made by QueuePair.startSend. */
  constructor(side: SendSide, message: number, options: SendOptions) {
    this.side = side;
    this.message = message;
    this.bytes = options.bytes;
    this.chunkCount = Math.ceil(options.bytes / side.end.attributes.chunkBytes);
    this.immediate = options.immediate;
    this.policy = options.policy ?? "";
    this.readySignal = new Deferred(() => side.end.userWoken());
    this.endSignal = new Deferred(() => side.end.userWoken());
    this.stopWatching = watchAbort(options.signal, () => this.abort());
  }

  /** Resolves when the receiver is ready; rejects with what ended the message before. */
  get ready(): Promise<void> {
    return this.readySignal.promise;
  }

  /**
   * Resolves when, after end(), everything posted has been injected. It says nothing about arrival: packets under way
   * on an impaired link are still read from the region, whose bytes must not change before the message is delivered.
   */
  get injected(): Promise<void> {
    return this.endSignal.promise;
  }

  /** Resolves when something of this message has been injected since, so that continue() may have room again. */
  get room(): Promise<void> {
    if (this.outstanding === 0) return Promise.resolve();
    this.roomSignal ??= new Deferred(() => this.side.end.userWoken());
    return this.roomSignal.promise;
  }

  private wakeRoom(): void {
    this.roomSignal?.resolve();
    this.roomSignal = undefined;
  }

  /**
   * Injects chunks. "busy": no room now, await `room` and try again. Throws CLOSED before ready or after end, and what
   * the message failed with.
   */
  continue(request: ContinueRequest): "ok" | "busy" {
    if (this.error !== undefined) throw this.error;
    if (this.state !== "open" || this.ending)
      throw new SdrError(
        "CLOSED",
        `message ${this.message} takes no more data (${this.state})`,
        "await ready, and post before end",
      );
    const { offset, chunk, bytes, region, parity = false } = request;
    if (parity) this.checkParity(chunk, bytes);
    else this.checkData(chunk, bytes);
    check(
      region instanceof MemoryRegion,
      "data comes from a MemoryRegion",
      "register the buffer once, and pass the region",
    );
    region.checkRange(offset, bytes, this.side.end.capabilities);
    const status = this.side.post(this, region, offset, chunk, bytes, parity);
    if (status === STATUS.ok) this.outstanding++;
    return status === STATUS.ok ? "ok" : "busy";
  }

  private checkData(chunk: number, bytes: number): void {
    const { chunkBytes } = this.side.end.attributes;
    check(
      Number.isInteger(chunk) && chunk >= 0 && chunk < this.chunkCount,
      `chunk ${chunk} is beyond the message's ${this.chunkCount}`,
      "use a chunk of the message",
    );
    const rest = this.bytes - chunk * chunkBytes;
    check(
      Number.isSafeInteger(bytes) &&
        bytes > 0 &&
        bytes <= rest &&
        (bytes === rest || bytes % chunkBytes === 0),
      `bytes ${bytes} is not whole chunks up to the message's end (${rest} B left)`,
      `use a multiple of ${chunkBytes}, or ${rest}`,
    );
  }

  private checkParity(chunk: number, bytes: number): void {
    const { chunkBytes, packetsPerChunk, split } = this.side.end.attributes;
    const chunksMax = Math.floor(2 ** split[1] / packetsPerChunk) - this.parityFirst;
    check(
      Number.isInteger(chunk) &&
        chunk >= 0 &&
        Number.isSafeInteger(bytes) &&
        bytes > 0 &&
        bytes % chunkBytes === 0 &&
        chunk + bytes / chunkBytes <= chunksMax,
      `parity of ${bytes} B at chunk ${chunk} is not whole chunks within the ${chunksMax} that the split has room for`,
      `use a multiple of ${chunkBytes}, and a split with more packet bits`,
    );
  }

  /** @internal Number of the first parity chunk, as the receiver counts. */
  get parityFirst(): number {
    return Math.ceil((this.postedBytes ?? 0) / this.side.end.attributes.chunkBytes);
  }

  /** No more data will be posted; the handle ends once what was posted is injected. */
  end(): void {
    if (this.state !== "open" || this.ending) return;
    this.ending = true;
    if (this.outstanding === 0) this.finish();
  }

  /** Gives the message up: the peer is told, promises reject with ABORTED. */
  abort(reason?: SdrError): void {
    this.side.abort(
      this,
      reason ?? new SdrError("ABORTED", `send of message ${this.message} was aborted`, ""),
    );
  }

  /** @internal */
  handleCts(frame: CtsFrame, nowNs: number): SdrError | undefined {
    if (frame.policy !== this.policy) {
      return new SdrError(
        "PEER_INCOMPATIBLE",
        `the receiver of message ${this.message} uses policy "${frame.policy}", the sender "${this.policy}"`,
        "use the same policy on both ends",
      );
    }
    if (this.bytes > frame.maxBytes) {
      return new SdrError(
        "TOO_LARGE",
        `message ${this.message} has ${this.bytes} B, the receiver posted ${frame.maxBytes}`,
        "post a larger receive",
      );
    }
    if (this.state === "waiting") {
      if (this.side.end.native.acceptGrant(this.message, frame.grant) !== STATUS.ok)
        return new SdrError(
          "PEER_INCOMPATIBLE",
          `the receiver of message ${this.message} sent a grant of ${frame.grant?.length ?? 0} B, unknown here`,
          "use the same version and the same transport on both ends",
        );
      this.state = "open";
      this.postedBytes = frame.maxBytes;
      this.readySignal.resolve();
      this.driver?.ready(nowNs);
    }
    return undefined;
  }

  /** @internal */
  handleInjected({ first, count, parity = false }: ChunkRange, nowNs: number): void {
    this.outstanding--;
    this.wakeRoom();
    this.driver?.injected(first, count, nowNs, parity);
    if (this.ending && this.outstanding === 0) this.finish();
  }

  /** @internal */
  finish(): void {
    if (this.state === "ended" || this.state === "failed") return;
    this.state = "ended";
    this.stopWatching();
    this.wakeRoom();
    this.side.release(this, undefined);
    this.endSignal.resolve();
  }

  /** @internal */
  fail(error: SdrError): void {
    if (this.state === "ended" || this.state === "failed") return;
    this.state = "failed";
    this.stopWatching();
    this.wakeRoom();
    this.error = error;
    this.side.release(this, error);
    this.readySignal.reject(error);
    this.endSignal.reject(error);
    this.driver?.failed(error);
  }
}
