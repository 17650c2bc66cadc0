/**
 * What the receiver of the hybrid scheme asks for. While data comes: gaps in the message's head, as in sr-nack. When
 * the sender says that everything is sent: chunks for blocks that cannot be decoded, whichever chunks. When its window
 * is full before that: what is missing of what it sent.
 */
import type { Frontier, LossDetector } from "./acknowledger.ts";
import { AskList } from "./ask-list.ts";
import type { ChunkBitmap } from "./bitmap.ts";
import { BlockAsks } from "./block-asks.ts";
import type { BlockDecoder } from "./block-decoder.ts";
import type { BlockLayout } from "./block-layout.ts";
import type { NackFrame } from "./frames.ts";
import { askAgainFloorNs, GapDetector } from "./gap-detector.ts";
import type { Need } from "./hybrid-frames.ts";
import type { LossWatch } from "./loss-watch.ts";
import type { SessionParams } from "./policy.ts";
import { REORDER_RTTS_DEFAULT } from "./selective-repeat.ts";

interface Blocks {
  readonly layout: BlockLayout;
  readonly decoder: BlockDecoder;
  readonly asks: BlockAsks;
}

const NEVER = -Infinity;

export class HybridRepairs implements LossDetector {
  /** Blocks to ask for now; taken from by whoever sends them. */
  readonly needs: Need[] = [];
  private readonly params: SessionParams;
  private readonly losses: LossWatch;
  private readonly detector: GapDetector;
  private readonly asks: AskList;
  /** How the message falls into blocks, once that is known. */
  private blocks: Blocks | undefined;
  private tailFirst = Infinity;
  /** What the sender says is injected; chunks below are looked at when their time is up. */
  private sentChunks = 0;
  private stallAskedNs = NEVER;
  private dueNs = Infinity;

  constructor(params: SessionParams, losses: LossWatch) {
    this.params = params;
    this.losses = losses;
    this.asks = new AskList(params.frameBytesMax);
    this.detector = new GapDetector(params, {
      reorderRtts: REORDER_RTTS_DEFAULT,
      watchesTail: false,
      isMade: (chunk) => this.isRecovered(chunk),
      onLost: (chunk) => losses.mark(chunk),
      onLate: (chunk) => losses.unmark(chunk),
    });
  }

  /** How the message falls into blocks is known now. */
  begin(layout: BlockLayout, decoder: BlockDecoder): void {
    const asks = new BlockAsks(this.params, layout.blockCount, decoder);
    this.blocks = { layout, decoder, asks };
  }

  /** Of chunks from here on, gaps are parity's. */
  beginTail(tailFirst: number): void {
    this.tailFirst = tailFirst;
    this.detector.asksBelow = Math.min(this.detector.asksBelow, tailFirst);
  }

  /** Whether there is still news of the head's losses; those of the tail are known together, at the end. */
  watchesHead = true;

  /** Time for what is on its way to come in, whatever the order: as gaps have it. */
  private get waitNs(): number {
    return Math.max(this.detector.windowNs, askAgainFloorNs(this.params));
  }

  /** A stall is asked about again when a repair should have come. */
  private get stallAgainNs(): number {
    return Math.ceil(this.params.path.rttNs) + this.waitNs;
  }

  /** The sender's word, checked by the caller: data chunks injected, and if that is all of them, parity too. */
  handleSent(chunks: number, nowNs: number): void {
    const { chunkCount } = this.params;
    const isNews = chunks > this.sentChunks;
    if (chunks === 0 || this.sentChunks === chunkCount) return;
    if (!isNews && nowNs < this.stallAskedNs + this.stallAgainNs) return;
    this.sentChunks = Math.max(this.sentChunks, chunks);
    if (this.sentChunks === chunkCount) {
      // From now on it is blocks that are asked for.
      this.detector.asksBelow = 0;
      if (this.blocks !== undefined)
        this.blocks.decoder.newsEndBlock = this.blocks.layout.blockCount;
    }
    this.dueNs = Math.min(this.dueNs, nowNs + this.waitNs);
  }

  /** A decode is over; should it have left something missing, that is looked at soon. */
  handleTaskDone(nowNs: number): void {
    if (this.sentChunks > 0) this.dueNs = Math.min(this.dueNs, nowNs + this.waitNs);
  }

  handleGap(first: number, count: number, nowNs: number): void {
    this.detector.handleGap(first, count, nowNs);
  }

  handleProgress(bitmap: ChunkBitmap, front: Frontier, nowNs: number): boolean {
    this.watchesHead = front.highest < this.tailFirst;
    this.losses.lookedAt(Math.min(front.highest + 1, this.tailFirst));
    return this.detector.handleProgress(bitmap, front, nowNs);
  }

  handleTimeout(bitmap: ChunkBitmap | undefined, front: Frontier, nowNs: number): void {
    this.detector.handleTimeout(bitmap, front, nowNs);
    if (nowNs < this.dueNs) return;
    this.dueNs = Infinity;
    if (this.sentChunks < this.params.chunkCount) this.askForStalled(bitmap, front, nowNs);
    else this.dueNs = this.askForBlocks(nowNs);
  }

  /** Once for each time that the sender says so, which it repeats. Nothing may have come at all. */
  private askForStalled(bitmap: ChunkBitmap | undefined, front: Frontier, nowNs: number): void {
    this.stallAskedNs = nowNs;
    for (let chunk = front.cumulative; chunk < this.sentChunks; chunk++)
      if (bitmap?.has(chunk) !== true) this.askForChunk(chunk);
  }

  private askForChunk(chunk: number): void {
    this.asks.add(chunk, 1);
    this.losses.mark(chunk);
  }

  /** Asks for what is due; returns when to look again. */
  private askForBlocks(nowNs: number): number {
    const { blocks } = this;
    if (blocks === undefined) return Infinity;
    blocks.decoder.look(nowNs);
    const end = blocks.layout.blockCount;
    return blocks.asks.askDue(end, this.waitNs, nowNs, (block) => this.askForBlock(block, blocks));
  }

  /** More chunks of any kind; its own, when a decode failed with enough. */
  private askForBlock(block: number, { layout, decoder }: Blocks): boolean {
    const chunks = decoder.lacking(block);
    if (chunks > 0) this.needs.push({ block, chunks });
    for (const chunk of layout.chunksOf(block)) {
      if (!decoder.isMissing(chunk)) continue;
      if (chunks > 0) this.losses.mark(chunk);
      else this.askForChunk(chunk);
    }
    return true;
  }

  isRecovered(chunk: number): boolean {
    return this.blocks?.decoder.isRecovered(chunk) === true;
  }

  pollNack(): NackFrame | undefined {
    return this.detector.pollNack() ?? this.asks.poll();
  }

  nextTimeoutNs(): number {
    return Math.min(this.dueNs, this.detector.nextTimeoutNs());
  }
}
