/**
 * The receiving direction of a queue pair: posted receives and their CTS, what is arriving, final ACKs still being
 * repeated, and how recent messages ended.
 */
import { check, SdrError } from "../base/errors.ts";
import { checkPolicyName } from "../reliability/codec.ts";
import type { ControlFrame, StartFrame } from "../reliability/frames.ts";
import { STATUS } from "../transport/native.ts";
import { parityRegion } from "./coding.ts";
import { closeFrame, type End, pollFrames, remember } from "./end.ts";
import { Goodbyes } from "./goodbyes.ts";
import { ReceiveHandle, type ReceiveOptions } from "./receive-handle.ts";
import { MemoryRegion } from "./region.ts";
import { checkSignal } from "./settle.ts";

export class ReceiveSide {
  readonly end: End;
  private readonly handles = new Map<number, ReceiveHandle>();
  /** The last `maxMessages` that ended, with the error of those that failed. */
  private readonly ended = new Map<number, SdrError | undefined>();
  private readonly goodbyes: Goodbyes;
  private next = 0;

  constructor(end: End) {
    this.end = end;
    this.goodbyes = new Goodbyes(end, "receive");
  }

  /** A receive is not completed yet. */
  get isWaiting(): boolean {
    for (const handle of this.handles.values()) if (handle.isActive) return true;
    return !this.goodbyes.isEmpty;
  }

  /** A final ACK is not confirmed yet. */
  get isLingering(): boolean {
    for (const handle of this.handles.values()) if (handle.driver?.lingering) return true;
    return false;
  }

  post(options: ReceiveOptions): ReceiveHandle {
    const { chunkBytes, maxMessageBytes, maxMessages, packetBytes, receiveEnabled } =
      this.end.attributes;
    if (!receiveEnabled)
      throw new SdrError(
        "UNSUPPORTED",
        "this queue pair does not receive",
        "create it with receiveEnabled",
      );
    const { offset = 0, policy = "", signal } = options;
    const region = MemoryRegion.of(options.region);
    checkPolicyName(policy, packetBytes);
    checkSignal(signal);
    const maxBytes = options.maxBytes ?? region.bytes - offset;
    region.checkRange(offset, maxBytes, this.end.capabilities);
    if (maxBytes > maxMessageBytes)
      throw new SdrError(
        "TOO_LARGE",
        `receive of ${maxBytes} B is above maxMessageBytes ${maxMessageBytes}`,
        "raise maxMessageBytes (and the split)",
      );
    const { parityChunks = 0 } = options;
    this.checkParity(parityChunks);
    const before = this.handles.get(this.next - maxMessages);
    if (before?.isActive)
      throw new SdrError(
        "BUSY",
        `all ${maxMessages} receive slots are in use; message ${before.message} is not completed`,
        "complete an earlier receive, or raise maxMessages",
      );
    if (this.goodbyes.isFull)
      throw new SdrError(
        "BUSY",
        "the peer has not confirmed the end of too many receives that were given up",
        "wait until it has",
      );
    const message = this.next;
    const parity = parityChunks > 0 ? parityRegion(parityChunks, chunkBytes, region) : null;
    const status = this.end.native.postReceive(
      message,
      region.native,
      offset,
      maxBytes,
      parity?.native ?? null,
      0,
      parityChunks,
    );
    // From here on the slot holds it, until the receive is completed.
    parity?.close();
    if (status !== STATUS.ok) throw this.end.refused(status, `receive ${message}`);
    this.next++;
    this.end.beginWaiting();
    const handle = new ReceiveHandle(this, message, { ...options, region, maxBytes });
    this.handles.set(message, handle);
    handle.ctsAtNs = this.end.nowNs();
    queueMicrotask(() => this.end.act());
    return handle;
  }

  private checkParity(chunks: number): void {
    const { chunkBytes, maxParityBytes } = this.end.attributes;
    check(
      Number.isSafeInteger(chunks) && chunks >= 0,
      `parityChunks ${chunks} is not valid`,
      "use a whole number, 0 or more",
    );
    if (chunks * chunkBytes <= maxParityBytes) return;
    throw new SdrError(
      "TOO_LARGE",
      `${chunks} parity chunks of ${chunkBytes} B are above maxParityBytes ${maxParityBytes}`,
      "raise maxParityBytes (and the split), post smaller receives, or use a code with less parity",
    );
  }

