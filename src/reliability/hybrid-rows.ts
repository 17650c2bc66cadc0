/**
 * The sender's parity rows: how many of each block are wanted, which to encode next, and which to hand out when. Knows
 * the blocks and how far the data is, not why rows are wanted.
 *
 * A block's rows are of two kinds. Those that its losses will probably take go out early, when the data of the group
 * behind its own has gone: so a burst does not hit data and its parity, and the receiver decodes while more comes. The
 * rest is there for what is not expected, and goes out after the last data, a part of every block's at a time. Rows are
 * therefore sent in about the order of their use: the message is complete when the unluckiest block has enough, and
 * what follows cost no time.
 */
import type { BlockLayout } from "./block-layout.ts";
import { ENCODE_AHEAD_BLOCKS } from "./block-schedule.ts";
import type { ChunkRange, CodingTask } from "./policy.ts";

/** Parts in which each block's later rows go out. */
const PASSES = 16;

export class RowSchedule {
  /** Rows handed out, and those of them not yet reported injected. */
  handedOut = 0;
  out = 0;
  /** Rows wanted and not handed out. */
  pending = 0;
  private readonly layout: BlockLayout;
  /** For each block: rows that go out early, all that are wanted, asked to be encoded, encoded, and handed out. */
  private readonly early: Uint8Array;
  private readonly wanted: Uint8Array;
  private readonly asked: Uint8Array;
  private readonly encoded: Uint8Array;
  private readonly sent: Uint8Array;
  private readonly dropped: Uint8Array;
  /** Blocks of which rows are, or were, wanted, in the order in which that was found. */
  private readonly blocks: number[] = [];
  /** Where encoding stands: in order for the tail's blocks, by need for others. */
  private tailTask: number;
  private readonly taskQueue: number[] = [];
  /** The first block whose early rows are not all handed out. */
  private earlyBlock: number;
  private pass = 0;
  private cursor = 0;
  /** Something changed behind the cursor. */
  private isStale = false;
  /** Rows of each block that are handed out and not reported injected. */
  private readonly outOf: Uint8Array;

  constructor(layout: BlockLayout) {
    const { blockCount } = layout;
    this.layout = layout;
    this.early = new Uint8Array(blockCount);
    this.wanted = new Uint8Array(blockCount);
    this.asked = new Uint8Array(blockCount);
    this.encoded = new Uint8Array(blockCount);
    this.sent = new Uint8Array(blockCount);
    this.dropped = new Uint8Array(blockCount);
    this.tailTask = blockCount;
    this.earlyBlock = blockCount;
    this.outOf = new Uint8Array(blockCount);
  }

  /** Rows of the block that were handed out. */
  sentOf(block: number): number {
    return this.sent[block] as number;
  }

  /** Whether rows of the block wait to be handed out, or to be injected. */
  isUnderWay(block: number): boolean {
    const isPending = (this.sent[block] as number) < (this.wanted[block] as number);
    return isPending || (this.outOf[block] as number) > 0;
  }

  /** From this block on rows are wanted for what is now sent a first time; said before any `want` of them. */
  beginTail(block: number): void {
    this.tailTask = block;
    this.earlyBlock = block;
  }

  /** `rows` of the block are wanted in all, at most the code's; `early` of them soon. Never fewer than before. */
  want(block: number, rows: number, early: number, isTail: boolean): void {
    const before = this.wanted[block] as number;
    const total = Math.min(rows, this.layout.code.m);
    if (total <= before || this.dropped[block] === 1) return;
    if (before === 0) this.blocks.push(block);
    this.wanted[block] = total;
    this.early[block] = Math.max(this.early[block] as number, Math.min(early, total));
    this.pending += total - before;
    this.isStale = true;
    if (!isTail) this.taskQueue.push(block);
  }

  /** All its data has arrived. */
  drop(block: number): void {
    if (this.dropped[block] === 1) return;
    this.dropped[block] = 1;
    this.pending -= (this.wanted[block] as number) - (this.sent[block] as number);
    this.wanted[block] = this.sent[block] as number;
  }

