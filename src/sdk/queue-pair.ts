/**
 * A queue pair: one end of a connection. It matches the n-th send with the n-th posted receive (CTS, START), moves
 * control frames, feeds work to the transport within its limits, watches that the peer is alive, and tells the
 * handles what happened. Reliability is not here: it is what a policy makes of the events.
 */
import { assert, check, ERROR_NUMBERS, type ErrorCode, SdrError } from "../base/errors.ts";
import { decodeFrames } from "../reliability/codec.ts";
import type { CloseFrame, ControlFrame, PingFrame } from "../reliability/frames.ts";
import { PING_FIXED_BYTES, POLICY_KIND_TO_SENDER_MIN } from "../reliability/frames.ts";
import { ReplayWindow } from "../reliability/replay-window.ts";
import { RttEstimator } from "../reliability/rtt.ts";
import { type NativeCounters, type NativeLink, type NativeQp, STATUS } from "../transport/native.ts";
import type { QpListener, Transport, TransportInfo, TransportQp } from "../transport/transport.ts";
import { LIMITS, type QueuePairAttributes, type ResolvedAttributes, resolveAttributes, toNativeConfig } from "./attributes.ts";
import { FrameWriter } from "./frame-writer.ts";
import { decodeInfo, encodeInfo } from "./info.ts";
import { ReceiveHandle, type ReceiveOptions } from "./receive-handle.ts";
import type { MemoryRegion } from "./region.ts";
import { SendHandle, type SendOptions } from "./send-handle.ts";
import { Deferred } from "./settle.ts";

const PING_INTERVAL_NS_MIN = 10e6; // while connecting; doubles to 16 times this
const PINGS_PER_PEER_TIMEOUT = 16; // probes of a silent peer before it counts as gone
const RTT_GUESS_NS = 10e6; // until the connection's first pong
const PONG_AGE_NS_MAX = 60e9; // an echoed time older than this is not ours
const CLOSE_LINGER_NS_MIN = 2e6; // after CLOSE is queued, for it to leave

export interface QueuePairCounters extends NativeCounters {
  readonly framesSent: number;
  readonly framesRefused: number;
  readonly framesMalformed: number;
  readonly framesReplayed: number;
}

type State = "new" | "connecting" | "connected" | "closing" | "closed" | "failed";

interface Work {
  readonly handle: SendHandle;
  readonly first: number;
  readonly count: number;
}

export class QueuePair implements QpListener, Disposable {
  readonly attributes: ResolvedAttributes;
  readonly path: RttEstimator;
  private readonly transport: Transport;
  private readonly side: TransportQp;
  private readonly writer: FrameWriter;
  private readonly replays = new ReplayWindow();
  private readonly onClosed: () => void;
  private readonly sends = new Map<number, SendHandle>();
  private readonly receives = new Map<number, ReceiveHandle>();
  /** How recent messages ended, to answer a peer that has not heard; the last `maxMessages` of each direction. */
  private readonly endedSends = new Map<number, { handle: SendHandle; error: SdrError | undefined }>();
  private readonly endedReceives = new Map<number, SdrError | undefined>();
  private readonly clearances = new Map<number, ControlFrame & { kind: "cts" }>();
  private readonly work = new Map<number, Work>();
  private nextSend = 0;
  private nextReceive = 0;
  private nextWork = 0;
  private workBytes = 0;
  private state: State = "new";
  private failure: SdrError | undefined;
  private connecting: Deferred<void> | undefined;
  private closing: Deferred<void> | undefined;
  private lastPingNs = 0;
  private pings = 0;
  private smallPong = false;
  private aliveNs = 0;
  private closeAtNs = Number.POSITIVE_INFINITY;
  private lingerUntilNs = Number.POSITIVE_INFINITY;
  private flushing = false;
  private framesMalformed = 0;
  private framesReplayed = 0;
  private windowBytes = 1;
  private lastCounters: QueuePairCounters | undefined;