  /** Completed before its sender was heard of: it may wait for the CTS, which nobody repeats any more. */
  giveUp(handle: ReceiveHandle, error: SdrError): void {
    if (!this.end.isConnected) return;
    this.goodbyes.add(handle.message, error);
    queueMicrotask(() => this.end.act());
  }

  /** The slot becomes inert; the handle stays while its driver lingers. */
  complete(handle: ReceiveHandle): void {
    this.end.native.complete(handle.message);
    if (!handle.driver?.lingering) this.forget(handle);
  }

  private forget(handle: ReceiveHandle): void {
    this.handles.delete(handle.message);
    remember(this.ended, handle.message, handle.error, this.end.attributes.maxMessages);
  }

  abort(handle: ReceiveHandle, error: SdrError): void {
    if (!handle.isActive) return;
    if (this.end.isConnected) this.goodbyes.add(handle.message, error);
    handle.fail(error);
    this.end.act();
  }

  /** What came before the end counts: a message that is whole has arrived. */
  failAll(error: SdrError, nowNs: number): void {
    for (const handle of [...this.handles.values()]) {
      handle.driver?.settle(nowNs);
      if (handle.isActive) handle.fail(error);
    }
    this.goodbyes.clear(); // the end of the connection says so for all
  }

  /** No confirmation will come any more. */
  stopLingering(nowNs: number): void {
    for (const handle of this.handles.values()) handle.driver?.done(nowNs);
  }

  // ---- events ----

  handleProgress(message: number, complete: boolean, nowNs: number): void {
    this.handles.get(message)?.handleProgress(complete, nowNs);
  }

  handleStart(frame: StartFrame, nowNs: number): void {
    const handle = this.handles.get(frame.message);
    if (handle === undefined) {
      const error = this.ended.get(frame.message);
      // An end that is closing says so for the whole connection.
      if (error !== undefined && this.end.isConnected)
        this.end.writer.write(closeFrame(frame.message, "receive", error));
      return;
    }
    const error = handle.handleStart(frame, nowNs);
    if (error !== undefined) this.abort(handle, error);
  }

  handleDone(message: number, nowNs: number): void {
    this.goodbyes.confirm(message);
    const handle = this.handles.get(message);
    if (handle !== undefined && !handle.isActive) handle.driver?.done(nowNs);
  }

  /** A policy frame from the message's sender. */
  handleFrame(frame: ControlFrame & { message: number }, nowNs: number): void {
    this.handles.get(frame.message)?.driver?.control(frame, nowNs);
  }

  /** The sender gave the message up; it repeats that until it hears so. */
  handleClose(message: number, reason: SdrError): void {
    const handle = this.handles.get(message);
    if (handle?.isActive) handle.fail(reason);
    this.end.writer.write(closeFrame(message, "receive", reason));
  }

  handleTimeout(nowNs: number): void {
    for (const { driver } of [...this.handles.values()]) {
      if (driver !== undefined && driver.nextTimeoutNs() <= nowNs) driver.timeout(nowNs);
    }
  }

  nextTimeoutNs(): number {
    let next = this.goodbyes.nextNs();
    for (const { driver, ctsAtNs } of this.handles.values()) {
      if (driver !== undefined) next = Math.min(next, driver.nextTimeoutNs());
      if (this.end.isConnected) next = Math.min(next, ctsAtNs);
    }
    return next;
  }

  flush(nowNs: number): void {
    const { writer, path, isConnected } = this.end;
    this.goodbyes.flush(nowNs);
    for (const handle of [...this.handles.values()]) {
      if (isConnected && handle.ctsAtNs <= nowNs && handle.state === "posted")
        writer.write(handle.nextCts(nowNs, path.rttNs));
      handle.driver?.pollTasks?.(nowNs);
      pollFrames(writer, handle, nowNs);
      handle.driver?.settle(nowNs);
      if (!handle.isActive && !handle.driver?.lingering) this.forget(handle);
    }
  }
}
