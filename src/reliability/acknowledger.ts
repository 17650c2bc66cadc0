/**
 * The receiving half that every bitmap policy shares: where the bitmap stands (`Frontier`), when to acknowledge
 * (`Acknowledger`), and the receive session made of both and an optional loss detector (`BitmapReceiver`).
 * Work is proportional to what arrived; only an ACK looks at the whole received range, a few times an RTT.
 */
import type { ChunkBitmap } from "./bitmap.ts";
import type { AckFrame, ControlFrame, NackFrame } from "./frames.ts";
import { ACK_FIXED_BYTES, NO_CHUNK } from "./frames.ts";
import type { ReceiveSession, SessionParams, SessionState } from "./policy.ts";

/** ACKs are at least this far apart: on a very short path they would else cost more than the data. */
export const ACK_INTERVAL_MIN_NS = 20_000;
/** At most this part of the least RTT passes between news and its ACK. */
export const ACK_RTT_FRACTION = 1 / 4;
/** An ACK is sent at once when this part of the sender's window has arrived since the last. */
export const ACK_WINDOW_FRACTION = 1 / 4;
/** An ACK that nothing followed is repeated after this many RTTs, then after twice as long each time. */
export const ACK_REPEAT_RTTS = 1.5;
export const ACK_REPEAT_DOUBLINGS_MAX = 5;
/** The final ACK goes out so often, this part of an RTT apart: nothing else tells the sender that it is done. */
export const FINAL_COPIES = 3;
const COPY_SPACING_RTTS = 1 / 32;
/** How far beyond the highest completed chunk each progress report looks; ACKs look to the end. */
export const LOOKAHEAD_CHUNKS = 1024;

const NOTHING = -1;

/** Time between the copies of a frame whose loss would cost a round trip and more. */
export function copySpacingNs({ path }: SessionParams): number {
  return Math.max(ACK_INTERVAL_MIN_NS, Math.ceil(path.rttNs * COPY_SPACING_RTTS));
}

/** A sender's full window is a stall when the ACK of what was injected last should have come. */
export function stallNs({ path, rtoFloorNs }: SessionParams): number {
  return Math.max(rtoFloorNs, Math.ceil(path.rttNs * (1 + ACK_RTT_FRACTION)), 1);
}

export type GapListener = (first: number, count: number) => void;

/** What is known of a live bitmap: the completed prefix and the highest completed chunk. */
export class Frontier {
  readonly chunkCount: number;
  /** All chunks below have completed. */
  cumulative = 0;
  /** Highest completed chunk, -1 for none. */
  highest = NOTHING;

  constructor(chunkCount: number) {
    this.chunkCount = chunkCount;
  }

  /** Reads on from where it stood; tells `onGap` of missing chunks below newly found ones, ascending. */
  advance(bitmap: ChunkBitmap, onGap: GapListener | undefined, lookahead: number): void {
    this.cumulative = bitmap.nextClear(this.cumulative);
    if (this.cumulative > this.highest + 1) this.highest = this.cumulative - 1;
    for (;;) {
      const from = this.highest + 1;
      const limit = Math.min(this.chunkCount, from + lookahead);
      const found = bitmap.nextSetBelow(from, limit);
      if (found >= limit) return;
      if (found > from) onGap?.(from, found - from);
      this.highest = bitmap.nextClear(found) - 1;
    }
  }
}

export interface AcknowledgerOptions {
  /** Whether ACKs carry the bitmap beyond the completed prefix. */
  readonly selective: boolean;
  /** Most time between news and its ACK, in RTTs. */
  readonly rttFraction: number;
}

/**
 * Decides when an ACK is due and writes it, in several frames when the received range needs them. Due at the
 * first progress, at completion, when a good part of the window arrived, a fraction of an RTT after other news;
 * and again, ever more rarely, while nothing follows: the ACK may have been lost, and a sender whose window is
 * full of delivered chunks would otherwise wait for it forever.
 */
export class Acknowledger {
  private readonly params: SessionParams;
  private readonly options: AcknowledgerOptions;
  private readonly wordsMax: number;
  private lastAckNs = -Infinity;
  private ackedCumulative = 0;
  private ackedHighest = NOTHING;
  private latestNs = 0;
  private latestHighest = NOTHING;
  private news = false;
  private repeatAtNs = Infinity;
  private repeats = 0;
  /** Further copies of the final ACK to send soon after it. */
  private copiesLeft = 0;
  /** Next chunk of the selective part to write; NOTHING when no ACK is being written. */
  private writeFrom = NOTHING;

