/**
 * The receiver's fallback (paper section 4.1): when the sender says that it has injected what it can, blocks that
 * neither are whole nor can be made so are asked for: their missing data chunks. No clock guesses when the data should
 * have been here: the sender's word starts the wait, which covers reordering only, so that nothing is asked for while
 * it may still be on its way.
 */
import type { Frontier, LossDetector } from "./acknowledger.ts";
import { AskList } from "./ask-list.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import { BlockAsks } from "./block-asks.ts";
import type { BlockDecoder } from "./block-decoder.ts";
import type { BlockLayout } from "./block-layout.ts";
import type { NackFrame } from "./frames.ts";
import { askAgainFloorNs } from "./gap-detector.ts";
import type { SessionParams } from "./policy.ts";

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
  private readonly blockAsks: BlockAsks;
  private dueNs = Infinity;

  constructor(params: SessionParams, beta: number, layout: BlockLayout, decoder: BlockDecoder) {
    this.params = params;
    this.beta = beta;
    this.layout = layout;
    this.decoder = decoder;
    this.asks = new AskList(params.frameBytesMax);
    this.blockAsks = new BlockAsks(params, layout.blockCount, decoder);
  }

  /** Time for what is on its way to come in, whatever the order. */
  private get waitNs(): number {
    return Math.max(Math.ceil(this.params.path.rttNs * this.beta), askAgainFloorNs(this.params));
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
    const end = Math.ceil(this.dueChunks / this.layout.code.k);
    const againNs = this.blockAsks.askDue(end, this.waitNs, nowNs, (block) => this.ask(block));
    this.dueNs = Math.min(this.raiseAtNs, againNs);
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
