/**
 * A queue pair: one end of a connection. It connects, watches that the peer is alive, tells frames of its two
 * directions apart, and closes in good order. Matching, CTS and data are its sides' (send-side.ts, receive-side.ts);
 * reliability is what a policy makes of the events.
 */
import { check, SdrError } from "../base/errors.ts";
import { checkLink, type LinkProfile } from "../link/profile.ts";
import { decodeFrames } from "../reliability/codec.ts";
import { type ControlFrame, POLICY_KIND_TO_SENDER_MIN } from "../reliability/frames.ts";
import { ReplayWindow } from "../reliability/replay-window.ts";
import { RttEstimator } from "../reliability/rtt.ts";
import { type NativeCounters, type NativeQp, STATUS } from "../transport/native.ts";
import type {
  Capabilities,
  QpListener,
  Transport,
  TransportInfo,
  TransportQp,
} from "../transport/transport.ts";
import {
  type QueuePairAttributes,
  type ResolvedAttributes,
  resolveAttributes,
  toNativeConfig,
} from "./attributes.ts";
import { closeFrame, type End, peerGaveUp, statusError } from "./end.ts";
import { FrameWriter } from "./frame-writer.ts";
import { decodeInfo, encodeInfo } from "./info.ts";
import { oneShot } from "./one-shot.ts";
import { PeerWatch } from "./peer-watch.ts";
import type { ReceiveHandle, ReceiveOptions } from "./receive-handle.ts";
import { ReceiveSide } from "./receive-side.ts";
import { type BufferSource, MemoryRegion } from "./region.ts";
import type { SendHandle, SendOptions } from "./send-handle.ts";
import { SendSide } from "./send-side.ts";
import { checkSignal, Deferred, watchAbort } from "./settle.ts";

const RTT_GUESS_NS = 10e6; // until the connection's first pong
const CLOSE_LINGER_NS_MIN = 2e6; // from the first CLOSE on, for all of them to leave
/** Nobody answers the connection's CLOSE; it may meet a full socket, as data is still under way. */
const CLOSE_COPIES = 3;
const CLOSE_OUT_NS_MAX = 2e9; // from the last CLOSE on, for all that was sent to leave this end
const FINAL_ACK_LINGER_NS_MIN = 2e9; // of a closing receiver whose final ACKs are unconfirmed
const FINAL_ACK_LINGER_RTTS = 8;
/** A socket's buffer is charged for more than payload; the rest is for that and for a late reader. */
const SOCKET_SHARE = 1 / 4;

/** Everything that was sent, received, dropped and ignored. */
export interface QueuePairCounters extends NativeCounters {
  /** Control frames; several may share a datagram. */
  readonly framesSent: number;
  /** Frames the transport had no room for. */
  readonly framesRefused: number;
  /** Control datagrams that were not frames to their end. */
  readonly framesMalformed: number;
  /** Control frames seen before, or too old to tell. */
  readonly framesReplayed: number;
}

type State = "new" | "connecting" | "connected" | "closing" | "closed";

/**
 * One end of a connection (the paper's SDR queue pair): made by Context.createQueuePair, connected by exchanging
 * info(), then the n-th message sent at one end lands in the n-th receive posted at the other, in each direction.
 */
export class QueuePair implements End, Disposable, AsyncDisposable {
  /** As given, with the defaults filled in. */
  readonly attributes: ResolvedAttributes;
  /** Round-trip time and rate as known now. */
  readonly path: RttEstimator;
  /** @internal */
  readonly writer: FrameWriter;
  private readonly transport: Transport;
  private readonly half: TransportQp;
  private readonly watch: PeerWatch;
  private readonly sends: SendSide;
  private readonly receives: ReceiveSide;
  private readonly replays = new ReplayWindow();
  private readonly onClosed: () => void;
  private state: State = "new";
  /** Why it ended, when nobody here asked for that. */
  private failure: SdrError | undefined;
  private connecting: Deferred<void> | undefined;
  private closing: Deferred<void> | undefined;
  private lingerUntilNs = Number.POSITIVE_INFINITY;
  private closesSent = 0;
  private closeAtNs = Number.POSITIVE_INFINITY;
  private closeUntilNs = Number.POSITIVE_INFINITY;
  private windowBytes = 1;
  private flushing = false;
  private framesMalformed = 0;
  private framesReplayed = 0;
  private lastCounters: QueuePairCounters | undefined;