  constructor(params: SessionParams, options: AcknowledgerOptions) {
    this.params = params;
    this.options = options;
    this.wordsMax = Math.max(1, Math.floor((params.frameBytesMax - ACK_FIXED_BYTES) / 4));
  }

  /**
   * By the least RTT: this end's estimate may be far above its peer's, as when its thread was busy while a reply
   * waited, and ACKs that came so much more rarely would let the peer's timers expire.
   */
  private intervalNs(): number {
    const { rttMinNs } = this.params.path;
    return Math.max(ACK_INTERVAL_MIN_NS, Math.ceil(rttMinNs * this.options.rttFraction));
  }

  /** The bitmap changed and `front` was brought up to date; `arrived` says whether its highest chunk came by itself. */
  handleProgress(front: Frontier, nowNs: number, arrived = true): void {
    if (arrived && front.highest > this.latestHighest) {
      this.latestHighest = front.highest;
      this.latestNs = nowNs;
    }
    this.news = true;
    this.repeats = 0;
    const advance = Math.max(
      front.highest - this.ackedHighest,
      front.cumulative - this.ackedCumulative,
    );
    const intervalNs =
      advance >= this.params.windowChunks * ACK_WINDOW_FRACTION
        ? ACK_INTERVAL_MIN_NS
        : this.intervalNs();
    if (nowNs >= this.lastAckNs + intervalNs) this.schedule(nowNs);
  }

  /** Makes an ACK due now. */
  schedule(nowNs: number): void {
    const { path, rtoFloorNs } = this.params;
    const repeatNs = Math.max(Math.ceil(path.rttNs * ACK_REPEAT_RTTS), rtoFloorNs, 1);
    this.lastAckNs = nowNs;
    this.news = false;
    this.writeFrom = 0;
    this.repeatAtNs =
      this.copiesLeft > 0
        ? nowNs + copySpacingNs(this.params)
        : nowNs + repeatNs * 2 ** Math.min(this.repeats, ACK_REPEAT_DOUBLINGS_MAX);
  }

  /** Makes the final ACK due now, and its copies after it. */
  scheduleFinal(nowNs: number): void {
    this.copiesLeft = FINAL_COPIES - 1;
    this.repeats = 0;
    this.schedule(nowNs);
  }

  /** The peer shows that it lacks the last ACK: repeats it, but does not let itself be made to flood. */
  repeatOnRequest(nowNs: number): void {
    if (nowNs >= this.lastAckNs + this.intervalNs()) this.schedule(nowNs);
  }

  handleTimeout(nowNs: number): void {
    if (nowNs >= this.repeatAtNs) {
      if (this.copiesLeft > 0) this.copiesLeft--;
      else this.repeats++;
      this.schedule(nowNs);
    } else if (this.news && nowNs >= this.lastAckNs + this.intervalNs()) {
      this.schedule(nowNs);
    }
  }

  /** True when the next poll begins a new ACK: the moment to bring the frontier fully up to date. */
  get begins(): boolean {
    return this.writeFrom === 0;
  }

  poll(front: Frontier, bitmap: ChunkBitmap | undefined, nowNs: number): AckFrame | undefined {
    if (this.writeFrom === NOTHING) return undefined;
    this.ackedCumulative = front.cumulative;
    this.ackedHighest = front.highest;
    const base = Math.max(this.writeFrom, front.cumulative & ~31);
    let selective = new Uint32Array(0);
    this.writeFrom = NOTHING;
    if (this.options.selective && bitmap !== undefined && base <= front.highest) {
      const firstWord = base >>> 5;
      const endWord = Math.min((front.highest >>> 5) + 1, firstWord + this.wordsMax);
      // A copy: the words go on changing under the transport, and the driver may keep the frame.
      selective = bitmap.words.slice(firstWord, endWord);
      if (endWord * 32 <= front.highest) this.writeFrom = endWord * 32;
    }
    return {
      kind: "ack",
      message: 0,
      cumulative: front.cumulative,
      latestChunk: this.latestHighest === NOTHING ? NO_CHUNK : this.latestHighest,
      delayNs: Math.max(0, Math.round(nowNs - this.latestNs)),
      selectiveBase: selective.length === 0 ? front.cumulative : base,
      selective,
    };
  }