  /** @internal Made by Context.createQueuePair. */
  constructor(transport: Transport, attributes: QueuePairAttributes, onClosed: () => void) {
    this.transport = transport;
    this.attributes = resolveAttributes(attributes, transport.capabilities);
    this.side = transport.createQp(toNativeConfig(this.attributes, transport.capabilities.channels), this);
    this.writer = new FrameWriter(this.side.native, this.attributes.packetBytes);
    const rateBps = Math.min(this.attributes.rateBps, transport.link.rateBps || Number.POSITIVE_INFINITY);
    this.path = new RttEstimator({ initialRttNs: RTT_GUESS_NS, rateBps });
    this.onClosed = onClosed;
  }

  /** @internal */
  get native(): NativeQp {
    return this.side.native;
  }

  get isConnected(): boolean {
    return this.state === "connected";
  }

  /** Opaque bytes for the peer's connect, to be exchanged out of band. Holds this end's key: keep it between the two. */
  info(): Uint8Array {
    this.checkOpen();
    return encodeInfo(this.attributes, this.transport.capabilities.receiveBufferBytes, this.side.info());
  }

  /**
   * Connects to the queue pair whose info() this is; both ends must do so. Resolves when a full-size packet has made
   * the round trip, which also measures the RTT. Errors: PEER_INCOMPATIBLE, PEER_UNREACHABLE, ABORTED, CLOSED.
   */
  async connect(info: Uint8Array, options: { signal?: AbortSignal } = {}): Promise<void> {
    this.checkOpen();
    check(this.state === "new", `the queue pair is already ${this.state}`, "make a new one for another peer");
    const peer = decodeInfo(info, this.attributes);
    this.side.connect(peer.transport as TransportInfo);
    this.setWindow(peer.receiveBufferBytes);
    this.state = "connecting";
    this.connecting = new Deferred(() => this.userWoken());
    this.aliveNs = this.nowNs();
    this.ping(this.aliveNs);
    this.act();
    const onAbort = () => this.fail(new SdrError("ABORTED", "connecting was aborted", ""));
    if (options.signal?.aborted) onAbort();
    options.signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await this.connecting.promise;
    } finally {
      options.signal?.removeEventListener("abort", onAbort);
    }
  }

  private setWindow(peerReceiveBufferBytes: number): void {
    const { maxInFlightBytes } = this.attributes;
    // A socket's buffer is charged for more than payload; a quarter leaves room for that and for a late reader.
    this.windowBytes = maxInFlightBytes ?? peerReceiveBufferBytes / 4;
  }

  /** @internal Chunks a session may have in flight: the window, plus what the path itself holds at a known rate. */
  windowChunks(): number {
    const { maxInFlightBytes, chunkBytes } = this.attributes;
    let bytes = this.windowBytes;
    if (maxInFlightBytes === undefined && Number.isFinite(this.path.rateBps)) bytes += (2 * this.path.rateBps * this.path.rttNs) / 8e9;
    let active = 0;
    for (const handle of this.sends.values()) if (handle.state === "open") active++;
    return Math.max(2, Math.min(2 ** 31, Math.floor(bytes / chunkBytes / Math.max(1, active))));
  }

  /** Posts the next send and returns at once; see SendHandle. Errors: TOO_LARGE, BUSY (no free slot), CLOSED. */
  startSend(options: SendOptions): SendHandle {
    this.checkOpen();
    const { maxMessageBytes, maxMessages, sendEnabled } = this.attributes;
    if (!sendEnabled) throw new SdrError("UNSUPPORTED", "this queue pair does not send", "create it with sendEnabled");
    const { bytes, immediate } = options;
    check(Number.isSafeInteger(bytes) && bytes >= 0, `message of ${bytes} B is not valid`, "use a whole number of bytes");
    check(immediate === undefined || (Number.isInteger(immediate) && immediate >= 0 && immediate < 2 ** 32), `immediate ${immediate} is not valid`, "use 0 to 2^32-1");
    if (bytes > maxMessageBytes) throw new SdrError("TOO_LARGE", `message of ${bytes} B is above maxMessageBytes ${maxMessageBytes}`, "raise maxMessageBytes (and the split), or send several messages");
    if (this.sends.has(this.nextSend - maxMessages)) throw new SdrError("BUSY", `all ${maxMessages} send slots are in use`, "wait for an earlier send, or raise maxMessages");
    const handle = new SendHandle(this, this.nextSend, options);
    const status = this.native.openSend(handle.message, bytes, immediate ?? 0);
    if (status !== STATUS.ok) throw statusError(status, `send of message ${handle.message}`);
    this.nextSend++;
    this.noteActive();
    this.sends.set(handle.message, handle);
    const clearance = this.clearances.get(handle.message);
    if (clearance !== undefined) queueMicrotask(() => this.applyClearance(handle, clearance));
    return handle;
  }

  private applyClearance(handle: SendHandle, clearance: ControlFrame & { kind: "cts" }): void {
    if (handle.state !== "waiting") return;
    this.handleCts(clearance, this.nowNs());
    this.act();
  }

  /** One-shot send of a region's bytes: waits for the CTS, injects everything once, ends. Unreliable by itself. */
  send(region: MemoryRegion, options: { offset?: number; bytes?: number; immediate?: number } = {}): SendHandle {
    const { offset = 0, immediate } = options;
    const bytes = options.bytes ?? region.bytes - offset;
    check(offset >= 0 && offset + bytes <= region.bytes, `bytes ${offset} to ${offset + bytes} are beyond the region's ${region.bytes}`, "stay within the region");
    void region.native;
    const handle = this.startSend({ bytes, ...(immediate === undefined ? {} : { immediate }) });
    handle.source = { region, offset };
    handle.driver = oneShot(handle);
    return handle;
  }

  /** Posts the next receive: data of the n-th send lands in it. Errors: INVALID_ARGUMENT, TOO_LARGE, BUSY, CLOSED. */
  postReceive(options: ReceiveOptions): ReceiveHandle {
    this.checkOpen();
    const { maxMessageBytes, maxMessages, receiveEnabled } = this.attributes;
    if (!receiveEnabled) throw new SdrError("UNSUPPORTED", "this queue pair does not receive", "create it with receiveEnabled");
    const { region, offset = 0, policy = "" } = options;
    const maxBytes = options.maxBytes ?? region.bytes - offset;
    check(Number.isSafeInteger(offset) && Number.isSafeInteger(maxBytes) && offset >= 0 && maxBytes >= 0 && offset + maxBytes <= region.bytes, `bytes ${offset} to ${offset + maxBytes} are beyond the region's ${region.bytes}`, "stay within the region");
    check(!region.isPhantom || this.transport.capabilities.phantom, "this transport needs memory for a receive", "allocate or register a region");
    if (maxBytes > maxMessageBytes) throw new SdrError("TOO_LARGE", `receive of ${maxBytes} B is above maxMessageBytes ${maxMessageBytes}`, "raise maxMessageBytes (and the split)");
    const before = this.receives.get(this.nextReceive - maxMessages);
    if (before !== undefined && (before.state === "posted" || before.state === "started"))
      throw new SdrError("BUSY", `all ${maxMessages} receive slots are in use; message ${before.message} is not completed`, "complete an earlier receive, or raise maxMessages");
    const message = this.nextReceive;
    const status = this.native.postReceive(message, region.native, offset, maxBytes);
    if (status !== STATUS.ok) throw statusError(status, `receive ${message}`);
    this.nextReceive++;
    this.noteActive();
    const handle = new ReceiveHandle(this, message, { region, offset, maxBytes, policy });
    this.receives.set(message, handle);
    handle.ctsAtNs = this.nowNs();
    queueMicrotask(() => this.act());
    return handle;
  }

  /** Counters of everything, also after close. */
  counters(): QueuePairCounters {
    if (this.lastCounters !== undefined) return this.lastCounters;
    return {
      ...this.native.counters(),
      framesSent: this.writer.framesSent,
      framesRefused: this.writer.framesRefused,
      framesMalformed: this.framesMalformed,
      framesReplayed: this.framesReplayed,
    };
  }

  /** Replaces the impairments of what this end sends. */
  setLink(link: NativeLink): void {
    this.checkOpen();
    this.native.setLink(link);
  }

  /**
   * Ends the connection in good order: final ACKs still unconfirmed are repeated for a while, then the peer is told.
   * Pending work fails with CLOSED at once.
   */
  async close(): Promise<void> {
    if (this.state === "closed" || this.state === "failed") return this.shut("closed");
    if (this.closing !== undefined) return this.closing.promise;
    const { closing } = this.beginClose();
    this.act();
    return closing.promise;
  }

  private beginClose(): { closing: Deferred<void> } {
    const closing = new Deferred<void>(() => this.userWoken());
    this.closing = closing;
    const connected = this.state === "connected";
    this.state = "closing";
    const nowNs = this.nowNs();
    this.failAll(new SdrError("CLOSED", "the queue pair was closed", ""));
    this.connecting?.reject(new SdrError("CLOSED", "the queue pair was closed", ""));
    this.lingerUntilNs = connected ? nowNs + Math.min(this.attributes.peerTimeoutNs, Math.max(2e9, 8 * this.path.rttNs)) : nowNs;
    return { closing };
  }

  /** Ends the connection at once, without waiting for anything. */
  [Symbol.dispose](): void {
    if (this.state === "closed") return;
    this.failAll(new SdrError("CLOSED", "the queue pair was closed", ""));
    this.connecting?.reject(new SdrError("CLOSED", "the queue pair was closed", ""));
    if (this.state === "connected") {
      this.writer.write(closeFrame(0, "connection", undefined));
      this.writer.flush();
    }
    this.shut("closed");
  }

  // ---- what handles use ----

  nowNs(): number {
    return this.transport.nowNs();
  }

  /** @internal */
  userWoken(): void {
    this.transport.userWoken();
  }

  /** @internal Sends what is due and re-arms timers, after a call from user code. */
  act(): void {
    if (this.flushing || this.state === "closed" || this.state === "failed") return;
    this.flush(this.nowNs());
    this.transport.rearm();
  }

  /** @internal */
  postWork(handle: SendHandle, region: MemoryRegion, offset: number, first: number, bytes: number): number {
    if (this.work.size >= LIMITS.workRequestsMax) return STATUS.busy;
    const id = this.nextWork;
    const status = this.native.postSend(handle.message, id, region.native, offset, first, bytes);
    if (status !== STATUS.ok) {
      assert(status === STATUS.busy, `a checked post is refused with status ${status}`);
      return status;
    }
    this.nextWork = (this.nextWork + 1) >>> 0;
    const count = Math.ceil(bytes / this.attributes.chunkBytes);
    this.work.set(id, { handle, first, count });
    this.workBytes += count * this.attributes.chunkBytes;
    return status;
  }

  /** @internal */
  chunksDone(message: number): number {
    return this.native.chunksDone(message);
  }

  /** @internal Forgets a send; `error` when it failed. */
  releaseSend(handle: SendHandle, error: SdrError | undefined): void {
    if (this.native.bitmaps.byteLength > 0 || this.state !== "closed") this.native.closeSend(handle.message);
    for (const [id, work] of this.work) {
      if (work.handle !== handle) continue;
      this.work.delete(id);
      this.workBytes -= work.count * this.attributes.chunkBytes;
    }
    this.sends.delete(handle.message);
    this.clearances.delete(handle.message);
    remember(this.endedSends, handle.message, { handle, error }, this.attributes.maxMessages);
  }

  /** @internal */
  abortSend(handle: SendHandle, error: SdrError): void {
    if (!this.sends.has(handle.message)) return;
    this.tell(closeFrame(handle.message, "send", error));
    handle.fail(error);
    this.act();
  }

  /** @internal */
  abortReceive(handle: ReceiveHandle, error: SdrError): void {
    if (handle.state === "completed" || handle.state === "failed") return;
    this.tell(closeFrame(handle.message, "receive", error));
    handle.fail(error);
    this.act();
  }

  /** @internal Tells the receiver that its final ACK has arrived. */
  confirm(message: number): void {
    this.tell({ kind: "done", message });
  }

  /** @internal The slot becomes inert; the handle stays while its driver lingers. */
  completeReceive(handle: ReceiveHandle): void {
    this.native.complete(handle.message);
    if (handle.state === "failed" || handle.driver === undefined || !handle.driver.lingering) this.forgetReceive(handle);
  }

  private forgetReceive(handle: ReceiveHandle): void {
    this.receives.delete(handle.message);
    remember(this.endedReceives, handle.message, handle.error, this.attributes.maxMessages);
  }

  private tell(frame: ControlFrame): void {
    if (this.state === "connected" || this.state === "closing") this.writer.write(frame);
  }

  // ---- events ----

  handleInjected(_message: number, workRequest: number, nowNs: number): void {
    const work = this.work.get(workRequest);
    if (work === undefined) return; // its message was closed meanwhile
    this.work.delete(workRequest);
    this.workBytes -= work.count * this.attributes.chunkBytes;
    work.handle.handleInjected(work.first, work.count, nowNs);
  }

  handleProgress(message: number, complete: boolean, nowNs: number): void {
    this.aliveNs = nowNs;
    this.receives.get(message)?.handleProgress(complete, nowNs);
  }

  handleTransportError(errno: number): void {
    this.fail(new SdrError("ENVIRONMENT", `the transport failed with error ${errno}`, "check the machine's network"));
  }

  handleControl(bytes: Uint8Array, nowNs: number): void {
    this.aliveNs = nowNs;
    const decoded = decodeFrames(bytes);
    if (decoded.reason !== undefined) this.framesMalformed++;
    for (const { frame, sequence } of decoded) {
      if (!this.replays.accept(sequence)) this.framesReplayed++;
      else this.handleFrame(frame, nowNs);
      if (this.state === "closed" || this.state === "failed") return;
    }
  }

  private handleFrame(frame: ControlFrame, nowNs: number): void {
    switch (frame.kind) {
      case "ping":
        this.writer.write({ kind: "pong", timeNs: frame.timeNs, padding: frame.padding });
        return;
      case "pong":
        return this.handlePong(frame, nowNs);
      case "cts":
        return this.handleCts(frame, nowNs);
      case "start": {
        const handle = this.receives.get(frame.message);
        if (handle === undefined) return this.answerSender(frame.message);
        const error = handle.handleStart(frame, nowNs);
        if (error !== undefined) this.abortReceive(handle, error);
        return;
      }
      case "done": {
        const handle = this.receives.get(frame.message);
        if (handle?.state === "completed") handle.driver?.done(nowNs);
        return;
      }
      case "close":
        return this.handleClose(frame);
      case "policy":
        if (frame.type < POLICY_KIND_TO_SENDER_MIN) {
          this.receives.get(frame.message)?.driver?.control(frame, nowNs);
          return;
        }
        break;
    }
    const handle = this.sends.get(frame.message);
    if (handle !== undefined) handle.driver?.control(frame, nowNs);
    else this.answerReceiver(frame.message, false);
  }

  private handleCts(frame: ControlFrame & { kind: "cts" }, nowNs: number): void {
    const handle = this.sends.get(frame.message);
    if (handle === undefined) {
      if (frame.message < this.nextSend) this.answerReceiver(frame.message, true);
      else if (frame.message < this.nextSend + this.attributes.maxMessages) this.clearances.set(frame.message, frame);
      return;
    }
    const error = handle.handleCts(frame, nowNs);
    if (error !== undefined) this.abortSend(handle, error);
    else this.writeStart(handle);
  }

  private writeStart(handle: SendHandle): void {
    const { message, bytes, immediate, policy } = handle;
    this.writer.write({ kind: "start", message, bytes, immediate, policy });
  }

  /** The receiver still talks of a message that has ended here. */
  private answerReceiver(message: number, wantsStart: boolean): void {
    const ended = this.endedSends.get(message);
    if (ended === undefined) return;
    if (ended.error !== undefined) this.writer.write(closeFrame(message, "send", ended.error));
    else if (wantsStart) this.writeStart(ended.handle);
    else this.writer.write({ kind: "done", message });
  }

  /** The sender still begins a message that has ended here. */
  private answerSender(message: number): void {
    const error = this.endedReceives.get(message);
    if (error !== undefined) this.writer.write(closeFrame(message, "receive", error));
  }

  private handlePong(frame: PingFrame, nowNs: number): void {
    const rttNs = nowNs - frame.timeNs;
    if (rttNs < 0 || rttNs > PONG_AGE_NS_MAX) return;
    this.path.sampleRtt(rttNs);
    if (this.state !== "connecting") return;
    if (frame.padding === 0) {
      this.smallPong = true;
      return;
    }
    this.state = "connected";
    this.connecting?.resolve();
  }

  private handleClose(frame: CloseFrame): void {
    const reason = reasonError(frame);
    if (frame.scope === "connection") {
      const error = new SdrError("PEER_CLOSED", "the peer closed the connection", "");
      if (this.state === "closing") this.shut("closed");
      else this.fail(error);
      return;
    }
    if (frame.scope === "receive") this.sends.get(frame.message)?.fail(reason);
    else this.receives.get(frame.message)?.fail(reason);
  }

  handleTimeout(nowNs: number): void {
    for (const handle of [...this.sends.values()]) {
      if (handle.driver !== undefined && handle.state !== "failed" && handle.driver.nextTimeoutNs() <= nowNs) handle.driver.timeout(nowNs);
    }
    for (const handle of [...this.receives.values()]) {
      if (handle.driver !== undefined && handle.driver.nextTimeoutNs() <= nowNs) handle.driver.timeout(nowNs);
    }
    this.watchPeer(nowNs);
    if (this.state === "closing") this.proceedClose(nowNs);
  }

  private watchPeer(nowNs: number): void {
    if (!this.watching()) return;
    const heardNs = Math.max(this.aliveNs, this.native.lastHeardNs());
    this.aliveNs = heardNs;
    if (nowNs >= heardNs + this.attributes.peerTimeoutNs) return this.fail(this.unreachable());
    if (nowNs >= this.pingAtNs()) this.ping(nowNs);
  }

  private unreachable(): SdrError {
    const seconds = this.attributes.peerTimeoutNs / 1e9;
    if (this.state === "connecting" && this.smallPong)
      return new SdrError("PEER_UNREACHABLE", `packets of ${this.attributes.packetBytes} B do not get through, small ones do`, "use a smaller packetBytes: the path's MTU is lower");
    return new SdrError("PEER_UNREACHABLE", `nothing was heard from the peer for ${seconds} s`, "check that it runs, was given this end's info, and that the path lets UDP through; or raise peerTimeoutNs");
  }

  private watching(): boolean {
    if (this.state === "connecting") return true;
    if (this.state !== "connected") return false;
    if (this.sends.size > 0) return true;
    for (const handle of this.receives.values()) if (handle.state !== "completed") return true;
    return false;
  }

  private pingAtNs(): number {
    if (this.state === "connecting") return this.lastPingNs + PING_INTERVAL_NS_MIN * 2 ** Math.min(this.pings - 1, 4);
    return Math.max(this.aliveNs, this.lastPingNs) + Math.floor(this.attributes.peerTimeoutNs / PINGS_PER_PEER_TIMEOUT);
  }

  private ping(nowNs: number): void {
    this.lastPingNs = nowNs;
    this.pings++;
    this.writer.write({ kind: "ping", timeNs: nowNs, padding: 0 });
    if (this.state === "connecting") {
      this.writer.flush(); // the small one in a datagram of its own
      this.writer.write({ kind: "ping", timeNs: nowNs, padding: this.attributes.packetBytes - PING_FIXED_BYTES });
    }
  }

  nextTimeoutNs(): number {
    if (this.state === "closed" || this.state === "failed" || this.state === "new") return Number.POSITIVE_INFINITY;
    let next = Math.min(this.closeAtNs, this.lingerUntilNs);
    for (const handle of this.sends.values()) if (handle.driver !== undefined) next = Math.min(next, handle.driver.nextTimeoutNs());
    for (const handle of this.receives.values()) {
      if (handle.driver !== undefined) next = Math.min(next, handle.driver.nextTimeoutNs());
      if (this.state === "connected") next = Math.min(next, handle.ctsAtNs);
    }
    if (this.watching()) next = Math.min(next, this.pingAtNs(), this.aliveNs + this.attributes.peerTimeoutNs);
    return next;
  }

  /** Sends what sessions have to say and as much data as the transport has room for. */
  flush(nowNs: number): void {
    if (this.state === "closed" || this.state === "failed") return;
    this.flushing = true;
    for (const handle of [...this.receives.values()]) this.flushReceive(handle, nowNs);
    for (const handle of [...this.sends.values()]) pollFrames(this.writer, handle, nowNs);
    this.pumpData(nowNs);
    for (const handle of [...this.sends.values()]) {
      handle.driver?.settle(nowNs);
      pollFrames(this.writer, handle, nowNs);
    }
    this.flushing = false;
    this.writer.flush();
    if (this.state === "closing") this.proceedClose(nowNs);
  }

  private flushReceive(handle: ReceiveHandle, nowNs: number): void {
    if (this.state === "connected" && handle.ctsAtNs <= nowNs && handle.state === "posted")
      this.writer.write(handle.nextCts(nowNs, this.path.rttNs));
    pollFrames(this.writer, handle, nowNs);
    handle.driver?.settle(nowNs);
    if (handle.state === "completed" && !handle.driver?.lingering) this.forgetReceive(handle);
  }

  private pumpData(nowNs: number): void {
    const { chunkBytes } = this.attributes;
    const room = Math.max(2, Math.ceil(this.queueBytes() / chunkBytes));
    const most = Math.max(1, Math.min(WORK_CHUNKS_MAX, Math.ceil(room / 4)));
    for (let progressed = true; progressed; ) {
      progressed = false;
      for (const handle of this.sends.values()) {
        const left = room - this.workBytes / chunkBytes;
        if (left <= 0 || this.work.size >= LIMITS.workRequestsMax) return;
        if (handle.state !== "open" || handle.driver === undefined) continue;
        const range = handle.pending ?? handle.driver.pollTransmit(Math.min(most, left), nowNs);
        if (range === undefined) continue;
        handle.pending = this.postRange(handle, range.first, range.count) ? undefined : range;
        progressed = handle.pending === undefined;
      }
    }
  }

  /** Data handed to the transport ahead of its injection: enough to never run dry between two wake-ups. */
  private queueBytes(): number {
    const { rateBps } = this.path;
    const aheadNs = this.transport.capabilities.virtualTime ? QUEUE_AHEAD_VIRTUAL_NS : QUEUE_AHEAD_NS;
    return Math.min(QUEUE_BYTES_MAX, (rateBps * aheadNs) / 8e9);
  }

  private postRange(handle: SendHandle, first: number, count: number): boolean {
    const { source } = handle;
    assert(source !== undefined, "a driven send has a source");
    const { chunkBytes } = this.attributes;
    const bytes = Math.min(count * chunkBytes, handle.bytes - first * chunkBytes);
    return handle.continue({ region: source.region, offset: source.offset + first * chunkBytes, chunk: first, bytes }) === "ok";
  }

  private proceedClose(nowNs: number): void {
    if (this.closeAtNs !== Number.POSITIVE_INFINITY) {
      if (nowNs >= this.closeAtNs) this.shut("closed");
      return;
    }
    let lingering = false;
    for (const handle of this.receives.values()) lingering ||= handle.driver?.lingering === true;
    if (lingering && nowNs < this.lingerUntilNs) return;
    this.lingerUntilNs = Number.POSITIVE_INFINITY;
    this.writer.write(closeFrame(0, "connection", undefined));
    this.writer.flush();
    this.closeAtNs = nowNs + CLOSE_LINGER_NS_MIN + Math.round(1.5 * this.path.rttNs);
  }

  private noteActive(): void {
    if (!this.watching()) this.aliveNs = Math.max(this.aliveNs, this.nowNs());
  }

  private failAll(error: SdrError): void {
    for (const handle of [...this.sends.values()]) handle.fail(error);
    for (const handle of [...this.receives.values()]) if (handle.state !== "completed") handle.fail(error);
  }

  private fail(error: SdrError): void {
    if (this.state === "closed" || this.state === "failed") return;
    this.failure = error;
    this.failAll(error);
    this.connecting?.reject(error);
    this.shut("failed");
  }

  private shut(state: "closed" | "failed"): void {
    if (this.state !== "closed" && this.state !== "failed") {
      for (const handle of [...this.receives.values()]) handle.driver?.done(this.nowNs());
      this.lastCounters = this.counters();
      this.side.close();
      this.onClosed();
    }
    this.state = state;
    this.closing?.resolve();
    this.transport.rearm();
  }

  private checkOpen(): void {
    if (this.state === "failed" && this.failure !== undefined) throw this.failure;
    if (this.state === "closed" || this.state === "closing" || this.state === "failed")
      throw new SdrError("CLOSED", "the queue pair is closed", "make a new one");
  }
}

