/**
 * The receiver's fallback (paper section 4.1): when the sender says that it has injected what it can, blocks that
 * neither are whole nor can be made so are asked for: their missing data chunks. No clock guesses when the data should
 * have been here: the sender's word starts the wait, which covers reordering only, so that nothing is asked for while
 * it may still be on its way.
 */
import type { Frontier, LossDetector } from "./acknowledger.ts";
import { AskList } from "./ask-list.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import type { BlockDecoder } from "./block-decoder.ts";
import type { BlockLayout } from "./block-layout.ts";
import type { NackFrame } from "./frames.ts";
import { askAgainFloorNs } from "./gap-detector.ts";
import type { SessionParams } from "./policy.ts";
import { SILENT_DOUBLINGS_MAX, SILENT_ROUNDS } from "./retransmission-guard.ts";

const NEVER = -Infinity;

export class BlockFallback implements LossDetector {
  private readonly params: SessionParams;
  private readonly beta: number;
  private readonly layout: BlockLayout;
  private readonly decoder: BlockDecoder;
  private readonly asks: AskList;
  /** Data chunks that the sender says are injected, and how many of them are due to be here; never fewer again. */
  private sentChunks = 0;
  private dueChunks = 0;
  private raiseAtNs = Infinity;
  /** When each block was asked for last. */
  private readonly askedNs: Float64Array;
  /** Rounds of asking in a row that brought nothing. */
  private rounds = 0;
  private roundNs = -Infinity;
  private dueNs = Infinity;

  constructor(params: SessionParams, beta: number, layout: BlockLayout, decoder: BlockDecoder) {
    this.params = params;
    this.beta = beta;
    this.layout = layout;
    this.decoder = decoder;
    this.asks = new AskList(params.frameBytesMax);
    this.askedNs = new Float64Array(layout.blockCount).fill(NEVER);
  }

  /** Time for what is on its way to come in, whatever the order. */
  private get waitNs(): number {
    return Math.max(Math.ceil(this.params.path.rttNs * this.beta), askAgainFloorNs(this.params));
  }

  /** A repair takes a round trip. Asked for ever more rarely when nothing at all comes. */
  private get askAgainNs(): number {
    const doublings = Math.min(Math.max(0, this.rounds - SILENT_ROUNDS), SILENT_DOUBLINGS_MAX);
    return (Math.ceil(this.params.path.rttNs) + this.waitNs) * 2 ** doublings;
  }

  /** The sender's word, checked by the caller: data chunks injected, with the parity of whole blocks among them. */
  handleSent(chunks: number, nowNs: number): void {
    if (chunks <= this.sentChunks) return;
    this.sentChunks = chunks;
    this.decoder.newsEndBlock = Math.ceil(chunks / this.layout.code.k);
    this.raiseAtNs = nowNs + this.waitNs;
    this.dueNs = Math.min(this.dueNs, this.raiseAtNs);
  }

  /** A decode is over; should it have left something missing, that is looked at soon. */
  handleTaskDone(nowNs: number): void {
    if (this.dueChunks > 0) this.dueNs = Math.min(this.dueNs, nowNs + this.waitNs);
  }

  /** A gap is nothing to ask about while its block's parity may still come. */
  handleGap(): void {}

  handleProgress(): boolean {
    return false;
  }

  handleTimeout(_bitmap: ChunkBitmap | undefined, _front: Frontier, nowNs: number): void {
    if (nowNs < this.dueNs) return;
    this.decoder.look(nowNs);
    if (nowNs >= this.raiseAtNs) {
      this.dueChunks = this.sentChunks;
      this.raiseAtNs = Infinity;
    }
    this.dueNs = Math.min(this.raiseAtNs, this.askDue(nowNs));
  }

  /** Asks for what is due; returns when to look again. */
  private askDue(nowNs: number): number {
    const { decoder, layout, waitNs } = this;
    if (decoder.newsNs > this.roundNs) this.rounds = 0;
    const { askAgainNs } = this;
    const end = Math.ceil(this.dueChunks / layout.code.k);
    let asked = false;
    let dueNs = Infinity;
    for (let block = decoder.firstOpen; block < end; block++) {
      if (!decoder.isStuck(block)) continue;
      const beforeNs = this.askedNs[block] as number;
      // While blocks that are due still come in, those not seen yet may be behind them in a queue.
      const atNs = beforeNs === NEVER ? decoder.newsNs + waitNs : beforeNs + askAgainNs;
      if (atNs > nowNs) dueNs = Math.min(dueNs, atNs);
      else if (this.ask(block)) {
        if (beforeNs === NEVER) decoder.counters.fallbacks++;
        this.askedNs[block] = nowNs;
        asked = true;
        dueNs = Math.min(dueNs, nowNs + askAgainNs);
      }
    }
    if (asked) {
      this.rounds++;
      this.roundNs = nowNs;
    }
    return dueNs;
  }

  /** False when none of the block's chunks that are due is missing. */
  private ask(block: number): boolean {
    const { asks, decoder, layout } = this;
    const end = Math.min(layout.dataEnd(block), this.dueChunks);
    let asked = false;
    for (let chunk = layout.dataFirst(block); chunk < end; chunk++) {
      if (!decoder.isMissing(chunk)) continue;
      asks.add(chunk, 1);
      asked = true;
    }
    return asked;
  }

  isRecovered(chunk: number): boolean {
    return this.decoder.isRecovered(chunk);
  }

  pollNack(): NackFrame | undefined {
    return this.asks.poll();
  }

  nextTimeoutNs(): number {
    return this.dueNs;
  }
}
