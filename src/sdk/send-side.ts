/**
 * The sending direction of a queue pair: which messages wait for a CTS, which are under way, how recent ones ended,
 * and the feeding of their data to the transport within its limits.
 */
import { assert, check, SdrError } from "../base/errors.ts";
import { checkPolicyName } from "../reliability/codec.ts";
import type { ControlFrame, CtsFrame, StartFrame } from "../reliability/frames.ts";
import type { ChunkRange, PathEstimate } from "../reliability/policy.ts";
import { STATUS } from "../transport/native.ts";
import { LIMITS } from "./attributes.ts";
import { closeFrame, type End, pollFrames, remember, toSdrError } from "./end.ts";
import { Goodbyes } from "./goodbyes.ts";
import type { MemoryRegion } from "./region.ts";
import { SendHandle, type SendOptions } from "./send-handle.ts";
import { checkSignal } from "./settle.ts";

/**
 * Data handed to the transport ahead of its injection: enough to never run dry between two wake-ups. In real time these
 * may be milliseconds apart where processes share their processors, and a paced path never makes up for an idle one.
 */
const QUEUE_BYTES_MAX = 8 << 20;
const QUEUE_AHEAD_NS = 8e6;
const QUEUE_AHEAD_VIRTUAL_NS = 40_000;
const WORK_CHUNKS_MAX = 64;
/** Messages not posted yet that the receiver may have given up; it is not told of more, and so repeats them. */
const REFUSALS_MAX = 4096;
const FAILURES_MAX = 4096;
/**
 * START is sent several times, this part of an RTT apart, or until heard of: nothing is acknowledged without it. So
 * often that the share of messages of which all copies are lost is no more than START_LOSS, as far as the path's loss
 * is known.
 */
const START_COPIES_MIN = 3;
const START_COPIES_MAX = 6;
const START_LOSS = 1e-5;
const START_SPACING_RTTS = 1 / 32;

function startCopies({ loss }: PathEstimate): number {
  const needed = Math.ceil(Math.log(START_LOSS) / Math.log(loss.probability));
  return Math.min(Math.max(needed, START_COPIES_MIN), START_COPIES_MAX);
}

const GIVEN_UP = new SdrError("ABORTED", "the message was given up", "");

interface Work {
  readonly handle: SendHandle;
  readonly range: ChunkRange;
}

export class SendSide {
  readonly end: End;
  private readonly handles = new Map<number, SendHandle>();
  /**
   * Messages that ended well, to answer a receiver that has not heard. While the receiver holds one's slot, only those
   * that share the table with it, before and behind, can end: fewer than two tables full. Their STARTs are kept, not
   * the handles, which hold sessions and regions.
   */
  private readonly ended = new Map<number, StartFrame>();
  /** Why messages failed, the last FAILURES_MAX of them: their receives may be posted much later. */
  private readonly failures = new Map<number, SdrError>();
  /** CTS of messages not posted yet; at most `maxMessages` ahead. */
  private readonly clearances = new Map<number, CtsFrame>();
  /** Why the receiver has given up messages that are not posted here yet. */
  private readonly refusals = new Map<number, SdrError>();
  private readonly work = new Map<number, Work>();
  private readonly goodbyes: Goodbyes;
  private workChunks = 0;
  /** The message whose turn was last. */
  private turn = -1;
  private next = 0;
  private nextWork = 0;

  constructor(end: End) {
    this.end = end;
    this.goodbyes = new Goodbyes(end, "send");
  }

  get isWaiting(): boolean {
    return this.handles.size > 0 || !this.goodbyes.isEmpty;
  }

  /** Messages that share the window. */
  get openCount(): number {
    let count = 0;
    for (const handle of this.handles.values()) if (handle.state === "open") count++;
    return count;
  }