  /**
   * The next rows to encode, where data chunks below `fresh` are handed out. `isSettled` says whether more is hardly
   * to be wanted of a block that is not the tail's: each time costs a pass over its data.
   */
  pollTask(fresh: number, isSettled: (block: number) => boolean): CodingTask | undefined {
    const { layout, taskQueue } = this;
    const end = fresh < layout.chunkCount ? layout.blockOf(fresh) + 1 : layout.blockCount;
    const ahead = Math.min(layout.blockCount, end + ENCODE_AHEAD_BLOCKS + layout.interleave - 1);
    while (this.tailTask < ahead) {
      const task = this.taskOf(this.tailTask++);
      if (task !== undefined) return task;
    }
    while (taskQueue.length > 0 && isSettled(taskQueue[0] as number)) {
      const task = this.taskOf(taskQueue.shift() as number);
      if (task !== undefined) return task;
    }
    return undefined;
  }

  /** One task of a block at a time, so that its rows are ready in their order. */
  private taskOf(block: number): CodingTask | undefined {
    const first = this.encoded[block] as number;
    const count = (this.wanted[block] as number) - first;
    if (count <= 0 || this.asked[block] !== first) return undefined;
    this.asked[block] = first + count;
    return this.layout.task(block, { first, count });
  }

  handleTaskDone({ first }: CodingTask): void {
    const block = this.layout.blockOf(first);
    if (this.asked[block] === undefined) return;
    this.encoded[block] = this.asked[block];
    if (this.encoded[block] < (this.wanted[block] as number)) this.taskQueue.push(block);
    this.isStale = true;
  }

  /**
   * The next rows, of one block, that are due and encoded. `isDataHeld`: no data may go now, because there is none left
   * or the window is full; then rows need not wait for the next group's.
   */
  handOut(maxChunks: number, fresh: number, isDataHeld: boolean): ChunkRange | undefined {
    if (!(maxChunks >= 1) || this.pending === 0) return undefined;
    const early = this.handOutEarly(maxChunks, fresh, isDataHeld);
    if (early !== undefined || fresh < this.layout.chunkCount) return early;
    return this.handOutPass(maxChunks);
  }

  private handOutEarly(
    maxChunks: number,
    fresh: number,
    isDataHeld: boolean,
  ): ChunkRange | undefined {
    const { layout } = this;
    for (; this.earlyBlock < layout.blockCount; this.earlyBlock++) {
      const block = this.earlyBlock;
      const goal = Math.min(this.early[block] as number, this.wanted[block] as number);
      if ((this.sent[block] as number) >= goal) continue;
      const dueAt = layout.dataEnd(isDataHeld ? block : block + layout.interleave);
      if (dueAt > fresh) return undefined;
      return this.take(block, goal, maxChunks);
    }
    return undefined;
  }

  private handOutPass(maxChunks: number): ChunkRange | undefined {
    for (;;) {
      for (; this.cursor < this.blocks.length; this.cursor++) {
        const block = this.blocks[this.cursor] as number;
        const range = this.take(block, this.goalOf(block), maxChunks);
        if (range !== undefined) return range;
      }
      if (this.pass + 1 < PASSES) this.pass++;
      else if (this.isStale) this.isStale = false;
      else return undefined;
      this.cursor = 0;
    }
  }

  /** Rows of the block that are to have gone out when this pass is over. */
  private goalOf(block: number): number {
    const early = this.early[block] as number;
    const wanted = this.wanted[block] as number;
    if (wanted <= early) return wanted;
    return early + Math.ceil(((wanted - early) * (this.pass + 1)) / PASSES);
  }

  private take(block: number, goal: number, maxChunks: number): ChunkRange | undefined {
    const from = this.sent[block] as number;
    const room = Math.min(goal, this.encoded[block] as number) - from;
    const count = Math.min(Math.floor(maxChunks), room);
    if (count <= 0) return undefined;
    const first = block * this.layout.code.m + from;
    (this.outOf[block] as number) += count;
    this.sent[block] = from + count;
    this.out += count;
    this.handedOut += count;
    this.pending -= count;
    return { first, count, parity: true };
  }

  /** More rows of a block than were handed out are ignored. */
  injected(first: number, count: number): void {
    const block = Math.floor(first / this.layout.code.m);
    const known = Math.min(count, this.outOf[block] ?? 0);
    if (!(known > 0)) return;
    (this.outOf[block] as number) -= known;
    this.out -= known;
  }
}