  /** @internal Made by Context.createQueuePair. */
  constructor(transport: Transport, attributes: QueuePairAttributes, onClosed: () => void) {
    this.transport = transport;
    this.attributes = resolveAttributes(attributes, transport.capabilities);
    const config = toNativeConfig(this.attributes, transport.capabilities.channels);
    this.half = transport.createQp(config, this.listener());
    this.writer = new FrameWriter(this.half.native, this.attributes.packetBytes);
    const linkBps = transport.link.rateBps || Number.POSITIVE_INFINITY;
    const rateBps = Math.min(this.attributes.rateBps, linkBps);
    this.path = new RttEstimator({ initialRttNs: RTT_GUESS_NS, rateBps });
    this.watch = new PeerWatch(this.writer, this.path, this.attributes);
    this.sends = new SendSide(this);
    this.receives = new ReceiveSide(this);
    this.onClosed = onClosed;
  }

  /** @internal */
  get native(): NativeQp {
    return this.half.native;
  }

  /** What the context's transport can do. */
  get capabilities(): Capabilities {
    return this.transport.capabilities;
  }

  /** Between connect() and the first sign of an end. */
  get isConnected(): boolean {
    return this.state === "connected";
  }

  /**
   * Opaque bytes for the peer's connect, to be exchanged out of band. They hold this end's key: keep them between
   * the two.
   */
  info(): Uint8Array {
    this.checkOpen();
    return encodeInfo(this.attributes, this.capabilities.receiveBufferBytes, this.half.info());
  }

  /**
   * Connects to the queue pair whose info() this is; both ends must do so. Resolves when a full-size packet has made
   * the round trip, which also measures the RTT. Errors: PEER_INCOMPATIBLE, PEER_UNREACHABLE, ABORTED, CLOSED.
   */
  async connect(info: Uint8Array, options: { signal?: AbortSignal } = {}): Promise<void> {
    this.checkOpen();
    check(
      this.state === "new",
      `the queue pair is already ${this.state}`,
      "make a new one for another peer",
    );
    checkSignal(options.signal);
    const peer = decodeInfo(info, this.attributes);
    this.half.connect(peer.transport as TransportInfo);
    this.windowBytes = this.attributes.maxInFlightBytes ?? peer.receiveBufferBytes * SOCKET_SHARE;
    this.state = "connecting";
    this.connecting = new Deferred(() => this.userWoken());
    const nowNs = this.nowNs();
    this.watch.heard(nowNs);
    this.watch.ping(nowNs);
    this.act();
    const stopWatching = watchAbort(options.signal, () =>
      this.fail(new SdrError("ABORTED", "connecting was aborted", "")),
    );
    try {
      await this.connecting.promise;
    } finally {
      stopWatching();
    }
  }

  /** @internal Chunks one session may have in flight: the window and, at a known rate, what the path itself holds. */
  windowChunks(): number {
    const { maxInFlightBytes, chunkBytes } = this.attributes;
    const { rateBps, rttNs } = this.path;
    let bytes = this.windowBytes;
    if (maxInFlightBytes === undefined && Number.isFinite(rateBps))
      bytes += (2 * rateBps * rttNs) / 8e9;
    const share = bytes / chunkBytes / Math.max(1, this.sends.openCount);
    return Math.max(2, Math.min(2 ** 31, Math.floor(share)));
  }

  /**
   * Posts the next send and returns at once; see SendHandle. Errors: TOO_LARGE, BUSY (no free slot), UNSUPPORTED,
   * INVALID_ARGUMENT (also before it is connected), CLOSED.
   */
  startSend(options: SendOptions): SendHandle {
    this.checkOpen();
    check(this.isConnected, "the queue pair is not connected", "await connect() before sending");
    return this.sends.start(options);
  }

  /**
   * One-shot send of a region's bytes (or a buffer, registered for the purpose): waits for the CTS, injects everything
   * once, ends. Unreliable by itself. Errors: as startSend's; INVALID_ARGUMENT.
   */
  send(
    source: MemoryRegion | BufferSource,
    options: { offset?: number; bytes?: number; immediate?: number; signal?: AbortSignal } = {},
  ): SendHandle {
    const { offset = 0, immediate, signal } = options;
    const region = MemoryRegion.of(source);
    const bytes = options.bytes ?? region.bytes - offset;
    region.checkRange(offset, bytes, this.capabilities);
    const handle = this.startSend({ bytes, immediate, signal });
    handle.source = { region, offset };
    handle.driver = oneShot(handle);
    return handle;
  }