  start(options: SendOptions): SendHandle {
    const { maxMessageBytes, maxMessages, packetBytes, sendEnabled } = this.end.attributes;
    const { bytes, immediate } = options;
    if (!sendEnabled)
      throw new SdrError(
        "UNSUPPORTED",
        "this queue pair does not send",
        "create it with sendEnabled",
      );
    check(
      Number.isSafeInteger(bytes) && bytes >= 0,
      `message of ${bytes} B is not valid`,
      "use a whole number of bytes",
    );
    check(
      immediate === undefined ||
        (Number.isInteger(immediate) && immediate >= 0 && immediate < 2 ** 32),
      `immediate ${immediate} is not valid`,
      "use 0 to 2^32-1",
    );
    if (bytes > maxMessageBytes)
      throw new SdrError(
        "TOO_LARGE",
        `message of ${bytes} B is above maxMessageBytes ${maxMessageBytes}`,
        "raise maxMessageBytes (and the split), or send several messages",
      );
    checkPolicyName(options.policy ?? "", packetBytes);
    checkSignal(options.signal);
    if (this.goodbyes.isFull)
      throw new SdrError(
        "BUSY",
        "the peer has not confirmed the end of too many sends that were given up",
        "wait until it has",
      );
    if (this.handles.has(this.next - maxMessages))
      throw new SdrError(
        "BUSY",
        `all ${maxMessages} send slots are in use`,
        "wait for an earlier send, or raise maxMessages",
      );
    const handle = new SendHandle(this, this.next, options);
    const status = this.end.native.openSend(handle.message, bytes, immediate ?? 0);
    if (status !== STATUS.ok) throw this.end.refused(status, `send of message ${handle.message}`);
    this.next++;
    this.end.beginWaiting();
    this.handles.set(handle.message, handle);
    const clearance = this.clearances.get(handle.message);
    const refusal = this.refusals.get(handle.message);
    this.refusals.delete(handle.message);
    queueMicrotask(() => {
      if (refusal !== undefined) handle.fail(refusal);
      else if (clearance !== undefined) this.applyClearance(handle, clearance);
      this.end.act(); // arms the timers that watch the peer
    });
    return handle;
  }

  /** The CTS came before the send was posted; by now its driver is in place. */
  private applyClearance(handle: SendHandle, clearance: CtsFrame): void {
    if (handle.state !== "waiting") return;
    this.handleCts(clearance, this.end.nowNs());
  }

  post(
    handle: SendHandle,
    region: MemoryRegion,
    offset: number,
    first: number,
    bytes: number,
    parity: boolean,
  ): number {
    if (this.work.size >= LIMITS.workRequestsMax) return STATUS.busy;
    const id = this.nextWork;
    const { native, attributes } = this.end;
    const chunk = parity ? handle.parityFirst + first : first;
    const status = native.postSend(handle.message, id, region.native, offset, chunk, bytes);
    if (status === STATUS.busy) return status;
    if (status !== STATUS.ok) throw this.end.refused(status, `data of message ${handle.message}`);
    this.nextWork = (this.nextWork + 1) >>> 0;
    const count = Math.ceil(bytes / attributes.chunkBytes);
    this.work.set(id, { handle, range: { first, count, parity } });
    this.workChunks += count;
    return status;
  }

  /** Forgets a message; `error` when it failed. What it has queued and not injected is dropped. */
  release(handle: SendHandle, error: SdrError | undefined): void {
    this.end.native.closeSend(handle.message);
    for (const [id, work] of this.work) {
      if (work.handle !== handle) continue;
      this.work.delete(id);
      this.workChunks -= work.range.count;
    }
    this.handles.delete(handle.message);
    this.clearances.delete(handle.message);
    if (error !== undefined) remember(this.failures, handle.message, error, FAILURES_MAX);
    else remember(this.ended, handle.message, startOf(handle), 2 * this.end.attributes.maxMessages);
  }

  abort(handle: SendHandle, error: SdrError): void {
    if (!this.handles.has(handle.message)) return;
    if (this.end.isConnected) this.goodbyes.add(handle.message, error);
    handle.fail(error);
    this.end.act();
  }