const WORK_CHUNKS_MAX = 64;
const QUEUE_BYTES_MAX = 4 << 20;
const QUEUE_AHEAD_NS = 2e6;
const QUEUE_AHEAD_VIRTUAL_NS = 40_000;

function pollFrames(writer: FrameWriter, handle: SendHandle | ReceiveHandle, nowNs: number): void {
  const { driver } = handle;
  if (driver === undefined) return;
  for (let frame = driver.pollControl(nowNs); frame !== undefined; frame = driver.pollControl(nowNs)) writer.write(frame, handle.message);
}

/** Drives a one-shot send: every chunk once, in order. */
function oneShot(handle: SendHandle): NonNullable<SendHandle["driver"]> {
  let next = 0;
  return {
    ready() {},
    control() {},
    injected() {},
    timeout() {},
    failed() {},
    nextTimeoutNs: () => Number.POSITIVE_INFINITY,
    pollControl: () => undefined,
    pollTransmit(maxChunks) {
      const count = Math.min(maxChunks, handle.chunkCount - next);
      if (count <= 0) return undefined;
      next += count;
      return { first: next - count, count };
    },
    settle() {
      if (handle.state === "open" && next === handle.chunkCount && handle.pending === undefined) handle.end();
    },
  };
}

function closeFrame(message: number, scope: CloseFrame["scope"], error: SdrError | undefined): CloseFrame {
  return { kind: "close", message, scope, reason: error?.number ?? 0 };
}

function reasonError(frame: CloseFrame): SdrError {
  const known = Object.entries(ERROR_NUMBERS).find(([, number]) => number === frame.reason);
  const code = (known?.[0] ?? "ABORTED") as ErrorCode;
  return new SdrError(code, `the peer gave up message ${frame.message} (${code})`, "see the peer's own error");
}

function statusError(status: number, what: string): SdrError {
  if (status === STATUS.busy) return new SdrError("BUSY", `${what}: no slot is free`, "complete an earlier one first");
  if (status === STATUS.tooLarge) return new SdrError("TOO_LARGE", `${what} does not fit the immediate split`, "use a split with more packet bits");
  return new SdrError("INVALID_ARGUMENT", `${what} was refused (status ${status})`, "check its region, offset and length");
}

function remember<T>(map: Map<number, T>, key: number, value: T, most: number): void {
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value as number);
}