  /**
   * Posts the next receive, before or after connecting: data of the n-th send lands in it. Errors: INVALID_ARGUMENT,
   * TOO_LARGE, BUSY, UNSUPPORTED, CLOSED.
   */
  postReceive(options: ReceiveOptions): ReceiveHandle {
    this.checkOpen();
    return this.receives.post(options);
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

  /** Replaces the impairments of what this end sends. Errors: CLOSED; INVALID_ARGUMENT, also before it is connected. */
  setLink(link: LinkProfile): void {
    this.checkOpen();
    checkLink(link);
    check(
      this.native.setLink(link) === STATUS.ok,
      "the queue pair has no link yet",
      "connect it first",
    );
  }

  /**
   * Ends the connection in good order: final ACKs still unconfirmed are repeated for a while, then the peer is told.
   * Pending work fails with CLOSED at once. Resolves when what was sent has left this end, 2 s after it at most. In an
   * emulated world all that takes virtual time: run it meanwhile.
   */
  async close(): Promise<void> {
    const lingerNs = Math.max(FINAL_ACK_LINGER_NS_MIN, FINAL_ACK_LINGER_RTTS * this.path.rttNs);
    this.beginClosing(closedHere(), Math.min(this.attributes.peerTimeoutNs, lingerNs));
    await this.closing?.promise;
  }

  /**
   * Ends the connection now: final ACKs are not repeated any more. The peer is told in the background, while the
   * context is open. Prefer close(), or `await using`: a sender that lacks its final ACK fails.
   */
  [Symbol.dispose](): void {
    if (this.isConnected) this.beginClosing(closedHere(), 0);
    else this.abandon();
  }

  /** @internal Ends it without a word: its context goes away. */
  abandon(): void {
    this.end(closedHere());
  }

  /** As close: `await using` ends a connection in good order. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Nanoseconds of the transport's clock: virtual for emulated, monotonic for UDP. Errors: CLOSED. */
  nowNs(): number {
    return this.transport.nowNs();
  }

  // ---- what the sides and the reliable layer use ----

  /** @internal */
  userWoken(): void {
    this.transport.userWoken();
  }

  /** @internal */
  act(): void {
    if (this.flushing || this.state === "closed") return;
    this.flush(this.nowNs());
    this.transport.rearm();
  }

  /** @internal */
  awaitWork<T>(
    begin: () => Promise<T>,
    then: (result: T) => void,
    fail: (error: unknown) => void,
  ): void {
    const work = async () => {
      try {
        return { result: await begin() };
      } catch (error) {
        return { error };
      }
    };
    this.transport.awaitWork(work, (outcome) => {
      if (this.state === "closed") return fail(closedHere());
      if ("result" in outcome) then(outcome.result as T);
      else fail(outcome.error);
      this.act();
    });
  }

  /** @internal */
  beginWaiting(): void {
    if (!this.isWaiting) this.watch.heard(this.nowNs());
  }

  /** @internal Tells the receiver that its final ACK has arrived. */
  confirm(message: number): void {
    this.writer.write({ kind: "done", message });
  }

  /** @internal */
  refused(status: number, what: string): SdrError {
    return statusError(status, what, this.half.refusal?.());
  }

  // ---- events ----

  private listener(): QpListener {
    return {
      handleInjected: (_message, workRequest, nowNs) =>
        this.sends.handleInjected(workRequest, nowNs),
      handleProgress: (message, complete, nowNs) => {
        this.watch.heard(nowNs);
        this.receives.handleProgress(message, complete, nowNs);
      },
      handleControl: (bytes, nowNs) => this.handleControl(bytes, nowNs),
      handleTransportError: (errno) => this.handleTransportError(errno),
      handleTimeout: (nowNs) => this.handleTimeout(nowNs),
      flush: (nowNs) => this.flush(nowNs),
      nextTimeoutNs: () => this.nextTimeoutNs(),
    };
  }

  private handleTransportError(errno: number): void {
    const cause = this.half.failure?.() || `error ${errno}`;
    const what = `the transport failed: ${cause}`;
    this.fail(new SdrError("ENVIRONMENT", what, "see the cause; make a new queue pair to go on"));
  }

  private handleControl(bytes: Uint8Array, nowNs: number): void {
    this.watch.heard(nowNs);
    const decoded = decodeFrames(bytes);
    if (decoded.reason !== undefined) this.framesMalformed++;
    for (const { frame, sequence } of decoded) {
      if (!this.replays.accept(sequence)) this.framesReplayed++;
      else this.handleFrame(frame, nowNs);
      if (this.state === "closed") return;
    }
  }

  private handleFrame(frame: ControlFrame, nowNs: number): void {
    switch (frame.kind) {
      case "ping":
        this.writer.write({ kind: "pong", timeNs: frame.timeNs, padding: frame.padding });
        break;
      case "pong":
        this.watch.handlePong(frame, nowNs);
        if (this.state === "connecting" && this.watch.connected) {
          this.state = "connected";
          this.connecting?.resolve();
        }
        break;
      case "cts":
        this.sends.handleCts(frame, nowNs);
        break;
      case "start":
        this.receives.handleStart(frame, nowNs);
        break;
      case "ack":
      case "nack":
        this.sends.handleFrame(frame, nowNs);
        break;
      case "done":
        this.receives.handleDone(frame.message, nowNs);
        break;
      case "policy":
        if (frame.type < POLICY_KIND_TO_SENDER_MIN) this.receives.handleFrame(frame, nowNs);
        else this.sends.handleFrame(frame, nowNs);
        break;
      case "close":
        if (frame.scope === "receive") this.sends.handleClose(frame.message, peerGaveUp(frame));
        else if (frame.scope === "send")
          this.receives.handleClose(frame.message, peerGaveUp(frame));
        else this.handlePeerClosed();
        break;
    }
  }

  private handlePeerClosed(): void {
    if (this.state === "closing") this.shut();
    else this.fail(new SdrError("PEER_CLOSED", "the peer closed the connection", ""));
  }

  private handleTimeout(nowNs: number): void {
    this.sends.handleTimeout(nowNs);
    this.receives.handleTimeout(nowNs);
    if (!this.isWaiting) return;
    this.watch.heard(this.native.lastHeardNs());
    this.watch.look(nowNs);
    if (this.watch.isSilent(nowNs)) this.fail(this.watch.unreachable());
    else if (this.watch.isPingDue(nowNs)) this.watch.ping(nowNs);
  }

  /** The peer owes something: its silence counts. */
  private get isWaiting(): boolean {
    if (this.state === "connecting") return true;
    return this.isConnected && (this.sends.isWaiting || this.receives.isWaiting);
  }

  private nextTimeoutNs(): number {
    if (this.state === "closed" || this.state === "new") return Number.POSITIVE_INFINITY;
    return Math.min(
      this.closeAtNs,
      this.lingerUntilNs,
      this.sends.nextTimeoutNs(),
      this.receives.nextTimeoutNs(),
      this.isWaiting ? this.watch.nextNs() : Number.POSITIVE_INFINITY,
    );
  }

  /** Sends what sessions have to say and as much data as the transport has room for. */
  private flush(nowNs: number): void {
    if (this.state === "closed") return;
    this.flushing = true;
    try {
      this.receives.flush(nowNs);
      this.sends.flush(nowNs);
    } finally {
      this.flushing = false;
    }
    this.writer.flush();
    if (this.state === "closing") this.proceedClose(nowNs);
  }

  private proceedClose(nowNs: number): void {
    if (this.closesSent === 0) {
      if (this.receives.isLingering && nowNs < this.lingerUntilNs) return;
      this.lingerUntilNs = Number.POSITIVE_INFINITY;
    } else if (nowNs < this.closeAtNs) {
      return;
    }
    const lingerNs = CLOSE_LINGER_NS_MIN + 1.5 * this.path.rttNs;
    this.closeAtNs = nowNs + Math.ceil(lingerNs / CLOSE_COPIES);
    if (this.closesSent < CLOSE_COPIES) {
      this.closesSent++;
      this.closeUntilNs = nowNs + CLOSE_OUT_NS_MAX;
      this.writer.write(closeFrame(0, "connection", this.failure));
      this.writer.flush();
      return;
    }
    // The transport's own thread may not have come to run, or the link may delay it.
    const isOut = this.native.counters().controlWaiting === 0;
    if (isOut || nowNs >= this.closeUntilNs) this.shut();
  }

  private failAll(error: SdrError): void {
    const nowNs = this.nowNs();
    this.sends.failAll(error, nowNs);
    this.receives.failAll(error, nowNs);
    this.connecting?.reject(error);
  }

  private fail(error: SdrError): void {
    if (this.state !== "closing" && this.state !== "closed") this.failure = error;
    // A peer that is only slow to answer need not find out by waiting.
    if (this.isConnected && error.code !== "PEER_CLOSED") this.beginClosing(error, 0);
    else this.end(error);
  }

  /** Pending work fails now; the peer is told once final ACKs are confirmed, after `lingerNs` at most. */
  private beginClosing(error: SdrError, lingerNs: number): void {
    if (this.state === "new") this.end(error);
    if (this.state === "closed") return;
    const untilNs = this.nowNs() + lingerNs;
    if (this.state === "closing") {
      this.lingerUntilNs = Math.min(this.lingerUntilNs, untilNs);
    } else {
      this.closing = new Deferred(() => this.userWoken());
      this.lingerUntilNs = this.isConnected ? untilNs : this.nowNs();
      this.failAll(error);
      this.state = "closing";
    }
    this.act();
  }

  private end(error: SdrError): void {
    if (this.state === "closed") return;
    this.failAll(error);
    this.shut();
  }

  private shut(): void {
    this.receives.stopLingering(this.nowNs());
    this.lastCounters = this.counters();
    this.half.close();
    this.onClosed();
    this.state = "closed";
    this.closing?.resolve();
    this.transport.rearm();
  }

  private checkOpen(): void {
    if (this.failure !== undefined) throw this.failure;
    if (this.state === "closed" || this.state === "closing")
      throw new SdrError("CLOSED", "the queue pair is closed", "make a new one");
  }
}

function closedHere(): SdrError {
  return new SdrError("CLOSED", "the queue pair was closed", "");
}