  /** What came before the end counts: a message whose final ACK is in has been delivered. */
  failAll(error: SdrError, nowNs: number): void {
    for (const handle of [...this.handles.values()]) {
      handle.driver?.settle(nowNs);
      handle.fail(error);
    }
    this.goodbyes.clear(); // the end of the connection says so for all
  }

  // ---- events ----

  handleInjected(workRequest: number, nowNs: number): void {
    const work = this.work.get(workRequest);
    if (work === undefined) return; // its message was closed meanwhile
    this.work.delete(workRequest);
    this.workChunks -= work.range.count;
    work.handle.handleInjected(work.range, nowNs);
  }

  handleCts(frame: CtsFrame, nowNs: number): void {
    const { message } = frame;
    const handle = this.handles.get(message);
    if (handle === undefined) {
      if (message < this.next) this.answer(message, true);
      else if (message < this.next + this.end.attributes.maxMessages)
        this.clearances.set(message, frame);
      return;
    }
    const error = handle.handleCts(frame, nowNs);
    if (error !== undefined) this.abort(handle, error);
    else this.writeStart(handle);
    if (handle.startsLeft === undefined)
      this.planStart(handle, startCopies(this.end.path) - 1, nowNs);
  }

  private planStart(handle: SendHandle, copies: number, nowNs: number): void {
    const { rttNs } = this.end.path;
    handle.startsLeft = copies;
    handle.startAtNs =
      copies > 0 ? nowNs + Math.ceil(rttNs * START_SPACING_RTTS) : Number.POSITIVE_INFINITY;
  }

  /** An ACK, NACK or policy frame from the message's receiver. */
  handleFrame(frame: ControlFrame & { message: number }, nowNs: number): void {
    const handle = this.handles.get(frame.message);
    if (handle === undefined) {
      this.answer(frame.message, false);
      return;
    }
    this.planStart(handle, 0, nowNs);
    handle.driver?.control(frame, nowNs);
  }

  /** The receiver gave the message up, or knows that this end did. */
  handleClose(message: number, reason: SdrError): void {
    this.goodbyes.confirm(message);
    if (message >= this.next) {
      if (this.refusals.size >= REFUSALS_MAX) return;
      this.refusals.set(message, reason);
      this.clearances.delete(message);
    }
    const handle = this.handles.get(message);
    // A one-shot that has begun goes on when its receive is completed early; nothing is waited for.
    const goesOn = reason.code === "CLOSED" && handle?.state === "open" && handle.policy === "";
    if (!goesOn) handle?.fail(reason);
    this.end.writer.write({ kind: "done", message });
  }

  private writeStart(handle: SendHandle): void {
    this.end.writer.write(startOf(handle));
  }

  /** The receiver still talks of a message that has ended here. */
  private answer(message: number, wantsStart: boolean): void {
    if (message >= this.next) return;
    const { writer } = this.end;
    const ended = this.ended.get(message);
    const error = this.failures.get(message);
    if (error !== undefined) {
      // An end that is closing says so for the whole connection.
      if (this.end.isConnected) writer.write(closeFrame(message, "send", error));
    } else if (ended !== undefined && wantsStart) {
      writer.write(ended);
    } else {
      writer.write({ kind: "done", message });
      // Forgotten: a receiver that has all of it takes the DONE. For another it must have been given up, as no later
      // message could have used its slot.
      if (ended === undefined) writer.write(closeFrame(message, "send", GIVEN_UP));
    }
  }

  handleTimeout(nowNs: number): void {
    for (const handle of [...this.handles.values()]) {
      const { driver } = handle;
      if (driver !== undefined && driver.nextTimeoutNs() <= nowNs) driver.timeout(nowNs);
    }
  }