  nextTimeoutNs(): number {
    const newsAtNs = this.news ? this.lastAckNs + this.intervalNs() : Infinity;
    return Math.min(newsAtNs, this.repeatAtNs);
  }
}

/** Finds lost chunks on the receiver's side and asks for them. Times as in `ReceiveSession`. */
export interface LossDetector {
  /** [first, first + count) is missing below a chunk that has just been found completed. */
  handleGap(first: number, count: number, nowNs: number): void;
  /** True when what is asked for makes sense only together with an ACK: send one before it. */
  handleProgress(bitmap: ChunkBitmap, front: Frontier, nowNs: number): boolean;
  handleTimeout(bitmap: ChunkBitmap | undefined, front: Frontier, nowNs: number): void;
  /** Whether a completed chunk may have been made from others: then its time says nothing of the path's. */
  isRecovered?(chunk: number): boolean;
  pollNack(): NackFrame | undefined;
  nextTimeoutNs(): number;
}

/** The receive session of the policies that retransmit: acknowledges, and repairs through its loss detector. */
export class BitmapReceiver implements ReceiveSession {
  complete = false;
  state: SessionState = "active";
  private readonly front: Frontier;
  private readonly acknowledger: Acknowledger;
  private readonly detector: LossDetector | undefined;
  private bitmap: ChunkBitmap | undefined;

  constructor(params: SessionParams, options: AcknowledgerOptions, detector?: LossDetector) {
    this.front = new Frontier(params.chunkCount);
    this.acknowledger = new Acknowledger(params, options);
    this.detector = detector;
  }

  handleProgress(bitmap: ChunkBitmap, nowNs: number): void {
    if (this.complete || this.state !== "active") return;
    this.bitmap = bitmap;
    this.look(nowNs, LOOKAHEAD_CHUNKS);
    if (this.complete || this.front.highest < 0) return;
    this.acknowledger.handleProgress(this.front, nowNs, this.hasArrived);
    if (this.detector?.handleProgress(bitmap, this.front, nowNs)) this.acknowledger.schedule(nowNs);
  }

  /** Brings the frontier up to date, and ends the work on the bitmap when nothing is missing. */
  private look(nowNs: number, lookahead: number): void {
    const { bitmap, detector, front } = this;
    if (bitmap === undefined) return;
    const onGap = detector && ((first: number, n: number) => detector.handleGap(first, n, nowNs));
    front.advance(bitmap, onGap, lookahead);
    if (front.cumulative < front.chunkCount) return;
    this.complete = true;
    this.bitmap = undefined;
    this.acknowledger.handleProgress(front, nowNs, this.hasArrived);
    this.acknowledger.scheduleFinal(nowNs);
  }

  private get hasArrived(): boolean {
    return this.detector?.isRecovered?.(this.front.highest) !== true;
  }

  /** Our own senders send no frames; one of this message means that its sender has not seen the end. */
  handleControl(_frame: ControlFrame, nowNs: number): void {
    if (this.complete && this.state === "active") this.acknowledger.repeatOnRequest(nowNs);
  }

  handleDone(_nowNs: number): void {
    this.state = "done";
    this.bitmap = undefined;
  }

  handleTimeout(nowNs: number): void {
    if (this.state !== "active") return;
    this.acknowledger.handleTimeout(nowNs);
    if (!this.complete) this.detector?.handleTimeout(this.bitmap, this.front, nowNs);
  }

  pollControl(nowNs: number): ControlFrame | undefined {
    if (this.state !== "active") return undefined;
    if (this.acknowledger.begins) this.look(nowNs, this.front.chunkCount);
    const ack = this.acknowledger.poll(this.front, this.bitmap, nowNs);
    if (ack !== undefined || this.complete) return ack;
    return this.detector?.pollNack();
  }

  nextTimeoutNs(): number {
    if (this.state !== "active") return Infinity;
    const ackNs = this.acknowledger.nextTimeoutNs();
    const detectNs = this.complete ? Infinity : (this.detector?.nextTimeoutNs() ?? Infinity);
    return Math.min(ackNs, detectNs);
  }
}