  nextTimeoutNs(): number {
    let next = this.goodbyes.nextNs();
    for (const { driver, startAtNs } of this.handles.values()) {
      next = Math.min(next, startAtNs);
      if (driver !== undefined) next = Math.min(next, driver.nextTimeoutNs());
    }
    return next;
  }

  /** Frames, then as much data as the transport has room for, then what that has ended. */
  flush(nowNs: number): void {
    this.goodbyes.flush(nowNs);
    if (this.handles.size === 0) return;
    const { writer } = this.end;
    for (const handle of this.handles.values()) {
      if (handle.startAtNs <= nowNs) {
        this.writeStart(handle);
        this.planStart(handle, (handle.startsLeft ?? 0) - 1, nowNs);
      }
      handle.driver?.pollTasks?.(nowNs);
      pollFrames(writer, handle, nowNs);
    }
    this.pump(nowNs);
    for (const handle of [...this.handles.values()]) {
      handle.driver?.settle(nowNs);
      pollFrames(writer, handle, nowNs);
    }
  }

  /** One range of each message in turn while there is room; a long message does not hold up the others. */
  private pump(nowNs: number): void {
    const room = this.roomChunks();
    const most = Math.max(1, Math.min(WORK_CHUNKS_MAX, Math.ceil(room / 4)));
    // A quarter at a time: on a paced path room comes free chunk by chunk, and each would be a work request.
    const isPaced = Number.isFinite(this.end.path.rateBps);
    if (isPaced && this.work.size > 0 && room - this.workChunks < most) return;
    for (let progressed = true; progressed; ) {
      progressed = false;
      for (const handle of this.inTurn()) {
        const left = room - this.workChunks;
        if (left <= 0 || this.work.size >= LIMITS.workRequestsMax) return;
        if (handle.state !== "open" || handle.driver === undefined) continue;
        const range = handle.pending ?? handle.driver.pollTransmit(Math.min(most, left), nowNs);
        if (range === undefined) continue;
        if (!this.postRange(handle, range)) continue;
        this.turn = handle.message;
        progressed = true;
      }
    }
  }

  private inTurn(): Iterable<SendHandle> {
    if (this.handles.size === 1) return this.handles.values();
    const handles = [...this.handles.values()];
    const next = handles.findIndex(({ message }) => message > this.turn);
    return next <= 0 ? handles : [...handles.slice(next), ...handles.slice(0, next)];
  }

  private roomChunks(): number {
    const { path, capabilities, attributes } = this.end;
    const aheadNs = capabilities.virtualTime ? QUEUE_AHEAD_VIRTUAL_NS : QUEUE_AHEAD_NS;
    const bytes = Math.min(QUEUE_BYTES_MAX, (path.rateBps * aheadNs) / 8e9);
    return Math.max(2, Math.ceil(bytes / attributes.chunkBytes));
  }

  /** False: no room (the range is kept), or the message failed, e.g. because its buffer was detached. */
  private postRange(handle: SendHandle, range: ChunkRange): boolean {
    const { chunkBytes } = this.end.attributes;
    const { first: chunk, count, parity = false } = range;
    const source = parity ? parityOf(handle) : handle.source;
    const whole = count * chunkBytes;
    const bytes = parity ? whole : Math.min(whole, handle.bytes - chunk * chunkBytes);
    try {
      assert(source !== undefined, "a driven send has a source, and parity for parity's chunks");
      const { region } = source;
      const offset = source.offset + chunk * chunkBytes;
      const posted = handle.continue({ region, offset, chunk, bytes, parity });
      handle.pending = posted === "ok" ? undefined : range;
      return posted === "ok";
    } catch (error) {
      this.abort(handle, toSdrError(error));
      return false;
    }
  }
}

function parityOf({ parity }: SendHandle): SendHandle["source"] {
  return parity === undefined ? undefined : { region: parity, offset: 0 };
}

function startOf({ message, bytes, immediate, policy }: SendHandle): StartFrame {
  return { kind: "start", message, bytes, immediate, policy };
}
